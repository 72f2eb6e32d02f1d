import type { Reader } from '../../platform/db.ts';
import { newId } from '../../shared/ids.ts';
import { type Result, Unavailable } from '../../shared/refusal.ts';
import { type Notifications, waitForOutcome } from '../notifications/notifications.service.ts';
import { getOrder, type OrderStatus } from '../orders/orders.service.ts';
import { type AcceptedOrder, type Checkout, refuseWithoutBasket } from './accept.ts';
import type { OrderWorker } from './order-worker.ts';
import type { Reserve } from './reservation.ts';

export type { Checkout } from './accept.ts';

/** Where accepted orders are handed over to the worker of the same process. */
export type OrderDesk = Pick<OrderWorker, 'owner' | 'handOver'>;

export type CheckoutDesk = {
  readonly reader: Reader;
  readonly notifications: Notifications;
  readonly reserve: Reserve;
  /** The worker of this process, if it has one. */
  readonly worker: OrderDesk | null;
  readonly onError: (error: Error) => void;
  /** Requests that wait for the end of their order now. */
  waiting: number;
};

/** Requests that may wait for an outcome at the same time; each costs a socket and a timer, no connection. */
const mostWaiting = 10_000;
const outcomeDeadlineMs = 25_000;

/** Accepts a checkout: from then on the order goes its way by itself. */
export async function startCheckout(desk: CheckoutDesk, checkout: Checkout): Promise<Result<AcceptedOrder>> {
  const { token } = checkout;
  if (token === null) return refuseWithoutBasket(checkout);
  const result = await desk.reserve({ id: newId(), owner: desk.worker?.owner() ?? null, token, checkout });
  if (result.ok) desk.worker?.handOver(result.value);
  return result;
}

/**
 * Accepts a checkout and waits up to 25 s for its end; `outcome` is null when it has not ended by then. Throws
 * {@link Unavailable} before anything is taken when too many are waiting already.
 */
export async function checkoutAndWait(
  desk: CheckoutDesk,
  checkout: Checkout,
): Promise<Result<{ orderId: string; outcome: OrderStatus | null }>> {
  if (desk.waiting >= mostWaiting) throw new Unavailable('Too many checkouts are waiting for their outcome');
  desk.waiting++;
  try {
    const result = await startCheckout(desk, checkout);
    if (!result.ok) return result;
    const { orderId } = result.value;
    const hasEnded = await waitForOutcome(desk.notifications, result.value, outcomeDeadlineMs);
    return { ok: true, value: { orderId, outcome: hasEnded ? await readOutcome(desk, orderId) : null } };
  } finally {
    desk.waiting--;
  }
}

/** The order is accepted: a fault in reading it must not look like a refusal, it only leaves the outcome unknown. */
function readOutcome(desk: CheckoutDesk, orderId: string): Promise<OrderStatus | null> {
  return getOrder(desk.reader, orderId).catch((error: Error) => {
    desk.onError(error);
    return null;
  });
}
