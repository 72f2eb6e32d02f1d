import { sql, type Tx } from '../../platform/db.ts';

/** ORDER BY comes before the locking, so rows are locked in the order of their ids, whoever asks. */
const lockRows = sql(
  'inventory.lock',
  `SELECT product_id, sellable FROM stock WHERE product_id = ANY ($1::uuid[]) ORDER BY product_id FOR NO KEY UPDATE`,
);

const changeSellable = sql(
  'inventory.change',
  `UPDATE stock SET sellable = sellable + change.delta
     FROM unnest($1::uuid[], $2::integer[]) AS change (product_id, delta)
    WHERE stock.product_id = change.product_id`,
);

/** Locks the stock rows of `productIds` in the global order and returns what is sellable of each, by id. */
export async function lockStockRows(tx: Tx, productIds: readonly string[]): Promise<Map<string, number>> {
  const rows = await tx.query<{ product_id: string; sellable: number }>(lockRows, [productIds]);
  return new Map(rows.map((row) => [row.product_id, row.sellable]));
}

/** Adds each delta to the sellable stock of its product, with COMMIT. The rows must be locked. */
export function deferStockChange(tx: Tx, productIds: readonly string[], deltas: readonly number[]): void {
  tx.defer(changeSellable, [productIds, deltas]);
}
