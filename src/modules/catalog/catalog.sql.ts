import { type Reader, sql } from '../../platform/db.ts';

export const productsPerPage = 20;

export type ProductRow = {
  id: string;
  name: string;
  description: string;
  price_cents: number;
  in_stock: boolean;
  changed_at: Date;
};

/** A page's rows beside what is true of the whole page. `id` is null in the one row of an empty page. */
export type PageRow<Whole> = Whole & (ProductRow | { [K in keyof ProductRow]: null });

type Clock = { now: Date };
type Totals = Clock & { record_count: number; membership_changed_at: Date };
type Edges = Clock & { membership_changed_at: Date; behind: boolean };

const productColumns = `p.id, p.name, p.description, p.price_cents, s.sellable > 0 AS in_stock,
       greatest(p.updated_at, s.flipped_at) AS changed_at`;

const selectProduct = sql(
  'catalog.product',
  `SELECT ${productColumns}, clock_timestamp() AS now
     FROM products p JOIN stock s ON s.product_id = p.id
    WHERE p.id = $1 AND p.archived_at IS NULL`,
);

const selectNumberedPage = sql(
  'catalog.numbered_page',
  `SELECT t.products AS record_count, t.changed_at AS membership_changed_at, clock_timestamp() AS now, page.*
     FROM catalog_totals t
     LEFT JOIN LATERAL (
       SELECT ${productColumns}
         FROM (SELECT id FROM products WHERE archived_at IS NULL ORDER BY id OFFSET $1 LIMIT ${productsPerPage}) ids
         JOIN products p ON p.id = ids.id
         JOIN stock s ON s.product_id = p.id
     ) page ON true
    ORDER BY page.id`,
);

/** One row more than a page holds: it says whether there is a page beyond. */
const selectPageAfter = sql(
  'catalog.page_after',
  `SELECT t.changed_at AS membership_changed_at, clock_timestamp() AS now,
          EXISTS (SELECT FROM products WHERE archived_at IS NULL AND id <= $1) AS behind, page.*
     FROM catalog_totals t
     LEFT JOIN LATERAL (
       SELECT ${productColumns}
         FROM (SELECT id FROM products WHERE archived_at IS NULL AND id > $1 ORDER BY id LIMIT ${productsPerPage + 1}) ids
         JOIN products p ON p.id = ids.id
         JOIN stock s ON s.product_id = p.id
     ) page ON true
    ORDER BY page.id`,
);

const selectPageBefore = sql(
  'catalog.page_before',
  `SELECT t.changed_at AS membership_changed_at, clock_timestamp() AS now,
          EXISTS (SELECT FROM products WHERE archived_at IS NULL AND id >= $1) AS behind, page.*
     FROM catalog_totals t
     LEFT JOIN LATERAL (
       SELECT ${productColumns}
         FROM (SELECT id FROM products WHERE archived_at IS NULL AND id < $1 ORDER BY id DESC LIMIT ${productsPerPage + 1}) ids
         JOIN products p ON p.id = ids.id
         JOIN stock s ON s.product_id = p.id
     ) page ON true
    ORDER BY page.id`,
);

/** The product on sale with that id. */
export async function findProduct(db: Reader, id: string): Promise<(ProductRow & Clock) | undefined> {
  const [row] = await db.query<ProductRow & Clock>(selectProduct, [id]);
  return row;
}

/** The `page`-th twenty products, from 1, with the exact number of all. */
export function readNumberedPage(db: Reader, page: number): Promise<PageRow<Totals>[]> {
  return db.query(selectNumberedPage, [(page - 1) * productsPerPage]);
}

/** Up to twenty-one products after `id`, and whether there are any at or before it. */
export function readPageAfter(db: Reader, id: string): Promise<PageRow<Edges>[]> {
  return db.query(selectPageAfter, [id]);
}

/** Up to twenty-one products before `id` in ascending order, and whether there are any at or after it. */
export function readPageBefore(db: Reader, id: string): Promise<PageRow<Edges>[]> {
  return db.query(selectPageBefore, [id]);
}

const selectSample = sql(
  'catalog.sample',
  `SELECT p.id FROM products p JOIN stock s ON s.product_id = p.id
    WHERE p.archived_at IS NULL AND s.sellable > 0 ORDER BY p.id LIMIT 1`,
);

/** The first product that can be bought now. */
export async function findFirstAvailable(db: Reader): Promise<{ id: string } | undefined> {
  const [row] = await db.query<{ id: string }>(selectSample);
  return row;
}
