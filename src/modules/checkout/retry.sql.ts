import { type Reader, sql, type Tx } from '../../platform/db.ts';
import type { OrderState } from '../orders/orders.service.ts';
import { lockOrders } from './settle.sql.ts';

export type ParkedRow = {
  order_id: string;
  state: OrderState;
  ended_at: Date | null;
  parked_at: Date | null;
  attempt: number;
  total: number;
  currency: string;
  payment_token: string | null;
};

const selectParked = sql(
  'retry.parked',
  `SELECT s.order_id, s.state, s.ended_at, s.parked_at, s.attempt, o.total, o.currency, s.payment_token
     FROM order_states s
     JOIN orders o ON o.id = s.order_id
    WHERE s.order_id = $1`,
);

/** Whoever owned it by then finds it somebody else's. */
const releaseOrder = sql(
  'retry.release',
  `UPDATE order_states
      SET attempt = $3, parked_at = NULL, parked_reason = NULL, takeovers = 0, unanswered_since = NULL,
          worker_id = NULL, worker_epoch = NULL, hold_until = clock_timestamp() + $4::integer * interval '1 second'
    WHERE order_id = $1 AND attempt = $2 AND ended_at IS NULL AND parked_at IS NOT NULL
   RETURNING attempt`,
);

const recordVoided = sql(
  'retry.record_voided',
  `INSERT INTO payment_attempts (order_id, attempt, state, amount) VALUES ($1, $2, 'voided', $3)
   ON CONFLICT (order_id, attempt) DO UPDATE SET state = excluded.state`,
);

/** An order as far as retrying it is concerned. */
export async function findParked(reader: Reader, orderId: string): Promise<ParkedRow | undefined> {
  const [row] = await reader.query<ParkedRow>(selectParked, [orderId]);
  return row;
}

/** Frees a parked order to be paid under the keys of a further attempt; null where it has changed since it was read. */
export async function beginAttempt(tx: Tx, order: ParkedRow, holdSeconds: number): Promise<number | null> {
  const attempt = await release(tx, order, order.attempt + 1, holdSeconds);
  if (attempt !== null) tx.defer(recordVoided, [order.order_id, order.attempt, order.total]);
  return attempt;
}

/** Frees a parked order to go on under the keys that it has; null where it has changed since it was read. */
export function unpark(tx: Tx, order: ParkedRow, holdSeconds: number): Promise<number | null> {
  return release(tx, order, order.attempt, holdSeconds);
}

async function release(tx: Tx, order: ParkedRow, attempt: number, holdSeconds: number): Promise<number | null> {
  await lockOrders(tx, [order.order_id]);
  const rows = await tx.query(releaseOrder, [order.order_id, order.attempt, attempt, holdSeconds]);
  return rows.length > 0 ? attempt : null;
}
