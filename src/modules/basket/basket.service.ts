import type { Database, Tx } from '../../platform/db.ts';
import { isUuid, newId } from '../../shared/ids.ts';
import { type Money, money } from '../../shared/money.ts';
import { accepted, type Result, refused } from '../../shared/refusal.ts';
import { productNotFound, type StockStatus } from '../catalog/catalog.service.ts';
import {
  type BasketLineRow,
  type BasketRow,
  deferBeginCheckout,
  deferEndCheckout,
  deferPutBack,
  type LineFacts,
  lockBasketById,
  lockBasketByToken,
  type RawLine,
  readLineFacts,
  readLines,
  readRawLines,
  writeBasket,
  writeLine,
} from './basket.sql.ts';

export type Baskets = Readonly<{ database: Database; currency: string }>;

type BasketProduct = {
  id: string;
  name: string;
  description: string;
  quantity: number;
  stock_status: StockStatus;
  total_price: Money;
};
export type Basket = { products: BasketProduct[]; total_price: Money };

/** A basket that has just been written to; `newToken` is the credential of one made on the way. */
export type WrittenBasket = Readonly<{ basket: Basket; newToken: string | null }>;

/** A basket under its lock. `eventOffset` is where its stream of events ends. */
export type LockedBasket = Readonly<{ id: string; liveOrderId: string | null; eventOffset: number }>;

/** So many of a product, and where the line stands among the others of its basket. */
export type BasketLine = Readonly<{ productId: string; quantity: number; position: number }>;

const mostLines = 100;

/** The basket that `token` opens; an empty one when it opens none. */
export async function getBasket(baskets: Baskets, token: string | null): Promise<Basket> {
  const rows = token === null ? [] : await readLines(baskets.database, token);
  return toBasket(rows, baskets.currency);
}

/**
 * Sets the quantity (0 to 10,000) of a product in the basket that `token` opens, or in a new one. Refused, with
 * the basket as it was, when the product is not on sale, short of stock or limited to fewer, or the basket is full.
 */
export async function setQuantity(
  baskets: Baskets,
  token: string | null,
  productId: unknown,
  quantity: number,
): Promise<Result<WrittenBasket>> {
  if (!isUuid(productId)) return productNotFound(productId);
  return baskets.database.transaction(async (tx) => {
    const basket = token === null ? undefined : await lockBasketByToken(tx, token);
    const facts = await readLineFacts(tx, basket?.id ?? null, productId);
    const refusal = refusalOf(facts, productId, quantity);
    if (refusal) return refusal;
    const written = basket && token !== null ? { id: basket.id, token } : await makeBasket(tx);
    await writeLine(tx, written.id, productId, quantity);
    const rows = await readLines(tx, written.token);
    return accepted({ basket: toBasket(rows, baskets.currency), newToken: basket ? null : written.token });
  });
}

/** Locks the basket that `token` opens, if it opens one. First in the global lock order. */
export async function lockBasket(tx: Tx, token: string): Promise<LockedBasket | null> {
  return lockedFrom(await lockBasketByToken(tx, token));
}

/** Locks a basket that an order names. First in the global lock order. */
export async function lockBasketOfOrder(tx: Tx, basketId: string): Promise<LockedBasket> {
  const basket = lockedFrom(await lockBasketById(tx, basketId));
  if (!basket) throw new Error(`Basket ${basketId} is named by an order but does not exist`);
  return basket;
}

/** The lines of a locked basket, in the order first added. */
export async function readBasketLines(tx: Tx, basketId: string): Promise<BasketLine[]> {
  const rows = await readRawLines(tx, basketId);
  return rows.map((row) => ({ productId: row.product_id, quantity: row.quantity, position: row.position }));
}

/** In the commit of `tx`: `orderId` becomes the live order of the locked basket and takes the lines of `productIds`. */
export function beginCheckout(tx: Tx, basketId: string, orderId: string, productIds: readonly string[]): void {
  deferBeginCheckout(tx, basketId, orderId, productIds);
}

/** In the commit of `tx`: the locked basket is free to check out again, its stream ends at `eventOffset`. */
export function endCheckout(tx: Tx, basketId: string, eventOffset: number): void {
  deferEndCheckout(tx, basketId, eventOffset);
}

/** In the commit of `tx`: lines of a failed checkout join what the shopper has put in since, up to the caps. */
export function putBackLines(tx: Tx, basketId: string, lines: readonly BasketLine[]): void {
  const rows: RawLine[] = lines.map((line) => ({
    product_id: line.productId,
    quantity: line.quantity,
    position: line.position,
  }));
  deferPutBack(tx, basketId, rows);
}

/** A line may always be taken out, even one whose product is not on sale any more. */
function refusalOf(
  facts: LineFacts | undefined,
  productId: string,
  quantity: number,
): ReturnType<typeof refused> | null {
  const takesOut = quantity === 0 && facts?.in_basket;
  if (!facts || !(facts.on_sale || takesOut)) return productNotFound(productId);
  if (quantity === 0) return null;
  if (facts.max_per_order !== null && quantity > facts.max_per_order)
    return refused('unprocessable', `Quantity must be less than or equal to ${facts.max_per_order}`);
  if (quantity > facts.sellable) return refused('unprocessable', 'Quantity exceeds available stock.');
  if (!facts.in_basket && facts.line_count >= mostLines) return refused('unprocessable', 'Basket is full');
  return null;
}

async function makeBasket(tx: Tx): Promise<{ id: string; token: string }> {
  const made = { id: newId(), token: newId() };
  await writeBasket(tx, made.id, made.token);
  return made;
}

function lockedFrom(row: BasketRow | undefined): LockedBasket | null {
  return row ? { id: row.id, liveOrderId: row.live_order_id, eventOffset: row.last_event_offset } : null;
}

function toBasket(rows: readonly BasketLineRow[], currency: string): Basket {
  const products = rows.map((row) => ({
    id: row.product_id,
    name: row.name,
    description: row.description,
    quantity: row.quantity,
    stock_status: row.available ? ('AVAILABLE' as const) : ('OUT_OF_STOCK' as const),
    total_price: money(row.price_cents * row.quantity, currency),
  }));
  const total = products.reduce((sum, product) => sum + product.total_price.cents, 0);
  return { products, total_price: money(total, currency) };
}
