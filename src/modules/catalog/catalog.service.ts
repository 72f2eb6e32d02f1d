import type { Reader } from '../../platform/db.ts';
import { highestId, isUuid, lowestId } from '../../shared/ids.ts';
import { type Money, money } from '../../shared/money.ts';
import { decodePageKey, encodePageKey, type PagePosition } from '../../shared/page-key.ts';
import { accepted, type Result, refused } from '../../shared/refusal.ts';
import {
  findFirstAvailable,
  findProduct,
  type PageRow,
  type ProductRow,
  productsPerPage,
  readNumberedPage,
  readPageAfter,
  readPageBefore,
} from './catalog.sql.ts';

export type Catalog = Readonly<{ reader: Reader; currency: string; pageKeySecret: Buffer }>;

export type StockStatus = 'AVAILABLE' | 'OUT_OF_STOCK';
export type Product = { id: string; name: string; description: string; price: Money; stock_status: StockStatus };

/** A representation, when it last changed, and what the database's clock said when it was read. */
export type Dated<T> = Readonly<{ document: T; changedAt: Date; readAt: Date }>;

export type NumberedPage = { page: number; pages: number; per_page: number; record_count: number; records: Product[] };
export type KeyedPage = { per_page: number; next: string | null; previous: string | null; records: Product[] };

/** The page number that `text` asks for: anything but decimal digits from 1 up is page 1. */
export function pageNumberFrom(text: string | undefined): number {
  const page = /^\d+$/.test(text ?? '') ? Number(text) : 1;
  return Math.min(Math.max(page, 1), Number.MAX_SAFE_INTEGER);
}

/** The answer to whoever asks for a product that is not on sale here. */
export function productNotFound(id: unknown): ReturnType<typeof refused> {
  const shown = typeof id === 'string' || typeof id === 'number' ? String(id).slice(0, 100) : '';
  return refused('not_found', `Couldn't find Product with 'id'="${shown}"`);
}

/** One product on sale; malformed, unknown and archived ids are not found. */
export async function getProduct(catalog: Catalog, id: string): Promise<Result<Dated<Product>>> {
  const row = isUuid(id) ? await findProduct(catalog.reader, id) : undefined;
  if (!row) return productNotFound(id);
  return accepted({ document: toProduct(row, catalog.currency), changedAt: row.changed_at, readAt: row.now });
}

/** The id of a product that can be bought now, to show the shop with; null when there is none. */
export async function findSampleProduct(reader: Reader): Promise<string | null> {
  return (await findFirstAvailable(reader))?.id ?? null;
}

/** The `page`-th page (from 1) in ascending order of ids, with totals; empty past the end. */
export async function getNumberedPage(catalog: Catalog, page: number): Promise<Dated<NumberedPage>> {
  // No catalogue reaches beyond this; further on OFFSET would overflow.
  const rows = await readNumberedPage(catalog.reader, Math.min(page, 1_000_000_000_000));
  const whole = firstOf(rows);
  const products = productsIn(rows);
  const document = {
    page,
    pages: Math.max(1, Math.ceil(whole.record_count / productsPerPage)),
    per_page: productsPerPage,
    record_count: whole.record_count,
    records: products.map((row) => toProduct(row, catalog.currency)),
  };
  return { document, changedAt: latestChange(products, whole.membership_changed_at), readAt: whole.now };
}

/** The page at `key` (the first without one). A key that this shop did not make is a bad request. */
export async function getKeyedPage(catalog: Catalog, key: string | undefined): Promise<Result<Dated<KeyedPage>>> {
  const position: PagePosition | null = key
    ? decodePageKey(key, catalog.pageKeySecret)
    : { direction: 'after', id: lowestId };
  if (!position) return refused('bad_request', 'Invalid page key');
  const page =
    position.direction === 'after' ? await pageAfter(catalog, position.id) : await pageBefore(catalog, position.id);
  return accepted(page);
}

async function pageAfter(catalog: Catalog, id: string): Promise<Dated<KeyedPage>> {
  const rows = await readPageAfter(catalog.reader, id);
  const found = productsIn(rows);
  const products = found.slice(0, productsPerPage);
  return keyedPage(catalog, products, firstOf(rows), {
    hasNext: found.length > productsPerPage,
    hasPrevious: firstOf(rows).behind,
  });
}

async function pageBefore(catalog: Catalog, id: string): Promise<Dated<KeyedPage>> {
  const rows = await readPageBefore(catalog.reader, id);
  const found = productsIn(rows);
  const products = found.slice(-productsPerPage);
  return keyedPage(catalog, products, firstOf(rows), {
    hasNext: firstOf(rows).behind,
    hasPrevious: found.length > productsPerPage,
  });
}

function keyedPage(
  catalog: Catalog,
  products: readonly ProductRow[],
  whole: { membership_changed_at: Date; now: Date },
  neighbours: { hasNext: boolean; hasPrevious: boolean },
): Dated<KeyedPage> {
  const document = {
    per_page: productsPerPage,
    next: neighbours.hasNext ? keyAfter(catalog, products) : null,
    previous: neighbours.hasPrevious ? keyBefore(catalog, products) : null,
    records: products.map((row) => toProduct(row, catalog.currency)),
  };
  return { document, changedAt: latestChange(products, whole.membership_changed_at), readAt: whole.now };
}

/** An empty page has nothing before it to continue after: the next page is then the very first. */
function keyAfter(catalog: Catalog, products: readonly ProductRow[]): string {
  return encodePageKey({ direction: 'after', id: products.at(-1)?.id ?? lowestId }, catalog.pageKeySecret);
}

function keyBefore(catalog: Catalog, products: readonly ProductRow[]): string {
  return encodePageKey({ direction: 'before', id: products[0]?.id ?? highestId }, catalog.pageKeySecret);
}

function firstOf<Whole>(rows: readonly PageRow<Whole>[]): PageRow<Whole> {
  const [first] = rows;
  if (!first) throw new Error('catalog_totals has lost its row; run the migrations again on a copy and compare');
  return first;
}

function productsIn(rows: readonly PageRow<object>[]): ProductRow[] {
  return rows.filter((row): row is ProductRow => row.id !== null);
}

function latestChange(products: readonly ProductRow[], membershipChangedAt: Date): Date {
  return new Date(Math.max(membershipChangedAt.getTime(), ...products.map((row) => row.changed_at.getTime())));
}

function toProduct(row: ProductRow, currency: string): Product {
  return {
    id: row.id,
    name: row.name,
    description: row.description,
    price: money(row.price_cents, currency),
    stock_status: row.in_stock ? 'AVAILABLE' : 'OUT_OF_STOCK',
  };
}
