import type { Database, Tx } from '../../platform/db.ts';
import { isUuid, newId } from '../../shared/ids.ts';
import { type Money, money } from '../../shared/money.ts';
import { accepted, type Result, refused } from '../../shared/refusal.ts';
import { productNotFound, type StockStatus } from '../catalog/catalog.service.ts';
import {
  type BasketLineRow,
  type BasketRow,
  deferAdvance,
  deferBeginCheckout,
  deferEndCheckout,
  deferPutBack,
  deferTakeOut,
  type LineFacts,
  lockBasketsById,
  lockBasketsByToken,
  lockFreeBaskets,
  lockFreeProducts,
  lockProductsNamed,
  type RawLine,
  readLineFacts,
  readLines,
  readRawLines,
  readWantedRows,
  type WrittenLine,
  writeBaskets,
  writeLines,
} from './basket.sql.ts';

export type Baskets = Readonly<{ database: Database; currency: string }>;

/** What a shopper wants a line to be, in the basket that `token` opens, or in a new one with the ids of `made`. */
type LineWish = Readonly<{
  token: string | null;
  productId: string;
  quantity: number;
  made: Readonly<{ id: string; token: string }>;
}>;

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
export type LockedBasket = Readonly<{ id: string; token: string; liveOrderId: string | null; eventOffset: number }>;

/** So many of a product, and where the line stands among the others of its basket. */
export type BasketLine = Readonly<{ basketId: string; productId: string; quantity: number; position: number }>;

const mostLines = 100;

/** The basket that `token` opens; an empty one when it opens none. */
export async function getBasket(baskets: Baskets, token: string | null): Promise<Basket> {
  const rows = token === null ? [] : await readLines(baskets.database, [token]);
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
  const wish = { token, productId, quantity, made: { id: newId(), token: newId() } };
  const [answer] = await baskets.database.transaction((tx) => setQuantities(tx, [wish], baskets.currency));
  if (!answer) throw new Error('One write was not given one answer');
  return answer;
}

/** No two of `wishes` may be of one basket. */
async function setQuantities(tx: Tx, wishes: readonly LineWish[], currency: string): Promise<Result<WrittenBasket>[]> {
  const tokens = wishes.flatMap((wish) => (wish.token === null ? [] : [wish.token]));
  const baskets = tokens.length === 0 ? [] : await lockBasketsByToken(tx, tokens);
  const idOf = new Map(baskets.map((basket) => [basket.token, basket.id]));
  const places = wishes.map((wish) => ({ ...wish, basketId: (wish.token && idOf.get(wish.token)) || null }));
  const facts = await readLineFacts(tx, places);
  const verdicts = places.map((place, index) => verdictOn(place, facts[index]));
  const written = verdicts.flatMap((verdict) => (verdict.ok ? [verdict.value] : []));
  const rows = await writeAndRead(tx, written);
  const linesOf = Map.groupBy(rows, (row) => row.token);
  return verdicts.map((verdict) => {
    if (!verdict.ok) return verdict;
    const { token, isNew } = verdict.value;
    return accepted({ basket: toBasket(linesOf.get(token) ?? [], currency), newToken: isNew ? token : null });
  });
}

type Place = LineWish & Readonly<{ basketId: string | null }>;
type Writing = WrittenLine & Readonly<{ token: string; isNew: boolean }>;

function verdictOn(place: Place, facts: LineFacts | undefined): Result<Writing> {
  const { productId, quantity, made } = place;
  const refusal = refusalOf(facts, productId, quantity);
  if (refusal) return refusal;
  return place.basketId === null || place.token === null
    ? accepted({ basketId: made.id, token: made.token, isNew: true, productId, quantity })
    : accepted({ basketId: place.basketId, token: place.token, isNew: false, productId, quantity });
}

async function writeAndRead(tx: Tx, written: readonly Writing[]): Promise<BasketLineRow[]> {
  if (written.length === 0) return [];
  const made = written.filter(({ isNew }) => isNew).map(({ basketId, token }) => ({ id: basketId, token }));
  const tokens = written.map(({ token }) => token);
  // Sent one behind the other without waiting: the connection keeps their order.
  const [, , rows] = await Promise.all([writeBaskets(tx, made), writeLines(tx, written), readLines(tx, tokens)]);
  return rows;
}

/** Locks the baskets that `tokens` open. First in the global lock order. */
export async function lockBaskets(tx: Tx, tokens: readonly string[]): Promise<LockedBasket[]> {
  return (await lockBasketsByToken(tx, tokens)).map(lockedFrom);
}

/** Locks baskets that orders name. First in the global lock order. */
export async function lockBasketsOfOrders(tx: Tx, basketIds: readonly string[]): Promise<LockedBasket[]> {
  return (await lockBasketsById(tx, basketIds)).map(lockedFrom);
}

/** The rows that a checkout of a basket would lock. */
export type CheckoutRows = Readonly<{ token: string; basketId: string; productIds: readonly string[] }>;

/** The rows that checkouts of the baskets with those tokens would lock, without locking any. */
export async function readCheckoutRows(tx: Tx, tokens: readonly string[]): Promise<CheckoutRows[]> {
  const rows = await readWantedRows(tx, tokens);
  return rows.map((row) => ({ token: row.token, basketId: row.basket_id, productIds: row.product_ids }));
}

/** Those of the baskets that somebody else holds now; the others are locked. */
export async function findHeldBaskets(tx: Tx, ids: readonly string[]): Promise<Set<string>> {
  const held = new Set(ids);
  for (const id of await lockFreeBaskets(tx, ids)) held.delete(id);
  return held;
}

/** Locks products as a line that names them does. Last in the global lock order. */
export function lockProducts(tx: Tx, productIds: readonly string[]): Promise<void> {
  return lockProductsNamed(tx, productIds);
}

/** Those of the products that somebody holds now so that no line can be written that names them; the others are locked. */
export async function findHeldProducts(tx: Tx, productIds: readonly string[]): Promise<Set<string>> {
  const held = new Set(productIds);
  for (const id of await lockFreeProducts(tx, productIds)) held.delete(id);
  return held;
}

/** The lines of locked baskets, each basket's in the order first added. */
export async function readBasketLines(tx: Tx, basketIds: readonly string[]): Promise<BasketLine[]> {
  const rows = await readRawLines(tx, basketIds);
  return rows.map((row) => ({
    basketId: row.basket_id,
    productId: row.product_id,
    quantity: row.quantity,
    position: row.position,
  }));
}

/** In the commit of `tx`: each order becomes the live one of its locked basket, and `sold` leave their baskets. */
export function beginCheckouts(
  tx: Tx,
  orders: readonly Readonly<{ id: string; basketId: string }>[],
  sold: readonly BasketLine[],
): void {
  deferTakeOut(tx, sold.map(toRow));
  deferBeginCheckout(
    tx,
    orders.map((order) => order.basketId),
    orders.map((order) => order.id),
  );
}

/** In the commit of `tx`: the locked baskets are free to check out again, their streams end at their `offset`. */
export function endCheckouts(tx: Tx, ended: readonly Readonly<{ basketId: string; offset: number }>[]): void {
  deferEndCheckout(
    tx,
    ended.map(({ basketId }) => basketId),
    ended.map(({ offset }) => offset),
  );
}

/** In the commit of `tx`: the streams of locked baskets end at their `offset`, their checkouts stay as they are. */
export function advanceStreams(tx: Tx, streams: readonly Readonly<{ basketId: string; offset: number }>[]): void {
  deferAdvance(
    tx,
    streams.map(({ basketId }) => basketId),
    streams.map(({ offset }) => offset),
  );
}

/** In the commit of `tx`: lines of failed checkouts join what the shopper has put in since, up to the caps. */
export function putBackLines(tx: Tx, lines: readonly BasketLine[]): void {
  deferPutBack(tx, lines.map(toRow));
}

function toRow(line: BasketLine): RawLine {
  return { basket_id: line.basketId, product_id: line.productId, quantity: line.quantity, position: line.position };
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
  if (quantity > (facts.sellable ?? 0)) return refused('unprocessable', 'Quantity exceeds available stock.');
  if (!facts.in_basket && facts.line_count >= mostLines) return refused('unprocessable', 'Basket is full');
  return null;
}

function lockedFrom(row: BasketRow): LockedBasket {
  return { id: row.id, token: row.token, liveOrderId: row.live_order_id, eventOffset: row.last_event_offset };
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
