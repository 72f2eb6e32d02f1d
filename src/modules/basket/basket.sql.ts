import { type Reader, sql, type Tx } from '../../platform/db.ts';

export type BasketRow = { id: string; token: string; live_order_id: string | null; last_event_offset: number };

export type BasketLineRow = {
  token: string;
  product_id: string;
  name: string;
  description: string;
  price_cents: number;
  quantity: number;
  available: boolean;
};

/** All that decides whether a line may be written; null columns where there is no such product. */
export type LineFacts = {
  on_sale: boolean | null;
  max_per_order: number | null;
  sellable: number | null;
  line_count: number;
  /** Of the product, in the basket now. */
  quantity: number | null;
};

/** A line as it is to be: 0 takes it out. */
export type WrittenLine = Readonly<{ basketId: string; productId: string; quantity: number }>;

export type RawLine = { basket_id: string; product_id: string; quantity: number; position: number };

/** A basket that nobody touches for so long may be purged. */
const keptFor = `interval '90 days'`;

const selectLines = sql(
  'basket.lines',
  `SELECT b.token, l.product_id, p.name, p.description, p.price_cents, l.quantity,
          s.sellable >= l.quantity AND p.archived_at IS NULL AS available
     FROM baskets b
     JOIN basket_lines l ON l.basket_id = b.id
     JOIN products p ON p.id = l.product_id
     JOIN stock s ON s.product_id = l.product_id
    WHERE b.token = ANY ($1::uuid[])
    ORDER BY l.position`,
);

const lockByToken = sql(
  'basket.lock_by_token',
  `SELECT id, token, live_order_id, last_event_offset FROM baskets
    WHERE token = ANY ($1::uuid[]) ORDER BY id FOR NO KEY UPDATE`,
);

const lockById = sql(
  'basket.lock_by_id',
  `SELECT id, token, live_order_id, last_event_offset FROM baskets
    WHERE id = ANY ($1::uuid[]) ORDER BY id FOR NO KEY UPDATE`,
);

/** Baskets that nobody holds are locked, the others passed over. */
const lockFreeById = sql(
  'basket.lock_free_by_id',
  'SELECT id FROM baskets WHERE id = ANY ($1::uuid[]) FOR NO KEY UPDATE SKIP LOCKED',
);

const selectWantedRows = sql(
  'basket.wanted_rows',
  `SELECT b.token, b.id AS basket_id, array_remove(array_agg(l.product_id), NULL) AS product_ids
     FROM baskets b LEFT JOIN basket_lines l ON l.basket_id = b.id
    WHERE b.token = ANY ($1::uuid[]) GROUP BY b.id`,
);

const selectLineFacts = sql(
  'basket.line_facts',
  `SELECT CASE WHEN p.id IS NOT NULL THEN p.archived_at IS NULL END AS on_sale, p.max_per_order, s.sellable,
          (SELECT count(*) FROM basket_lines l WHERE l.basket_id = b.id) AS line_count,
          (SELECT l.quantity FROM basket_lines l
            WHERE l.basket_id = b.id AND l.product_id = wanted.product_id) AS quantity
     FROM unnest($1::uuid[], $2::uuid[], $3::uuid[]) WITH ORDINALITY AS wanted (token, made_token, product_id, place)
     LEFT JOIN baskets b ON b.token IN (wanted.token, wanted.made_token)
     LEFT JOIN products p ON p.id = wanted.product_id
     LEFT JOIN stock s ON s.product_id = p.id
    ORDER BY wanted.place`,
);

/*
 * What a new basket with its first line takes, in microseconds (pg_stat_statements, batches of about 120, PostgreSQL 18 on 2
 * cores): facts 10, basket 11 to 14, line 5 (60 with foreign keys to its basket and its product, 30 with that to the basket:
 * all lines of a stampede would lock the same product), reading it back 15. The updates at checkout 7 each (12 and 10 where
 * the page has no room for them). One transaction for each write: 1,900 for a whole journey of three, instead of 145 in
 * batches.
 */

const insertBaskets = sql(
  'basket.insert',
  `INSERT INTO baskets (id, token, expires_at)
   SELECT made.id, made.token, clock_timestamp() + ${keptFor} FROM unnest($1::uuid[], $2::uuid[]) AS made (id, token)
   ON CONFLICT (id) DO NOTHING`,
);

const upsertLines = sql(
  'basket.upsert_lines',
  `INSERT INTO basket_lines (basket_id, product_id, quantity)
   SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::integer[])
   ON CONFLICT (basket_id, product_id) DO UPDATE SET quantity = excluded.quantity`,
);

/** Once a day is enough to keep a basket that is in use. */
const postponeExpiry = sql(
  'basket.postpone_expiry',
  `UPDATE baskets SET expires_at = clock_timestamp() + ${keptFor}
    WHERE id = ANY ($1::uuid[]) AND expires_at < clock_timestamp() + ${keptFor} - interval '1 day'`,
);

const selectRawLines = sql(
  'basket.raw_lines',
  `SELECT basket_id, product_id, quantity, position FROM basket_lines
    WHERE basket_id = ANY ($1::uuid[]) ORDER BY position`,
);

const takeOutLines = sql(
  'basket.take_out_lines',
  `DELETE FROM basket_lines l USING unnest($1::uuid[], $2::uuid[]) AS sold (basket_id, product_id)
    WHERE l.basket_id = sold.basket_id AND l.product_id = sold.product_id`,
);

const beginCheckout = sql(
  'basket.begin_checkout',
  `UPDATE baskets b SET live_order_id = begun.order_id, latest_order_id = begun.order_id
     FROM unnest($1::uuid[], $2::uuid[]) AS begun (basket_id, order_id)
    WHERE b.id = begun.basket_id`,
);

const endCheckout = sql(
  'basket.end_checkout',
  `UPDATE baskets b SET live_order_id = NULL, last_event_offset = ended.event_offset
     FROM unnest($1::uuid[], $2::bigint[]) AS ended (basket_id, event_offset)
    WHERE b.id = ended.basket_id`,
);

const advanceStream = sql(
  'basket.advance_stream',
  `UPDATE baskets b SET last_event_offset = advanced.event_offset
     FROM unnest($1::uuid[], $2::bigint[]) AS advanced (basket_id, event_offset)
    WHERE b.id = advanced.basket_id`,
);

/**
 * Adds lines to what is in the basket by now, each cut to 10,000 units and to its product's limit, never beyond 100
 * lines, and where they stood before. Archived products stay out.
 */
const putBackLines = sql(
  'basket.put_back_lines',
  `WITH back AS (
     SELECT b.*, l.quantity AS present, l.position AS present_position, p.max_per_order
       FROM unnest($1::uuid[], $2::uuid[], $3::integer[], $4::bigint[]) AS b (basket_id, product_id, quantity, position)
       JOIN products p ON p.id = b.product_id AND p.archived_at IS NULL
       LEFT JOIN basket_lines l ON l.basket_id = b.basket_id AND l.product_id = b.product_id),
   ranked AS (
     SELECT *, count(*) FILTER (WHERE present IS NULL) OVER (PARTITION BY basket_id ORDER BY position) AS new_lines
       FROM back)
   INSERT INTO basket_lines (basket_id, product_id, quantity, position)
   SELECT basket_id, product_id, least(quantity + coalesce(present, 0), 10000, max_per_order),
          least(position, present_position)
     FROM ranked
    WHERE present IS NOT NULL
       OR new_lines <= 100 - (SELECT count(*) FROM basket_lines l WHERE l.basket_id = ranked.basket_id)
    ORDER BY product_id
   ON CONFLICT (basket_id, product_id)
   DO UPDATE SET quantity = excluded.quantity, position = excluded.position`,
);

/** The lines of the baskets with those tokens, each basket's in the order first added. */
export function readLines(reader: Reader, tokens: readonly string[]): Promise<BasketLineRow[]> {
  return reader.query(selectLines, [tokens]);
}

/** Locks the baskets with those tokens, in the order of their ids. */
export function lockBasketsByToken(tx: Tx, tokens: readonly string[]): Promise<BasketRow[]> {
  return tx.query(lockByToken, [tokens]);
}

/** Locks the baskets with those ids, in their order. */
export function lockBasketsById(tx: Tx, ids: readonly string[]): Promise<BasketRow[]> {
  return tx.query(lockById, [ids]);
}

/** Locks those of the baskets that nobody holds, and returns their ids. */
export async function lockFreeBaskets(tx: Tx, ids: readonly string[]): Promise<string[]> {
  const rows = await tx.query<{ id: string }>(lockFreeById, [ids]);
  return rows.map((row) => row.id);
}

/** Which rows a checkout of each basket would lock. */
export type WantedRows = { token: string; basket_id: string; product_ids: string[] };

/** The rows that checkouts of the baskets with those tokens would lock, without locking any. */
export function readWantedRows(reader: Reader, tokens: readonly string[]): Promise<WantedRows[]> {
  return reader.query(selectWantedRows, [tokens]);
}

/**
 * Locks the baskets with those tokens, and reads what decides about each line, in their order. A line's basket goes by one
 * of two tokens: the one that the shopper has, or the one that it was to be made with. The facts are read under the locks: a statement sees what is there when it starts, which is
 * after the one before it has got them.
 */
export async function lockAndReadFacts(
  tx: Tx,
  tokens: readonly string[],
  wanted: readonly Readonly<{ token: string | null; madeToken: string; productId: string }>[],
): Promise<[BasketRow[], LineFacts[]]> {
  const baskets = tokens.length === 0 ? Promise.resolve([]) : lockBasketsByToken(tx, tokens);
  const facts = tx.query<LineFacts>(selectLineFacts, [
    wanted.map((line) => line.token),
    wanted.map((line) => line.madeToken),
    wanted.map((line) => line.productId),
  ]);
  await firstFailureOf([baskets, facts]);
  return [await baskets, await facts];
}

/**
 * Makes empty baskets, those that are there already staying as they are; sets lines of these and of locked baskets, or
 * takes them out; keeps the baskets from expiring. Returns the lines of the baskets with those tokens. All of it is sent
 * one behind the other without waiting: the connection keeps the order.
 */
export async function writeAndReadLines(
  tx: Tx,
  made: readonly Readonly<{ id: string; token: string }>[],
  lines: readonly WrittenLine[],
  tokens: readonly string[],
): Promise<BasketLineRow[]> {
  const set = lines.filter((line) => line.quantity > 0);
  const out = lines.filter((line) => line.quantity === 0);
  const sent = [
    made.length > 0 && tx.query(insertBaskets, [made.map(({ id }) => id), made.map(({ token }) => token)]),
    set.length > 0 && tx.query(upsertLines, [basketsOf(set), productsOf(set), set.map((line) => line.quantity)]),
    out.length > 0 && tx.query(takeOutLines, [basketsOf(out), productsOf(out)]),
    tx.query(postponeExpiry, [basketsOf(lines)]),
  ];
  const rows = readLines(tx, tokens);
  await firstFailureOf([...sent, rows]);
  return rows;
}

/** Waits for statements sent one behind the other. Those behind one that has failed fail, too: the first tells why. */
async function firstFailureOf(sent: readonly unknown[]): Promise<void> {
  const failed = (await Promise.allSettled(sent)).find(({ status }) => status === 'rejected');
  if (failed?.status === 'rejected') throw failed.reason;
}

function basketsOf(lines: readonly WrittenLine[]): string[] {
  return lines.map((line) => line.basketId);
}

function productsOf(lines: readonly WrittenLine[]): string[] {
  return lines.map((line) => line.productId);
}

/** The lines of locked baskets as they stand, each basket's in the order first added. */
export function readRawLines(tx: Tx, basketIds: readonly string[]): Promise<RawLine[]> {
  return tx.query(selectRawLines, [basketIds]);
}

/** With COMMIT: these lines leave their baskets. */
export function deferTakeOut(tx: Tx, lines: readonly Pick<RawLine, 'basket_id' | 'product_id'>[]): void {
  tx.defer(takeOutLines, [lines.map((line) => line.basket_id), lines.map((line) => line.product_id)]);
}

/** With COMMIT: each order becomes the live one of its basket. */
export function deferBeginCheckout(tx: Tx, basketIds: readonly string[], orderIds: readonly string[]): void {
  tx.defer(beginCheckout, [basketIds, orderIds]);
}

/** With COMMIT: these baskets have no live order any more, and their streams end at these offsets. */
export function deferEndCheckout(tx: Tx, basketIds: readonly string[], eventOffsets: readonly number[]): void {
  tx.defer(endCheckout, [basketIds, eventOffsets]);
}

/** With COMMIT: these baskets' streams end at these offsets. */
export function deferAdvance(tx: Tx, basketIds: readonly string[], eventOffsets: readonly number[]): void {
  tx.defer(advanceStream, [basketIds, eventOffsets]);
}

/** With COMMIT: the lines are added to what their baskets hold by then. */
export function deferPutBack(tx: Tx, lines: readonly RawLine[]): void {
  tx.defer(putBackLines, [
    lines.map((line) => line.basket_id),
    lines.map((line) => line.product_id),
    lines.map((line) => line.quantity),
    lines.map((line) => line.position),
  ]);
}
