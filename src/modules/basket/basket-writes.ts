import { BatchesAroundHeldRows, type HeldRows } from '../../platform/batches-around-held-rows.ts';
import type { Database, Tx } from '../../platform/db.ts';
import { repeatWhileUnknown } from '../../platform/repeat-unknown.ts';
import { accepted, type Result, refused } from '../../shared/refusal.ts';
import { productNotFound } from '../catalog/catalog.service.ts';
import {
  type Effect,
  type KeptRequest,
  type RequestKey,
  recallEffects,
  rememberEffects,
} from '../idempotency/idempotency.service.ts';
import {
  type BasketLineRow,
  type LineFacts,
  lockAndReadFacts,
  lockBasketsByToken,
  lockFreeBaskets,
  readWantedRows,
  type WrittenLine,
  writeAndReadLines,
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
  key: RequestKey | null;
}>;

/**
 * A basket that has just been written to, or what it was when an earlier request with the same key had written to it;
 * `newToken` is the credential of one made on the way.
 */
export type WrittenBasket = Readonly<{ basket: Basket; newToken: string | null; isReplay: boolean }>;

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

/** Writes to baskets in batches that form by themselves, around baskets that somebody holds for long. */
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
    findNamed: async (_, wishes, rows) => heldOf(wishes, rows),
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
  const [baskets, facts] = await lockAndReadFacts(
    tx,
    tokens,
    wishes.map(({ token, made, productId }) => ({ token, madeToken: made.token, productId })),
  );
  const idOf = new Map(baskets.map((basket) => [basket.token, basket.id]));
  const known = await answerFromKeys(tx, wishes, idOf, isRepeat);
  const places = wishes.map((wish, index) => placeOf(wish, idOf, facts[index]));
  const fresh = places.filter((_, index) => !known.has(wishes[index] as LineWish));
  const answers = await setFresh(tx, fresh, currency, isRepeat);
  const answerTo = new Map(fresh.map((place, index) => [place.made, answers[index]]));
  return wishes.map((wish) => (known.get(wish) ?? answerTo.get(wish.made)) as Result<WrittenBasket>);
}

/** What requests with the same keys were answered. In a repeat that is what the first try has done. */
async function answerFromKeys(
  tx: Tx,
  wishes: readonly LineWish[],
  idOf: ReadonlyMap<string, string>,
  isRepeat: boolean,
): Promise<Map<LineWish, Result<WrittenBasket>>> {
  const keyed = wishes.flatMap((wish) => {
    const basketId = wish.token === null ? undefined : idOf.get(wish.token);
    return wish.key && basketId ? [{ wish, basketId, key: wish.key }] : [];
  });
  const effects = await recallEffects(tx, keyed);
  const answers = new Map<LineWish, Result<WrittenBasket>>();
  for (const [index, { wish }] of keyed.entries()) {
    const effect = effects[index];
    if (!effect) continue;
    answers.set(wish, effect.ok ? accepted(replayed(effect.value, !isRepeat)) : effect);
  }
  return answers;
}

function replayed({ answer }: Effect, isReplay: boolean): WrittenBasket {
  if (answer === null) throw new Error('The idempotency key of a write to a basket has no answer');
  return { basket: JSON.parse(answer), newToken: null, isReplay };
}

async function setFresh(
  tx: Tx,
  places: readonly Place[],
  currency: string,
  isRepeat: boolean,
): Promise<Result<WrittenBasket>[]> {
  const refusals = places.map((place) => refusalOf(place, isRepeat));
  const written = places.filter((_, index) => refusals[index] === null);
  const rows = written.length === 0 ? [] : await write(tx, written);
  const shown = toBaskets(written.map(tokenAfter), rows, currency);
  const basketAt = (place: Place): Basket => shown.get(tokenAfter(place)) as Basket;
  rememberEffects(
    tx,
    written.flatMap((place) => keptOf(place, basketAt(place))),
  );
  return places.map(
    (place, index) =>
      refusals[index] ??
      accepted({ basket: basketAt(place), newToken: place.isNew ? place.made.token : null, isReplay: false }),
  );
}

/** A key belongs to a basket that was there before. */
function keptOf({ basketId, isNew, key }: Place, basket: Basket): KeptRequest[] {
  if (key === null || basketId === null || isNew) return [];
  return [{ basketId, key, effect: { orderId: null, answer: JSON.stringify(basket) } }];
}

/** `basketId` is null while there is no such basket. */
type Place = LineWish & Readonly<{ basketId: string | null; isNew: boolean; facts: LineFacts | undefined }>;

function placeOf(wish: LineWish, idOf: ReadonlyMap<string, string>, facts: LineFacts | undefined): Place {
  const known = wish.token === null ? undefined : idOf.get(wish.token);
  return { ...wish, basketId: known ?? idOf.get(wish.made.token) ?? null, isNew: known === undefined, facts };
}

function tokenAfter({ isNew, token, made }: Place): string {
  return isNew || token === null ? made.token : token;
}

function write(tx: Tx, written: readonly Place[]): Promise<BasketLineRow[]> {
  const made = written.filter(({ isNew }) => isNew).map((place) => place.made);
  return writeAndReadLines(tx, made, written.map(lineOf), written.map(tokenAfter));
}

function lineOf({ basketId, made, productId, quantity }: Place): WrittenLine {
  return { basketId: basketId ?? made.id, productId, quantity };
}

/** A line may always be taken out, even one whose product is not on sale any more. */
function refusalOf({ productId, quantity, facts }: Place, isRepeat: boolean): ReturnType<typeof refused> | null {
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

/** Which of `wishes` need a basket that somebody holds at this moment. Waits for no lock. */
function findHeldWishes(database: Database, wishes: readonly LineWish[]): Promise<HeldRows<LineWish>> {
  return database.transaction(async (tx) => {
    const tokens = wishes.flatMap(({ token }) => (token === null ? [] : [token]));
    const baskets = await readWantedRows(tx, tokens);
    const free = new Set(
      await lockFreeBaskets(
        tx,
        baskets.map((basket) => basket.basket_id),
      ),
    );
    const held = new Set(baskets.filter((basket) => !free.has(basket.basket_id)).map(({ token }) => token));
    return heldOf(wishes, held);
  });
}

/** The row that a wish may have to wait for is its basket, by the token that opens it. */
function heldOf(wishes: readonly LineWish[], rows: { has(row: string): boolean }): HeldRows<LineWish> {
  return new Map(wishes.flatMap((wish) => (wish.token !== null && rows.has(wish.token) ? [[wish, wish.token]] : [])));
}

async function lockRow(tx: Tx, token: string): Promise<void> {
  await lockBasketsByToken(tx, [token]);
}
