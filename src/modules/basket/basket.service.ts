import { Coalescer, type CoalescerLimits, type Departure, LineFull } from '../../platform/coalescer.ts';
import { isDataFault, type Reader, type Tx } from '../../platform/db.ts';
import { isUuid, newId } from '../../shared/ids.ts';
import { type Result, refused } from '../../shared/refusal.ts';
import { productNotFound } from '../catalog/catalog.service.ts';
import type { RequestKey } from '../idempotency/idempotency.service.ts';
import {
  type BasketRow,
  deferAdvance,
  deferBeginCheckout,
  deferEndCheckout,
  deferPutBack,
  deferTakeOut,
  lockBasketsById,
  lockBasketsByToken,
  lockFreeBaskets,
  type RawLine,
  readLines,
  readRawLines,
  readWantedRows,
} from './basket.sql.ts';
import { type Basket, toBasket, toBaskets } from './basket-contents.ts';
import { type BasketWrites, type BasketWritesOptions, openBasketWrites, type WrittenBasket } from './basket-writes.ts';

/** What baskets are read and written through; see {@link openBaskets}. */
export type Baskets = Readonly<{ reads: Coalescer<string, Basket>; writes: BasketWrites; empty: Basket }>;

export type BasketsOptions = BasketWritesOptions & Readonly<{ reader: Reader }>;

/** A basket under its lock. `eventOffset` is where its stream of events ends. */
export type LockedBasket = Readonly<{ id: string; token: string; liveOrderId: string | null; eventOffset: number }>;

/** So many of a product, and where the line stands among the others of its basket. */
export type BasketLine = Readonly<{ basketId: string; productId: string; quantity: number; position: number }>;

const readLimits: CoalescerLimits = { waiting: 10_000, waitingPerKey: 0, batch: 500, inFlight: 2, waitMs: 5_000 };

/** Baskets, read and written many at a time. */
export function openBaskets({ reader, ...options }: BasketsOptions): Baskets {
  const { currency, onSplit } = options;
  const reads = new Coalescer<string, Basket>({
    name: 'basket reads',
    run: (tokens) => readBaskets(reader, tokens, currency),
    keyOf: () => null,
    isMemberFault: isDataFault,
    onSplit,
    limits: readLimits,
  });
  return { reads, writes: openBasketWrites(options), empty: toBasket([], currency) };
}

/** Those who ask for the same basket at the same time share an answer. */
async function readBaskets(reader: Reader, tokens: readonly string[], currency: string): Promise<Basket[]> {
  const known = [...new Set(tokens)];
  const baskets = toBaskets(known, await readLines(reader, known), currency);
  return tokens.map((token) => baskets.get(token) as Basket);
}

/** The basket that `token` opens; an empty one when it opens none. Sees every write that was answered before. */
export async function getBasket(baskets: Baskets, token: string | null, departure?: Departure): Promise<Basket> {
  return token === null ? baskets.empty : baskets.reads.submit(token, departure);
}

/**
 * Sets the quantity (0 to 10,000) of a product in the basket that `token` opens, or in a new one. Refused, with
 * the basket as it was, when the product is not on sale, short of stock or limited to fewer, the basket is full, or too
 * many writes to it are waiting. A write to a known basket with the same `key` is done once, and answered alike.
 */
export async function setQuantity(
  baskets: Baskets,
  token: string | null,
  productId: unknown,
  quantity: number,
  departure?: Departure,
  key: RequestKey | null = null,
): Promise<Result<WrittenBasket>> {
  if (!isUuid(productId)) return productNotFound(productId);
  const wish = { token, productId: productId.toLowerCase(), quantity, made: { id: newId(), token: newId() }, key };
  const result = await baskets.writes.submit(wish, departure).catch(refuseIfTooMany);
  return result.ok || result.refusal.kind !== 'not_found' ? result : productNotFound(productId);
}

/** One basket cannot fill the line of all. */
function refuseIfTooMany(error: unknown): ReturnType<typeof refused> {
  if (error instanceof LineFull && error.ofKey)
    return refused('too_many_requests', 'Too many changes to this basket are waiting');
  throw error;
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

function lockedFrom(row: BasketRow): LockedBasket {
  return { id: row.id, token: row.token, liveOrderId: row.live_order_id, eventOffset: row.last_event_offset };
}
