import { type Reader, sql, type Tx } from '../../platform/db.ts';
import type { OrderState } from '../orders/orders.service.ts';
import type { Owner } from './lease.sql.ts';

/** A completed order whose money is to be given back. */
export type RefundDue = {
  order_id: string;
  basket_id: string;
  total: number;
  currency: string;
  attempt: number;
};

const lockOrder = sql('cancel.lock_order', 'SELECT state FROM order_states WHERE order_id = $1 FOR NO KEY UPDATE');

/** Asked for again, a refund that the gateway refused is tried again. Goods come back in the name of who wanted them back. */
const insertIntent = sql(
  'cancel.insert_intent',
  `INSERT INTO cancellations AS c (order_id, restock, requested_by) VALUES ($1, $2, $3)
   ON CONFLICT (order_id) DO UPDATE
     SET requested_by = CASE WHEN c.restock THEN c.requested_by ELSE excluded.requested_by END,
         restock = c.restock OR excluded.restock, refused_message = NULL, ended_at = NULL`,
);

/** Parked or not: whoever goes on with it, should its new owner crash, must find it like any other order. */
const takeOver = sql(
  'cancel.take_over',
  `UPDATE order_states SET worker_id = $2, worker_epoch = $3, parked_at = NULL, parked_reason = NULL, takeovers = 0
    WHERE order_id = $1 AND ended_at IS NULL`,
);

const refundsDue = `
  SELECT o.id AS order_id, o.basket_id, o.total, o.currency, p.attempt
    FROM cancellations c
    JOIN orders o ON o.id = c.order_id
    JOIN order_states s ON s.order_id = c.order_id AND s.state = 'completed'
    JOIN payment_attempts p ON p.order_id = c.order_id AND p.state = 'captured'`;

const selectRefundsDue = sql(
  'cancel.refunds_due',
  `${refundsDue}
    LEFT JOIN unnest($1::uuid[]) WITH ORDINALITY AS tried (order_id, place) ON tried.order_id = c.order_id
   WHERE c.ended_at IS NULL
   ORDER BY tried.place NULLS FIRST, c.requested_at
   LIMIT $2`,
);

const selectRefundDue = sql('cancel.refund_due', `${refundsDue} WHERE c.ended_at IS NULL AND c.order_id = $1`);

const selectWish = sql('cancel.wish', 'SELECT restock, requested_by FROM cancellations WHERE order_id = $1');

const refundState = sql(
  'cancel.refund_state',
  `UPDATE order_states SET state = 'refunded', ended_at = clock_timestamp() WHERE order_id = $1`,
);

const refundAttempt = sql(
  'cancel.refund_attempt',
  `UPDATE payment_attempts SET state = 'refunded' WHERE order_id = $1 AND attempt = $2`,
);

const endIntent = sql(
  'cancel.end_intent',
  'UPDATE cancellations SET ended_at = clock_timestamp(), refused_message = $2 WHERE order_id = $1',
);

/** Locks what changes of an order and returns its state, or undefined when there is no such order. */
export async function lockOrderState(tx: Tx, orderId: string): Promise<OrderState | undefined> {
  const [row] = await tx.query<{ state: OrderState }>(lockOrder, [orderId]);
  return row?.state;
}

/** With COMMIT: it is on record that the order is to be cancelled, and what is open of it belongs to `owner`. */
export function deferIntent(
  tx: Tx,
  orderId: string,
  intent: Readonly<{ restock: boolean; by: string; owner: Owner }>,
): void {
  tx.defer(insertIntent, [orderId, intent.restock, intent.by]);
  tx.defer(takeOver, [orderId, intent.owner.workerId, intent.owner.epoch]);
}

/** Completed orders that are to be cancelled: the oldest wish first, but `tried` in their order behind all others. */
export function readRefundsDue(reader: Reader, tried: readonly string[], limit: number): Promise<RefundDue[]> {
  return reader.query(selectRefundsDue, [tried, limit]);
}

/** The order, if it is completed and to be cancelled. */
export async function findRefundDue(reader: Reader, orderId: string): Promise<RefundDue | undefined> {
  const [row] = await reader.query<RefundDue>(selectRefundDue, [orderId]);
  return row;
}

/** What is wished for an order that is to be cancelled. The order must be locked: the wish may have grown. */
export async function readWish(
  tx: Tx,
  orderId: string,
): Promise<{ restock: boolean; requested_by: string } | undefined> {
  const [row] = await tx.query<{ restock: boolean; requested_by: string }>(selectWish, [orderId]);
  return row;
}

/** With COMMIT: the order's money has been given back. */
export function deferRefund(tx: Tx, due: RefundDue): void {
  tx.defer(refundState, [due.order_id]);
  tx.defer(refundAttempt, [due.order_id, due.attempt]);
  tx.defer(endIntent, [due.order_id, null]);
}

/** The gateway gives nothing back: an operator has to see to it. */
export async function recordRefundRefused(db: Reader, orderId: string, message: string): Promise<void> {
  await db.query(endIntent, [orderId, message]);
}
