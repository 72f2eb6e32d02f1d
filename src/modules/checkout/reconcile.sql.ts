import { type Reader, sql } from '../../platform/db.ts';
import { highestId, lowestId } from '../../shared/ids.ts';
import type { OrderState } from '../orders/orders.service.ts';

/** What our books say of one attempt to pay; null where they say nothing. */
export type BookedAttempt = {
  order_id: string;
  attempt: number;
  order_state: OrderState | null;
  total: number | null;
  currency: string | null;
  payment_state: 'authorized' | 'captured' | 'declined' | 'voided' | 'refunded' | null;
};

export type PaidAttempt = { order_id: string; attempt: number };

const selectNow = sql('reconcile.now', 'SELECT clock_timestamp() AS now');

const selectAttempts = sql(
  'reconcile.attempts',
  `SELECT wanted.order_id, wanted.attempt, s.state AS order_state, o.total, o.currency, p.state AS payment_state
     FROM unnest($1::uuid[], $2::integer[]) AS wanted (order_id, attempt)
     LEFT JOIN orders o ON o.id = wanted.order_id
     LEFT JOIN order_states s ON s.order_id = wanted.order_id
     LEFT JOIN payment_attempts p ON p.order_id = wanted.order_id AND p.attempt = wanted.attempt`,
);

/** Orders by id, as the gateway's keys are, so that its pages and these go side by side: always bounds of the index. */
const selectPaid = sql(
  'reconcile.paid',
  `SELECT p.order_id, p.attempt FROM payment_attempts p
    WHERE p.state IN ('captured', 'refunded') AND p.created_at >= $1 AND p.created_at < $2
      AND p.order_id >= $3 AND p.order_id < $4 AND p.order_id > $5
    ORDER BY p.order_id LIMIT $6`,
);

const recordReturned = sql(
  'reconcile.record_returned',
  `INSERT INTO payment_attempts (order_id, attempt, state, amount, reference) VALUES ($1, $2, $3, $4, $5)
   ON CONFLICT (order_id, attempt) DO UPDATE SET state = excluded.state, reference = excluded.reference`,
);

/** What time it is for the database. */
export async function readNow(reader: Reader): Promise<Date> {
  const [row] = await reader.query<{ now: Date }>(selectNow);
  if (!row) throw new Error('The database did not say what time it is');
  return row.now;
}

/** Our books on those attempts, each with its order. */
export function readAttempts(
  reader: Reader,
  attempts: readonly Readonly<{ orderId: string; attempt: number }>[],
): Promise<BookedAttempt[]> {
  return reader.query(selectAttempts, [attempts.map(({ orderId }) => orderId), attempts.map(({ attempt }) => attempt)]);
}

/**
 * Attempts that our books say were paid at that time, of orders from `fromOrderId` on, up to before `untilOrderId`, in
 * pages by the order's id.
 */
export function readPaid(
  reader: Reader,
  page: Readonly<{
    since: Date;
    until: Date;
    fromOrderId: string;
    untilOrderId: string | null;
    afterOrderId: string | null;
    limit: number;
  }>,
): Promise<PaidAttempt[]> {
  const { since, until, fromOrderId, untilOrderId, afterOrderId, limit } = page;
  const period = [since.toISOString(), until.toISOString()];
  return reader.query(selectPaid, [...period, fromOrderId, untilOrderId ?? highestId, afterOrderId ?? lowestId, limit]);
}

/** Money of an order that was not sold has gone back: our books say so from now on. */
export async function recordMoneyReturned(
  db: Reader,
  returned: Readonly<{ orderId: string; attempt: number; state: 'voided' | 'refunded'; amount: number }>,
): Promise<void> {
  const { orderId, attempt, state, amount } = returned;
  await db.query(recordReturned, [orderId, attempt, state, amount, null]);
}
