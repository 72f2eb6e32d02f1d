import type { Database } from '../../platform/db.ts';
import type { OrderState } from '../orders/orders.service.ts';
import { GatewayUnanswered, type PaymentGateway, paymentKey } from '../payments/payments.service.ts';
import { authorizationOf } from './pay.ts';
import { beginAttempt, findParked, type ParkedRow, unpark } from './retry.sql.ts';

/** What an operator's retry came to. `over` and `not_parked`: the order was in that state, and nothing was changed. */
export type RetryResult =
  | Readonly<{ result: 'not_found' | 'unanswered' | 'changed' }>
  | Readonly<{ result: 'over' | 'not_parked'; state: OrderState }>
  | Readonly<{ result: 'retried'; attempt: number; isNewAttempt: boolean }>;

/**
 * Lets the workers try a parked order again, with its whole hold before it. Its payment begins anew under a new key, but
 * only once the gateway has closed the old one: what was captured under that one stands. Where the gateway does not
 * answer, the order stays parked.
 */
export async function retryOrder(
  desk: Readonly<{ database: Database; gateway: PaymentGateway; holdSeconds: number }>,
  orderId: string,
): Promise<RetryResult> {
  const parked = await findParked(desk.database, orderId);
  if (!parked) return { result: 'not_found' };
  const { state } = parked;
  if (parked.ended_at !== null) return { result: 'over', state };
  if (parked.parked_at === null) return { result: 'not_parked', state };
  try {
    const isNewAttempt = await closeAttempt(desk.gateway, parked);
    const release = isNewAttempt ? beginAttempt : unpark;
    const attempt = await desk.database.transaction((tx) => release(tx, parked, desk.holdSeconds));
    return attempt === null ? { result: 'changed' } : { result: 'retried', attempt, isNewAttempt };
  } catch (error) {
    if (error instanceof GatewayUnanswered) return { result: 'unanswered' };
    throw error;
  }
}

/** False when the money was taken before: then there is nothing to begin anew. */
async function closeAttempt(gateway: PaymentGateway, parked: ParkedRow): Promise<boolean> {
  const { order_id: orderId, attempt, payment_token: paymentToken, total, currency } = parked;
  if (paymentToken === null) throw new Error(`Order ${orderId} has no payment token to be paid with; cancel it`);
  const authorization = authorizationOf({ orderId, attempt, paymentToken, total, currency });
  const answer = await gateway.void({ key: paymentKey(orderId, attempt, 'void'), authorization });
  return answer.outcome === 'closed';
}
