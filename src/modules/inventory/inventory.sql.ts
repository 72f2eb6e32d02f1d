import { sql, type Tx } from '../../platform/db.ts';

/**
 * ORDER BY comes before the locking, so rows are locked in the order of their ids, whoever asks. Of a hot product it is one
 * row, however many orders of a batch sell it: updating it takes less than a microsecond an order.
 */
const lockRows = sql(
  'inventory.lock',
  `SELECT product_id, sellable FROM stock WHERE product_id = ANY ($1::uuid[]) ORDER BY product_id FOR NO KEY UPDATE`,
);

/** Rows that nobody holds are locked, the others passed over. */
const lockFreeRows = sql(
  'inventory.lock_free',
  'SELECT product_id FROM stock WHERE product_id = ANY ($1::uuid[]) FOR NO KEY UPDATE SKIP LOCKED',
);

const changeSellable = sql(
  'inventory.change',
  `UPDATE stock SET sellable = sellable + change.delta
     FROM unnest($1::uuid[], $2::integer[]) AS change (product_id, delta)
    WHERE stock.product_id = change.product_id`,
);

const takeWhereCovered = sql(
  'inventory.take_where_covered',
  `UPDATE stock SET sellable = sellable - wanted.quantity
     FROM unnest($1::uuid[], $2::integer[]) AS wanted (product_id, quantity)
    WHERE stock.product_id = wanted.product_id AND stock.sellable >= wanted.quantity
   RETURNING stock.product_id`,
);

const insertMovements = sql(
  'inventory.insert_movements',
  `INSERT INTO stock_movements (product_id, delta, kind, who, why)
   SELECT * FROM unnest($1::uuid[], $2::integer[], $3::text[], $4::text[], $5::text[])`,
);

/** Locks the stock rows of `productIds` in the global order and returns what is sellable of each, by id. */
export async function lockStockRows(tx: Tx, productIds: readonly string[]): Promise<Map<string, number>> {
  const rows = await tx.query<{ product_id: string; sellable: number }>(lockRows, [productIds]);
  return new Map(rows.map((row) => [row.product_id, row.sellable]));
}

/** Locks those of the stock rows that nobody holds, and returns their products. */
export async function lockFreeStockRows(tx: Tx, productIds: readonly string[]): Promise<string[]> {
  const rows = await tx.query<{ product_id: string }>(lockFreeRows, [productIds]);
  return rows.map((row) => row.product_id);
}

/** Adds each delta to the sellable stock of its product, with COMMIT. The rows must be locked. */
export function deferStockChange(tx: Tx, productIds: readonly string[], deltas: readonly number[]): void {
  tx.defer(changeSellable, [productIds, deltas]);
}

/** Takes each quantity where there is as much, at once, and returns the products of which it was taken. */
export async function takeCovered(
  tx: Tx,
  productIds: readonly string[],
  quantities: readonly number[],
): Promise<string[]> {
  const rows = await tx.query<{ product_id: string }>(takeWhereCovered, [productIds, quantities]);
  return rows.map((row) => row.product_id);
}

/** A change of stock that is neither a sale nor a sale's return to the shelf. */
export type Movement = Readonly<{
  productId: string;
  delta: number;
  kind: 'received' | 'adjusted' | 'returned';
  who: string;
  why: string;
}>;

/** With COMMIT: these movements are on record. */
export function deferMovements(tx: Tx, movements: readonly Movement[]): void {
  tx.defer(insertMovements, [
    movements.map((movement) => movement.productId),
    movements.map((movement) => movement.delta),
    movements.map((movement) => movement.kind),
    movements.map((movement) => movement.who),
    movements.map((movement) => movement.why),
  ]);
}
