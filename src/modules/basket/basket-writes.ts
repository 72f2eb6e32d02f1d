import { BatchesAroundHeldRows, type HeldRows } from '../../platform/batches-around-held-rows.ts';
import type { Database, Tx } from '../../platform/db.ts';
import { repeatWhileUnknown } from '../../platform/repeat-unknown.ts';
import { accepted, type Result, refused } from '../../shared/refusal.ts';
import { productNotFound } from '../catalog/catalog.service.ts';
import {
  type BasketLineRow,
  type LineFacts,
  lockBasketsByToken,
  lockFreeBaskets,
  lockFreeProducts,
  lockProductsNamed,
  readLineFacts,
  readLines,
  readWantedRows,
  type WrittenLine,
  writeBaskets,
  writeLines,
} from './basket.sql.ts';
import { type Basket, toBaskets } from './basket-contents.ts';

/**
 * What a shopper wants a line to be, in the basket that `token` opens, or in a new one with the ids of `made`. Ids are
 * in lower case.
 */
type LineWish = Readonly<{
  token: string | null;
  productId: string;
  quantity: number;
  made: Readonly<{ id: string; token: string }>;
}>;

/** A basket that has just been written to; `newToken` is the credential of one made on the way. */
export type WrittenBasket = Readonly<{ basket: Basket; newToken: string | null }>;

export type BasketWrites = BatchesAroundHeldRows<LineWish, Result<WrittenBasket>>;

export type BasketWritesOptions = Readonly<{
  /** For those set aside: waits for a lock as long as any transaction. */
  database: Database;
  /** For batches: gives up on a lock soon, since a whole batch waits. */
  batchDatabase: Database;
  currency: string;
  onSplit: (error: unknown, size: number) => void;
}>;

const mostLines = 100;
/** How long it is tried to find out what became of a COMMIT that was not answered. */
const findOutMs = 5_000;

/** Writes to baskets in batches that form by themselves, around baskets and products that somebody holds for long. */
export function openBasketWrites({ currency, ...options }: BasketWritesOptions): BasketWrites {
  return new BatchesAroundHeldRows({
    name: 'basket writes',
    ...options,
    serve: (database, wishes) =>
      repeatWhileUnknown(
        (isRepeat) => database.transaction((tx) => setQuantities(tx, wishes, currency, isRepeat)),
        findOutMs,
      ),
    keyOf: (wish) => wish.token,
    findHeld: findHeldWishes,
    findNamed: async (_, wishes, rows) => firstOfEach(wishes, (row) => rows.has(row)),
    lockRow,
  });
}

/**
 * No two of `wishes` may be of one basket. In a repeat, what the first try may have done already is recognised: baskets
 * by the ids that it has made for them, lines by what they hold.
 */
async function setQuantities(
  tx: Tx,
  wishes: readonly LineWish[],
  currency: string,
  isRepeat: boolean,
): Promise<Result<WrittenBasket>[]> {
  const tokens = wishes.flatMap(({ token, made }) => [...(token ? [token] : []), ...(isRepeat ? [made.token] : [])]);
  const baskets = tokens.length === 0 ? [] : await lockBasketsByToken(tx, tokens);
  const idOf = new Map(baskets.map((basket) => [basket.token, basket.id]));
  const places = wishes.map((wish) => placeOf(wish, idOf));
  const facts = await readLineFacts(tx, places);
  const refusals = places.map((place, index) => refusalOf(place, facts[index], isRepeat));
  const written = places.filter((_, index) => refusals[index] === null);
  const rows = await writeAndRead(tx, written);
  const shown = toBaskets(written.map(tokenAfter), rows, currency);
  return places.map((place, index) => {
    const basket = shown.get(tokenAfter(place));
    return refusals[index] ?? accepted({ basket: basket as Basket, newToken: place.isNew ? place.made.token : null });
  });
}

/** `basketId` is null while there is no such basket. */
type Place = LineWish & Readonly<{ basketId: string | null; isNew: boolean }>;

function placeOf(wish: LineWish, idOf: ReadonlyMap<string, string>): Place {
  const known = wish.token === null ? undefined : idOf.get(wish.token);
  return { ...wish, basketId: known ?? idOf.get(wish.made.token) ?? null, isNew: known === undefined };
}

function tokenAfter({ isNew, token, made }: Place): string {
  return isNew || token === null ? made.token : token;
}

async function writeAndRead(tx: Tx, written: readonly Place[]): Promise<BasketLineRow[]> {
  if (written.length === 0) return [];
  const made = written.filter(({ isNew }) => isNew).map((place) => place.made);
  const lines = written.map(lineOf);
  // Sent one behind the other without waiting: the connection keeps their order.
  const [, , rows] = await Promise.all([
    writeBaskets(tx, made),
    writeLines(tx, lines),
    readLines(tx, written.map(tokenAfter)),
  ]);
  return rows;
}

function lineOf({ basketId, made, productId, quantity }: Place): WrittenLine {
  return { basketId: basketId ?? made.id, productId, quantity };
}

/** A line may always be taken out, even one whose product is not on sale any more. */
function refusalOf(
  { productId, quantity }: Place,
  facts: LineFacts | undefined,
  isRepeat: boolean,
): ReturnType<typeof refused> | null {
  if (!facts || facts.on_sale === null) return productNotFound(productId);
  if (isRepeat && quantity === (facts.quantity ?? 0)) return null;
  const takesOut = quantity === 0 && facts.quantity !== null;
  if (!facts.on_sale && !takesOut) return productNotFound(productId);
  if (quantity === 0) return null;
  if (facts.max_per_order !== null && quantity > facts.max_per_order)
    return refused('unprocessable', `Quantity must be less than or equal to ${facts.max_per_order}`);
  if (quantity > (facts.sellable ?? 0)) return refused('unprocessable', 'Quantity exceeds available stock.');
  if (facts.quantity === null && facts.line_count >= mostLines) return refused('unprocessable', 'Basket is full');
  return null;
}

/** Which of `wishes` need a basket or a product that somebody holds at this moment. Waits for no lock. */
function findHeldWishes(database: Database, wishes: readonly LineWish[]): Promise<HeldRows<LineWish>> {
  return database.transaction(async (tx) => {
    const tokens = wishes.flatMap(({ token }) => (token === null ? [] : [token]));
    const baskets = await readWantedRows(tx, tokens);
    const freeBaskets = new Set(
      await lockFreeBaskets(
        tx,
        baskets.map((basket) => basket.basket_id),
      ),
    );
    const heldBaskets = baskets.filter((basket) => !freeBaskets.has(basket.basket_id));
    const held = new Set([...wishes.map(({ productId }) => productId), ...heldBaskets.map(({ token }) => token)]);
    for (const id of await lockFreeProducts(tx, [...new Set(wishes.map(({ productId }) => productId))]))
      held.delete(id);
    return firstOfEach(wishes, (row) => held.has(row));
  });
}

/** The rows of a wish go by the token of the basket and the id of the product. */
function firstOfEach(wishes: readonly LineWish[], isHeld: (row: string) => boolean): HeldRows<LineWish> {
  const held = new Map<LineWish, string>();
  for (const wish of wishes) {
    if (wish.token !== null && isHeld(wish.token)) held.set(wish, wish.token);
    else if (isHeld(wish.productId)) held.set(wish, wish.productId);
  }
  return held;
}

async function lockRow(tx: Tx, row: string): Promise<void> {
  await lockBasketsByToken(tx, [row]);
  await lockProductsNamed(tx, [row]);
}
