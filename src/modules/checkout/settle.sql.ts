import { type Reader, sql, type Tx } from '../../platform/db.ts';
import type { ErrorCode, OrderState } from '../orders/orders.service.ts';
import type { Owner } from './lease.sql.ts';

export type StateRow = { state: OrderState; worker_id: string | null; worker_epoch: number | null; attempt: number };
export type HeldLine = { product_id: string; quantity: number; basket_position: number };

/** What a worker needs to know of an order that it has not been handed in memory. */
export type WorkRow = {
  order_id: string;
  basket_id: string;
  total: number;
  currency: string;
  attempt: number;
  payment_token: string | null;
};

const lockState = sql(
  'settle.lock_state',
  'SELECT state, worker_id, worker_epoch, attempt FROM order_states WHERE order_id = $1 FOR NO KEY UPDATE',
);

const selectHeldLines = sql(
  'settle.held_lines',
  'SELECT product_id, quantity, basket_position FROM order_lines WHERE order_id = $1 ORDER BY position',
);

const complete = sql(
  'settle.complete',
  `UPDATE order_states SET state = 'completed', ended_at = clock_timestamp() WHERE order_id = $1`,
);

const fail = sql(
  'settle.fail',
  `UPDATE order_states SET state = 'failed', error_code = $2, error_message = $3, ended_at = clock_timestamp()
    WHERE order_id = $1`,
);

const insertAttempt = sql(
  'settle.insert_attempt',
  `INSERT INTO payment_attempts (order_id, attempt, state, amount, reference) VALUES ($1, $2, $3, $4, $5)`,
);

const forgetPaymentToken = sql(
  'settle.forget_payment_token',
  'UPDATE order_contacts SET payment_token = NULL WHERE order_id = $1',
);

const selectWork = sql(
  'settle.work',
  `SELECT o.id AS order_id, o.basket_id, o.total, o.currency, s.attempt, c.payment_token
     FROM order_states s
     JOIN orders o ON o.id = s.order_id
     JOIN order_contacts c ON c.order_id = s.order_id
    WHERE s.order_id = $1 AND s.ended_at IS NULL AND s.worker_id = $2 AND s.worker_epoch = $3`,
);

/** Locks what changes of an order. Second in the global lock order, after its basket. */
export async function lockOrder(tx: Tx, orderId: string): Promise<StateRow | undefined> {
  const [row] = await tx.query<StateRow>(lockState, [orderId]);
  return row;
}

/** What an order that is not over yet holds. */
export function readHeldLines(tx: Tx, orderId: string): Promise<HeldLine[]> {
  return tx.query(selectHeldLines, [orderId]);
}

/** With COMMIT: the order is completed, and paid with this attempt. `amount` in minor units. */
export function deferCompletion(
  tx: Tx,
  orderId: string,
  paid: { attempt: number; amount: number; reference: string },
): void {
  tx.defer(complete, [orderId]);
  tx.defer(insertAttempt, [orderId, paid.attempt, 'captured', paid.amount, paid.reference]);
  tx.defer(forgetPaymentToken, [orderId]);
}

/** With COMMIT: the order has failed; the attempt to pay it was declined. `amount` in minor units. */
export function deferFailure(
  tx: Tx,
  orderId: string,
  why: { attempt: number; amount: number; code: ErrorCode; message: string },
): void {
  tx.defer(fail, [orderId, why.code, why.message]);
  tx.defer(insertAttempt, [orderId, why.attempt, 'declined', why.amount, null]);
  tx.defer(forgetPaymentToken, [orderId]);
}

/** The order's work, if it is still open and `owner`'s. */
export async function findWork(reader: Reader, orderId: string, owner: Owner): Promise<WorkRow | undefined> {
  const [row] = await reader.query<WorkRow>(selectWork, [orderId, owner.workerId, owner.epoch]);
  return row;
}
