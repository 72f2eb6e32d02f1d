import type { Database, Tx } from '../../platform/db.ts';
import { advanceStreams, lockBasketsOfOrders } from '../basket/basket.service.ts';
import { bookReturned, lockStock, returnStock } from '../inventory/inventory.service.ts';
import {
  announce,
  type Notifications,
  type OutcomeEvent,
  recordEvents,
} from '../notifications/notifications.service.ts';
import type { OrderState } from '../orders/orders.service.ts';
import { GatewayUnanswered, type PaymentGateway, paymentKey } from '../payments/payments.service.ts';
import {
  deferIntent,
  deferRefund,
  findRefundDue,
  lockOrderState,
  type RefundDue,
  readRefundsDue,
  readWish,
  recordRefundRefused,
} from './cancel.sql.ts';
import { isToBeTold } from './failures.ts';
import type { Owner } from './lease.sql.ts';
import { takeLease } from './lease.ts';
import { endPayment } from './pay.ts';
import { readHeldLines } from './settle.sql.ts';
import { settleOrders } from './settle.ts';
import { readWork } from './work.ts';

export type RefundDesk = Readonly<{
  database: Database;
  gateway: PaymentGateway;
  /** Where refunds are told of in this process, if anybody listens here. */
  notifications: Notifications | null;
}>;

/** What an operator's cancellation came to. `over`: the order had ended before, in that state. */
export type CancelResult =
  | Readonly<{ result: 'not_found' | 'cancelled' | 'refunded' | 'unanswered' }>
  | Readonly<{ result: 'over'; state: OrderState }>
  | Readonly<{ result: 'refused'; message: string }>;

/** What came of one refund; `message` is the gateway's. */
type RefundResult =
  | Readonly<{ orderId: string; result: 'refunded' | 'unanswered' }>
  | Readonly<{ orderId: string; result: 'refused'; message: string }>;

const refundsAtOnce = 50;

/**
 * Puts on record that an order is to be cancelled, before anybody is asked for it, and returns the state that it was in;
 * undefined when there is no such order. An open order belongs to `owner` from then on: what its worker still does of it
 * changes nothing. Nothing is recorded of one that failed, or is cancelled or refunded already.
 */
function requestCancellation(
  database: Database,
  orderId: string,
  intent: Readonly<{ restock: boolean; by: string; owner: Owner }>,
): Promise<OrderState | undefined> {
  return database.transaction(async (tx) => {
    const state = await lockOrderState(tx, orderId);
    if (state && !isOverFor(state)) deferIntent(tx, orderId, intent);
    return state;
  });
}

/**
 * Undoes an order, through the gateway only: one that is not paid is cancelled, one that is has its money given back. Where
 * the gateway does not answer, the wish stays on record, and a worker goes on.
 */
export async function cancelOrder(
  desk: RefundDesk,
  orderId: string,
  wish: Readonly<{ restock: boolean; by: string }>,
  onError: (error: Error) => void,
): Promise<CancelResult> {
  const lease = await takeLease(desk.database, onError);
  try {
    const owner = lease.owner();
    if (!owner) throw new Error('The lease was lost before anything was done; try again');
    const state = await requestCancellation(desk.database, orderId, { ...wish, owner });
    if (!state) return { result: 'not_found' };
    if (isOverFor(state)) return { result: 'over', state };
    if (state !== 'completed' && (await endAs(desk, orderId, owner)) === 'not_captured') return { result: 'cancelled' };
    const due = await findRefundDue(desk.database, orderId);
    return due ? await refundOne(desk, due) : { result: 'unanswered' };
  } catch (error) {
    if (error instanceof GatewayUnanswered) return { result: 'unanswered' };
    throw error;
  } finally {
    // It runs out by itself: no reason to keep back what was done, or why it was not.
    await lease.release().catch(onError);
  }
}

/** A capture that came before the cancellation stands: then the order is completed, and refunded after. */
async function endAs(desk: RefundDesk, orderId: string, owner: Owner): Promise<'captured' | 'not_captured'> {
  const work = await readWork(desk.database, orderId, owner);
  if (!work) throw new Error(`Order ${orderId} was taken over by somebody else; look at it again`);
  const outcome = await endPayment(desk.gateway, work, () => undefined);
  const [event] = await desk.database.transaction((tx) => settleOrders(tx, [{ owner, work, outcome }]));
  if (event && desk.notifications) announce(desk.notifications, event);
  return outcome.captured ? 'captured' : 'not_captured';
}

function isOverFor(state: OrderState): boolean {
  return state === 'failed' || state === 'cancelled' || state === 'refunded';
}

/**
 * Opens the rounds in which the money of completed orders that are to be cancelled is given back, some at once: those
 * first that were not asked for yet, then those that were asked for the longest time ago, so that what fails again and
 * again holds up nobody else. Whoever repeats a refund gets the gateway's first answer again; what is not answered is still
 * due. A round rejects only where it cannot learn what is due.
 */
export function openRefunds(desk: RefundDesk, onError: (error: Error) => void): () => Promise<void> {
  /** By order, in the order of the last tries. */
  const triesOf = new Map<string, number>();
  const refundNext = async (due: RefundDue): Promise<void> => {
    const { order_id: orderId } = due;
    const tries = (triesOf.get(orderId) ?? 0) + 1;
    triesOf.delete(orderId);
    triesOf.set(orderId, tries);
    try {
      const { result } = await refundOne(desk, due);
      if (result !== 'unanswered') triesOf.delete(orderId);
    } catch (cause) {
      const reason = (cause as Error).message;
      if (isToBeTold(tries)) onError(new Error(`Order ${orderId} could not be refunded: ${reason}`, { cause }));
    }
  };
  return async () => {
    const due = await readRefundsDue(desk.database, [...triesOf.keys()], refundsAtOnce);
    // Fewer are all there are: of the others somebody else has taken care.
    if (due.length < refundsAtOnce) keepOnly(triesOf, new Set(due.map((refund) => refund.order_id)));
    await Promise.all(due.map(refundNext));
  };
}

function keepOnly(triesOf: Map<string, number>, orderIds: ReadonlySet<string>): void {
  for (const orderId of triesOf.keys()) if (!orderIds.has(orderId)) triesOf.delete(orderId);
}

async function refundOne(desk: RefundDesk, due: RefundDue): Promise<RefundResult> {
  const { order_id: orderId, attempt, total: amount, currency } = due;
  const key = paymentKey(orderId, attempt, 'refund');
  const authorizationKey = paymentKey(orderId, attempt, 'authorize');
  try {
    const answer = await desk.gateway.refund({ key, authorizationKey, amount, currency });
    if (answer.outcome === 'refused') {
      await recordRefundRefused(desk.database, orderId, answer.message);
      return { orderId, result: 'refused', message: answer.message };
    }
  } catch (error) {
    if (error instanceof GatewayUnanswered) return { orderId, result: 'unanswered' };
    throw error;
  }
  const event = await desk.database.transaction((tx) => recordRefund(tx, due));
  if (event && desk.notifications) announce(desk.notifications, event);
  return { orderId, result: 'refunded' };
}

/** Null when somebody else has recorded it in the meantime. */
async function recordRefund(tx: Tx, due: RefundDue): Promise<OutcomeEvent | null> {
  const [basket] = await lockBasketsOfOrders(tx, [due.basket_id]);
  const state = await lockOrderState(tx, due.order_id);
  if (state !== 'completed' || !basket) return null;
  const wish = await readWish(tx, due.order_id);
  if (wish?.restock) await takeBack(tx, due.order_id, wish.requested_by);
  const about = { basketId: basket.id, offset: basket.eventOffset + 1, orderId: due.order_id };
  const [event] = recordEvents(tx, [{ ...about, kind: 'refunded' }]);
  advanceStreams(tx, [about]);
  deferRefund(tx, due);
  return event ?? null;
}

async function takeBack(tx: Tx, orderId: string, requestedBy: string): Promise<void> {
  const lines = await readHeldLines(tx, [orderId]);
  const units = lines.map((line) => ({ productId: line.product_id, quantity: line.quantity }));
  await lockStock(
    tx,
    units.map((unit) => unit.productId),
  );
  returnStock(tx, units);
  bookReturned(tx, units, { who: requestedBy, why: `Order ${orderId} was cancelled` });
}
