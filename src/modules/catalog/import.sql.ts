import { type Reader, sql, type Tx } from '../../platform/db.ts';

/** A product in the catalogue, archived or not. `sellable` in units. */
export type StockedProduct = {
  id: string;
  sku: string;
  name: string;
  description: string;
  priceCents: number;
  maxPerOrder: number | null;
  sellable: number;
};

export type NewProduct = Readonly<{
  id: string;
  sku: string;
  name: string;
  description: string;
  priceCents: number;
  maxPerOrder: number | null;
  stock: number;
  why: string;
}>;

export type ProductDetails = Readonly<{
  id: string;
  name: string;
  description: string;
  priceCents: number;
  maxPerOrder: number | null;
}>;

/** Units that come in addition, or less, by an operator's word. */
export type StockAdjustment = Readonly<{ productId: string; delta: number; why: string }>;

/** Who it was, in the book of stock movements. */
const who = 'import';

const selectProducts = sql(
  'import.products',
  `SELECT p.id, p.sku, p.name, p.description, p.price_cents AS "priceCents", p.max_per_order AS "maxPerOrder",
          s.sellable
     FROM products p JOIN stock s ON s.product_id = p.id
    WHERE p.sku = ANY ($1::text[])`,
);

const lockStockRows = sql(
  'import.lock_stock',
  `SELECT FROM stock WHERE product_id = ANY ($1::uuid[]) ORDER BY product_id FOR NO KEY UPDATE`,
);

const lockProductRows = sql(
  'import.lock_products',
  `SELECT FROM products WHERE id = ANY ($1::uuid[]) ORDER BY id FOR NO KEY UPDATE`,
);

/** In the order of the SKUs, for each insert waits for whoever is inserting the same SKU at this moment. */
const insertMissing = sql(
  'import.insert',
  `WITH wanted AS (
     SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::integer[], $7::text[],
                          $8::integer[])
       AS wanted (id, sku, name, description, price_cents, stock, why, max_per_order)
   ), made AS (
     INSERT INTO products (id, sku, name, description, price_cents, max_per_order)
     SELECT id, sku, name, description, price_cents, max_per_order FROM wanted ORDER BY sku COLLATE "C"
     ON CONFLICT (sku) DO NOTHING
     RETURNING id, sku
   ), stocked AS (
     INSERT INTO stock (product_id, sellable) SELECT made.id, wanted.stock FROM made JOIN wanted USING (id)
   ), moved AS (
     INSERT INTO stock_movements (product_id, delta, kind, who, why)
     SELECT made.id, wanted.stock, 'received', '${who}', wanted.why
       FROM made JOIN wanted USING (id) WHERE wanted.stock > 0
   )
   SELECT sku FROM made`,
);

const updateDetails = sql(
  'import.update',
  `UPDATE products SET name = wanted.name, description = wanted.description, price_cents = wanted.price_cents,
          max_per_order = wanted.max_per_order
     FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bigint[], $5::integer[])
       AS wanted (id, name, description, price_cents, max_per_order)
    WHERE products.id = wanted.id`,
);

const adjustStock = sql(
  'import.adjust',
  `WITH adjustment AS (
     SELECT * FROM unnest($1::uuid[], $2::integer[], $3::text[]) AS adjustment (product_id, delta, why)
   ), moved AS (
     INSERT INTO stock_movements (product_id, delta, kind, who, why)
     SELECT product_id, delta, 'adjusted', '${who}', why FROM adjustment
   )
   UPDATE stock SET sellable = sellable + adjustment.delta
     FROM adjustment WHERE stock.product_id = adjustment.product_id`,
);

/** The products that have one of `skus`, by SKU. */
export async function readProducts(reader: Reader, skus: readonly string[]): Promise<Map<string, StockedProduct>> {
  const rows = await reader.query<StockedProduct>(selectProducts, [skus]);
  return new Map(rows.map((row) => [row.sku, row]));
}

/** Locks the stock rows of `productIds` in the global order: before their products. */
export async function lockStock(tx: Tx, productIds: readonly string[]): Promise<void> {
  await tx.query(lockStockRows, [productIds]);
}

/** Locks the rows of `productIds` in the global order. */
export async function lockProducts(tx: Tx, productIds: readonly string[]): Promise<void> {
  await tx.query(lockProductRows, [productIds]);
}

/** Makes those products, with stock, whose SKU is still free, and returns their SKUs. */
export async function insertProducts(tx: Tx, products: readonly NewProduct[]): Promise<Set<string>> {
  const rows = await tx.query<{ sku: string }>(insertMissing, [
    products.map((product) => product.id),
    products.map((product) => product.sku),
    products.map((product) => product.name),
    products.map((product) => product.description),
    products.map((product) => product.priceCents),
    products.map((product) => product.stock),
    products.map((product) => product.why),
    products.map((product) => product.maxPerOrder),
  ]);
  return new Set(rows.map((row) => row.sku));
}

/** Gives locked products their new details, with COMMIT. */
export function deferDetails(tx: Tx, products: readonly ProductDetails[]): void {
  tx.defer(updateDetails, [
    products.map((product) => product.id),
    products.map((product) => product.name),
    products.map((product) => product.description),
    products.map((product) => product.priceCents),
    products.map((product) => product.maxPerOrder),
  ]);
}

/** Changes locked stock and writes each change into the book, with COMMIT. */
export function deferAdjustments(tx: Tx, adjustments: readonly StockAdjustment[]): void {
  tx.defer(adjustStock, [
    adjustments.map((adjustment) => adjustment.productId),
    adjustments.map((adjustment) => adjustment.delta),
    adjustments.map((adjustment) => adjustment.why),
  ]);
}
