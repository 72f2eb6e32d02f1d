import type { Departure } from '../../platform/coalescer.ts';
import type { Reader } from '../../platform/db.ts';
import { newId } from '../../shared/ids.ts';
import { accepted, type Result, Unavailable } from '../../shared/refusal.ts';
import type { RequestKey } from '../idempotency/idempotency.service.ts';
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

/** How a checkout came: under which key, if any, and whether whoever sent it has gone away since. */
export type Sender = Readonly<{ key?: RequestKey | null; departure?: Departure }>;

/**
 * Accepts a checkout: from then on the order goes its way by itself. A checkout of the same basket with the same key is
 * accepted once, and answered alike; one whose sender has gone away before its turn came is not accepted.
 */
export async function startCheckout(
  desk: CheckoutDesk,
  checkout: Checkout,
  { key = null, departure }: Sender = {},
): Promise<Result<AcceptedOrder>> {
  const { token } = checkout;
  if (token === null) return refuseWithoutBasket(checkout);
  const planned = { id: newId(), owner: desk.worker?.owner() ?? null, token, checkout, key };
  const result = await desk.reserve(planned, departure);
  if (result.ok && !result.value.isReplay) desk.worker?.handOver(result.value);
  return result;
}

/** A checkout that was waited for; `outcome` is null when there was none in time. */
export type WaitedCheckout = Readonly<{ orderId: string; isReplay: boolean; outcome: OrderStatus | null }>;

/**
 * Accepts a checkout and waits up to 25 s for its end, also when it was accepted before under the same key. Throws
 * {@link Unavailable} before anything is taken when too many are waiting already.
 */
export async function checkoutAndWait(
  desk: CheckoutDesk,
  checkout: Checkout,
  sender: Sender,
): Promise<Result<WaitedCheckout>> {
  if (desk.waiting >= mostWaiting) throw new Unavailable('Too many checkouts are waiting for their outcome');
  desk.waiting++;
  try {
    const result = await startCheckout(desk, checkout, sender);
    if (!result.ok) return result;
    const { orderId, isReplay } = result.value;
    return accepted({ orderId, isReplay, outcome: await outcomeOf(desk, result.value) });
  } finally {
    desk.waiting--;
  }
}

async function outcomeOf(desk: CheckoutDesk, order: AcceptedOrder): Promise<OrderStatus | null> {
  // Of one that ended long ago nobody tells any more.
  const before = order.isReplay ? await readOutcome(desk, order.orderId) : null;
  if (before && (before.order || before.error)) return before;
  const hasEnded = await waitForOutcome(desk.notifications, order, outcomeDeadlineMs);
  return hasEnded ? readOutcome(desk, order.orderId) : null;
}

/** The order is accepted: a fault in reading it must not look like a refusal, it only leaves the outcome unknown. */
function readOutcome(desk: CheckoutDesk, orderId: string): Promise<OrderStatus | null> {
  return getOrder(desk.reader, orderId).catch((error: Error) => {
    desk.onError(error);
    return null;
  });
}
