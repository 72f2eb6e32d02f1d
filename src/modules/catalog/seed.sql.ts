import { type Reader, sql } from '../../platform/db.ts';

const lockTotals = sql('seed.lock', 'SELECT 1 AS locked FROM catalog_totals FOR NO KEY UPDATE SKIP LOCKED');
const selectEmpty = sql('seed.empty', 'SELECT NOT EXISTS (SELECT FROM products) AS empty');
const analyze = sql('seed.analyze', 'ANALYZE products, stock, stock_movements');

/**
 * Keeps every other seed, and whoever adds a product, out until the transaction ends, for all of them change the
 * totals. False when one of them is at work now.
 */
export async function lockCatalogForSeeding(tx: Reader): Promise<boolean> {
  return (await tx.query(lockTotals)).length > 0;
}

/** Whether there is no product, archived ones included. */
export async function catalogIsEmpty(tx: Reader): Promise<boolean> {
  const [row] = await tx.query<{ empty: boolean }>(selectEmpty);
  return row?.empty === true;
}

/** Tells the planner at once how large the tables have become. */
export async function analyzeCatalog(tx: Reader): Promise<void> {
  await tx.query(analyze);
}
