import { sql, type Tx } from '../../platform/db.ts';
import type { Owner } from './lease.sql.ts';

export type ProductFacts = {
  id: string;
  name: string;
  description: string;
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
  address: string;
  paymentToken: string;
  lines: readonly NewOrderLine[];
}>;

export type NewOrderLine = Readonly<{
  productId: string;
  basketPosition: number;
  quantity: number;
  unitPrice: number;
  name: string;
  description: string;
}>;

const selectProducts = sql(
  'accept.products',
  `SELECT id, name, description, price_cents, max_per_order, archived_at IS NULL AS on_sale
     FROM products WHERE id = ANY ($1::uuid[])`,
);

const drawNumber = sql('accept.draw_number', `SELECT nextval('order_numbers') AS sequence`);

const insertOrder = sql(
  'accept.insert_order',
  `INSERT INTO orders (id, number, basket_id, currency, items_total, total) VALUES ($1, $2, $3, $4, $5, $5)`,
);

const insertState = sql(
  'accept.insert_state',
  `INSERT INTO order_states (order_id, worker_id, worker_epoch, hold_until)
   VALUES ($1, $2, $3, clock_timestamp() + $4::integer * interval '1 second')`,
);

const insertContact = sql(
  'accept.insert_contact',
  `INSERT INTO order_contacts (order_id, email, address, payment_token) VALUES ($1, $2, $3, $4)`,
);

const insertLines = sql(
  'accept.insert_lines',
  `INSERT INTO order_lines (order_id, position, product_id, basket_position, quantity, unit_price, name, description)
   SELECT $1, row_number() OVER (), line.*
     FROM unnest($2::uuid[], $3::bigint[], $4::integer[], $5::bigint[], $6::text[], $7::text[]) AS line`,
);

/** What the products are and cost now. Read after their stock is locked, so that no import is in between. */
export async function readProducts(tx: Tx, productIds: readonly string[]): Promise<Map<string, ProductFacts>> {
  const rows = await tx.query<ProductFacts>(selectProducts, [productIds]);
  return new Map(rows.map((row) => [row.id, row]));
}

/** The next value of the sequence behind order numbers. Gaps are harmless. */
export async function drawOrderSequence(tx: Tx): Promise<number> {
  const [row] = await tx.query<{ sequence: number }>(drawNumber);
  if (!row) throw new Error('The sequence order_numbers gave no value');
  return row.sequence;
}

/** Writes an accepted order and all that belongs to it, with COMMIT. */
export function deferOrder(tx: Tx, order: NewOrder): void {
  const { lines } = order;
  tx.defer(insertOrder, [order.id, order.number, order.basketId, order.currency, order.total]);
  tx.defer(insertState, [order.id, order.owner?.workerId ?? null, order.owner?.epoch ?? null, order.holdSeconds]);
  tx.defer(insertContact, [order.id, order.email, order.address, order.paymentToken]);
  tx.defer(insertLines, [
    order.id,
    lines.map((line) => line.productId),
    lines.map((line) => line.basketPosition),
    lines.map((line) => line.quantity),
    lines.map((line) => line.unitPrice),
    lines.map((line) => line.name),
    lines.map((line) => line.description),
  ]);
}
