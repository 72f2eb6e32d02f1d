import type { Database, Reader, Tx } from '../../platform/db.ts';
import { accepted, type Result, refused } from '../../shared/refusal.ts';
import { deferMovements, deferStockChange, lockStockRows } from './inventory.sql.ts';
import { findFigures, findStocked } from './stock.sql.ts';

/** What an operator wants: so many units for sale from now on, or so many more (less than 0: fewer). */
export type StockWish = Readonly<{ kind: 'set' | 'add'; units: number }>;

/** For the book of stock movements. */
export type Authorship = Readonly<{ who: string; why: string }>;

/**
 * Of the product with that SKU: the units for sale `before` and `after`, as they were under the lock. `held` are those of open orders, which are not for
 * sale: as of a moment before, for counting them takes longer than a sale can wait.
 */
export type StockChange = Readonly<{ sku: string; before: number; held: number; after: number; isArchived: boolean }>;

/** Units of a product, all of one moment. */
export type StockFigures = Readonly<{
  sku: string;
  sellable: number;
  held: number;
  sold: number;
  received: number;
  adjusted: number;
  returned: number;
  isArchived: boolean;
}>;

/** In units: what the import of a file may set. */
const mostStock = 1_000_000_000;

/**
 * Changes what can be sold of the product whose SKU or id is `name`, archived or not, and books the difference in the same commit.
 * Refused, with nothing changed, when there is no such product or the stock would leave 0 to {@link mostStock}.
 */
export function changeStock(
  db: Database,
  name: string,
  wish: StockWish,
  authorship: Authorship,
): Promise<Result<StockChange>> {
  return db.transaction((tx) => changeIn(tx, name, wish, authorship));
}

async function changeIn(tx: Tx, name: string, wish: StockWish, authorship: Authorship): Promise<Result<StockChange>> {
  const product = await findStocked(tx, name);
  if (!product) return noSuchProduct(name);
  const { sku, held } = product;
  const before = (await lockStockRows(tx, [product.id])).get(product.id);
  if (before === undefined) throw new Error(`Product ${product.id} has no stock row`);
  const delta = wish.kind === 'set' ? wish.units - before : wish.units;
  const after = before + delta;
  if (after < 0) return tooFew(sku, before, held, -delta);
  if (after > mostStock) return refused('unprocessable', `${sku} would have ${after} units, more than ${mostStock}`);
  if (delta !== 0) book(tx, product.id, delta, wish, authorship);
  return accepted({ sku, before, held, after, isArchived: product.is_archived });
}

function book(tx: Tx, productId: string, delta: number, wish: StockWish, { who, why }: Authorship): void {
  const kind = wish.kind === 'add' && delta > 0 ? 'received' : 'adjusted';
  deferStockChange(tx, [productId], [delta]);
  deferMovements(tx, [{ productId, delta, kind, who, why }]);
}

/** What is there of the product whose SKU or id is `name`, and where it went. */
export async function getStock(reader: Reader, name: string): Promise<Result<StockFigures>> {
  const row = await findFigures(reader, name);
  if (!row) return noSuchProduct(name);
  const { is_archived: isArchived, ...units } = row;
  // What came and is neither there nor held was sold: `audit` compares it with the lines of the orders.
  const sold = units.received + units.adjusted + units.returned - units.sellable - units.held;
  return accepted({ ...units, sold, isArchived });
}

function noSuchProduct(name: string): Result<never> {
  return refused('not_found', `No product has the SKU or the id ${JSON.stringify(name)}`);
}

function tooFew(sku: string, sellable: number, held: number, wanted: number): Result<never> {
  const also = held > 0 ? ` (${held} more are held by open orders)` : '';
  return refused('unprocessable', `${sku} has ${sellable} units for sale${also}: ${wanted} cannot be taken out`);
}
