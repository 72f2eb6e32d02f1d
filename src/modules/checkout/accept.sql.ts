import { sql, type Tx } from '../../platform/db.ts';
import type { Owner } from './lease.sql.ts';

export type ProductFacts = {
  id: string;
  price_cents: number;
  max_per_order: number | null;
  on_sale: boolean;
};

/** An order as it is written at acceptance, with `lines` in the order of its basket. */
export type NewOrder = Readonly<{
  id: string;
  number: string;
  basketId: string;
  currency: string;
  total: number;
  holdSeconds: number;
  owner: Owner | null;
  email: string;
  /** JSON. */
  address: string;
  paymentToken: string;
  lines: readonly NewOrderLine[];
}>;

type NewOrderLine = Readonly<{
  orderId: string;
  /** From 1, in the order of the basket. */
  place: number;
  productId: string;
  basketPosition: number;
  quantity: number;
  unitPrice: number;
}>;

/*
 * What the writes take, in microseconds an order (pg_stat_statements, batches of about 300, PostgreSQL 18 on 2 cores; 3 to 5
 * more in all where each execution is planned), and what they took with foreign keys to baskets, orders and products:
 * orders 11 (20), lines 4 (18), states 6 (15), contacts 4 (12). One transaction for each order instead of one for each batch:
 * 1,200 in all, most of it for its round trips and its flush.
 */

const selectProducts = sql(
  'accept.products',
  `SELECT id, price_cents, max_per_order, archived_at IS NULL AS on_sale
     FROM products WHERE id = ANY ($1::uuid[])`,
);

const drawNumbers = sql(
  'accept.draw_numbers',
  `SELECT nextval('order_numbers') AS sequence FROM generate_series(1, $1)`,
);

const insertOrders = sql(
  'accept.insert_orders',
  `INSERT INTO orders (id, number, basket_id, currency, items_total, total)
   SELECT o.id, o.number, o.basket_id, o.currency, o.total, o.total
     FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::text[], $5::bigint[]) AS o (id, number, basket_id, currency, total)`,
);

const insertStates = sql(
  'accept.insert_states',
  `INSERT INTO order_states (order_id, worker_id, worker_epoch, payment_token, hold_until)
   SELECT s.order_id, s.worker_id, s.worker_epoch, s.payment_token,
          clock_timestamp() + s.hold_seconds * interval '1 second'
     FROM unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::text[], $5::integer[])
            AS s (order_id, worker_id, worker_epoch, payment_token, hold_seconds)`,
);

const insertContacts = sql(
  'accept.insert_contacts',
  `INSERT INTO order_contacts (order_id, email, address)
   SELECT * FROM unnest($1::uuid[], $2::text[], $3::jsonb[])`,
);

/** Name and description come from the product itself: they need not travel out and in again. */
const insertLines = sql(
  'accept.insert_lines',
  `INSERT INTO order_lines (order_id, position, product_id, basket_position, quantity, unit_price, name, description)
   SELECT l.order_id, l.place, l.product_id, l.basket_position, l.quantity, l.unit_price, p.name, p.description
     FROM unnest($1::uuid[], $2::integer[], $3::uuid[], $4::bigint[], $5::integer[], $6::bigint[])
            AS l (order_id, place, product_id, basket_position, quantity, unit_price)
     JOIN products p ON p.id = l.product_id`,
);

/** The stream of an order that has ended since stood one before its event. */
const selectAccepted = sql(
  'accept.accepted',
  `SELECT o.id, o.basket_id, o.total, o.currency, coalesce(e.stream_offset - 1, b.last_event_offset) AS event_offset
     FROM orders o
     JOIN baskets b ON b.id = o.basket_id
     LEFT JOIN events e ON e.order_id = o.id AND e.kind <> 'refunded'
    WHERE o.id = ANY ($1::uuid[])`,
);

/** An order as it was accepted. `event_offset`: where its basket's stream ended then. */
export type AcceptedRow = { id: string; basket_id: string; total: number; currency: string; event_offset: number };

/** Those of the orders that exist. */
export function readAcceptedOrders(tx: Tx, ids: readonly string[]): Promise<AcceptedRow[]> {
  return tx.query(selectAccepted, [ids]);
}

/** What the products are and cost now. Read after their stock is locked, so that no import is in between. */
export async function readProducts(tx: Tx, productIds: readonly string[]): Promise<Map<string, ProductFacts>> {
  const rows = await tx.query<ProductFacts>(selectProducts, [productIds]);
  return new Map(rows.map((row) => [row.id, row]));
}

/** The next `count` values of the sequence behind order numbers. Gaps are harmless. */
export async function drawOrderSequences(tx: Tx, count: number): Promise<number[]> {
  const rows = await tx.query<{ sequence: number }>(drawNumbers, [count]);
  return rows.map((row) => row.sequence);
}

/** Writes accepted orders and all that belongs to them, with COMMIT. */
export function deferOrders(tx: Tx, orders: readonly NewOrder[]): void {
  const ids = orders.map((order) => order.id);
  const lines = orders.flatMap((order) => order.lines);
  tx.defer(insertOrders, [
    ids,
    orders.map((order) => order.number),
    orders.map((order) => order.basketId),
    orders.map((order) => order.currency),
    orders.map((order) => order.total),
  ]);
  tx.defer(insertStates, [
    ids,
    orders.map((order) => order.owner?.workerId ?? null),
    orders.map((order) => order.owner?.epoch ?? null),
    orders.map((order) => order.paymentToken),
    orders.map((order) => order.holdSeconds),
  ]);
  tx.defer(insertContacts, [ids, orders.map((order) => order.email), orders.map((order) => order.address)]);
  tx.defer(insertLines, [
    lines.map((line) => line.orderId),
    lines.map((line) => line.place),
    lines.map((line) => line.productId),
    lines.map((line) => line.basketPosition),
    lines.map((line) => line.quantity),
    lines.map((line) => line.unitPrice),
  ]);
}
