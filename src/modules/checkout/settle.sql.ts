import { type Reader, sql, type Tx } from '../../platform/db.ts';
import type { ErrorCode, OrderState } from '../orders/orders.service.ts';
import type { Owner } from './lease.sql.ts';

export type StateRow = {
  order_id: string;
  state: OrderState;
  attempt: number;
  worker_id: string | null;
  worker_epoch: number | null;
};
export type HeldLine = { order_id: string; product_id: string; quantity: number; basket_position: number };

/** What a worker needs to know of an order that it has not been handed in memory. */
export type WorkRow = {
  order_id: string;
  basket_id: string;
  total: number;
  currency: string;
  attempt: number;
  payment_token: string | null;
  hold_is_over: boolean;
  to_be_cancelled: boolean;
  is_unanswered: boolean;
};

/*
 * What the writes take, in microseconds an order (as in accept.sql.ts): completion 10, attempts 9 (one more than without ON
 * CONFLICT), events 6 (25 with foreign keys to baskets and orders). To forget the payment tokens in a table of their own took
 * 9, in the row that is completed nothing.
 */

const lockStates = sql(
  'settle.lock_states',
  `SELECT order_id, state, attempt, worker_id, worker_epoch FROM order_states
    WHERE order_id = ANY ($1::uuid[]) ORDER BY order_id FOR NO KEY UPDATE`,
);

/** Orders that nobody holds are locked, the others passed over. */
const lockFreeStates = sql(
  'settle.lock_free_states',
  'SELECT order_id FROM order_states WHERE order_id = ANY ($1::uuid[]) FOR NO KEY UPDATE SKIP LOCKED',
);

const selectHeldLines = sql(
  'settle.held_lines',
  `SELECT order_id, product_id, quantity, basket_position FROM order_lines
    WHERE order_id = ANY ($1::uuid[]) ORDER BY order_id, position`,
);

const complete = sql(
  'settle.complete',
  `UPDATE order_states SET state = 'completed', ended_at = clock_timestamp(), payment_token = NULL, parked_at = NULL,
          parked_reason = NULL, unanswered_since = NULL
    WHERE order_id = ANY ($1::uuid[])`,
);

const fail = sql(
  'settle.fail',
  `UPDATE order_states s SET state = failed.state, error_code = failed.code, error_message = failed.message,
          ended_at = clock_timestamp(), payment_token = NULL, parked_at = NULL, parked_reason = NULL,
          unanswered_since = NULL
     FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[]) AS failed (order_id, state, code, message)
    WHERE s.order_id = failed.order_id`,
);

const endCancellations = sql(
  'settle.end_cancellations',
  'UPDATE cancellations SET ended_at = clock_timestamp() WHERE order_id = ANY ($1::uuid[]) AND ended_at IS NULL',
);

/** There is a row before where a step on the way was put on record. */
const insertAttempts = sql(
  'settle.insert_attempts',
  `INSERT INTO payment_attempts (order_id, attempt, state, amount, reference)
   SELECT * FROM unnest($1::uuid[], $2::integer[], $3::text[], $4::bigint[], $5::text[])
   ON CONFLICT (order_id, attempt) DO UPDATE SET state = excluded.state, reference = excluded.reference`,
);

const selectWork = sql(
  'settle.work',
  `SELECT o.id AS order_id, o.basket_id, o.total, o.currency, s.attempt, s.payment_token,
          s.hold_until < clock_timestamp() AS hold_is_over,
          EXISTS (SELECT FROM cancellations x WHERE x.order_id = o.id AND x.ended_at IS NULL) AS to_be_cancelled,
          s.unanswered_since IS NOT NULL AS is_unanswered
     FROM order_states s
     JOIN orders o ON o.id = s.order_id
    WHERE s.order_id = $1 AND s.ended_at IS NULL AND s.worker_id = $2 AND s.worker_epoch = $3`,
);

/** Locks what changes of orders, in the order of their ids. Second in the global lock order, after their baskets. */
export function lockOrders(tx: Tx, orderIds: readonly string[]): Promise<StateRow[]> {
  return tx.query(lockStates, [orderIds]);
}

/** Those of the orders that somebody else holds now; the others are locked. */
export async function findHeldOrders(tx: Tx, orderIds: readonly string[]): Promise<Set<string>> {
  const free = await tx.query<{ order_id: string }>(lockFreeStates, [orderIds]);
  return new Set(orderIds).difference(new Set(free.map((row) => row.order_id)));
}

/** What orders that are not over yet hold. */
export function readHeldLines(tx: Tx, orderIds: readonly string[]): Promise<HeldLine[]> {
  return tx.query(selectHeldLines, [orderIds]);
}

/** How an attempt to pay ended. `amount` in minor units. */
export type EndedAttempt = Readonly<{
  orderId: string;
  attempt: number;
  state: 'captured' | 'declined' | 'voided';
  amount: number;
  reference: string | null;
}>;

/** With COMMIT: these orders are completed, and their payment tokens forgotten. */
export function deferCompletion(tx: Tx, orderIds: readonly string[]): void {
  if (orderIds.length > 0) tx.defer(complete, [orderIds]);
}

/** How an order ended that was not sold. */
export type Failure = Readonly<{ orderId: string; state: 'failed' | 'cancelled'; code: ErrorCode; message: string }>;

/** With COMMIT: these orders have failed or are cancelled, each with its reason. */
export function deferFailure(tx: Tx, failures: readonly Failure[]): void {
  if (failures.length === 0) return;
  tx.defer(fail, [
    failures.map((failure) => failure.orderId),
    failures.map((failure) => failure.state),
    failures.map((failure) => failure.code),
    failures.map((failure) => failure.message),
  ]);
  tx.defer(endCancellations, [failures.map((failure) => failure.orderId)]);
}

/** With COMMIT: the payments of ended orders are on record. */
export function deferAttempts(tx: Tx, attempts: readonly EndedAttempt[]): void {
  const orderIds = attempts.map((attempt) => attempt.orderId);
  tx.defer(insertAttempts, [
    orderIds,
    attempts.map((attempt) => attempt.attempt),
    attempts.map((attempt) => attempt.state),
    attempts.map((attempt) => attempt.amount),
    attempts.map((attempt) => attempt.reference),
  ]);
}

/** The order's work, if it is still open and `owner`'s. */
export async function findWork(reader: Reader, orderId: string, owner: Owner): Promise<WorkRow | undefined> {
  const [row] = await reader.query<WorkRow>(selectWork, [orderId, owner.workerId, owner.epoch]);
  return row;
}
