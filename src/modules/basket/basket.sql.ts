import { type Reader, sql, type Tx } from '../../platform/db.ts';

export type BasketRow = { id: string; live_order_id: string | null; last_event_offset: number };

export type BasketLineRow = {
  product_id: string;
  name: string;
  description: string;
  price_cents: number;
  quantity: number;
  available: boolean;
};

/** All that decides whether a line may be written. */
export type LineFacts = {
  on_sale: boolean;
  max_per_order: number | null;
  sellable: number;
  line_count: number;
  in_basket: boolean;
};

export type RawLine = { product_id: string; quantity: number; position: number };

/** A basket that nobody touches for so long may be purged. */
const keptFor = `interval '90 days'`;

const selectLines = sql(
  'basket.lines',
  `SELECT l.product_id, p.name, p.description, p.price_cents, l.quantity,
          s.sellable >= l.quantity AND p.archived_at IS NULL AS available
     FROM baskets b
     JOIN basket_lines l ON l.basket_id = b.id
     JOIN products p ON p.id = l.product_id
     JOIN stock s ON s.product_id = l.product_id
    WHERE b.token = $1
    ORDER BY l.position`,
);

const lockByToken = sql(
  'basket.lock_by_token',
  'SELECT id, live_order_id, last_event_offset FROM baskets WHERE token = $1 FOR NO KEY UPDATE',
);

const lockById = sql(
  'basket.lock_by_id',
  'SELECT id, live_order_id, last_event_offset FROM baskets WHERE id = $1 FOR NO KEY UPDATE',
);

const selectLineFacts = sql(
  'basket.line_facts',
  `SELECT p.archived_at IS NULL AS on_sale, p.max_per_order, s.sellable,
          (SELECT count(*) FROM basket_lines WHERE basket_id = $1) AS line_count,
          EXISTS (SELECT FROM basket_lines WHERE basket_id = $1 AND product_id = $2) AS in_basket
     FROM products p JOIN stock s ON s.product_id = p.id
    WHERE p.id = $2`,
);

const insertBasket = sql(
  'basket.insert',
  `INSERT INTO baskets (id, token, expires_at) VALUES ($1, $2, clock_timestamp() + ${keptFor})`,
);

const upsertLine = sql(
  'basket.upsert_line',
  `INSERT INTO basket_lines (basket_id, product_id, quantity) VALUES ($1, $2, $3)
   ON CONFLICT (basket_id, product_id) DO UPDATE SET quantity = excluded.quantity`,
);

const deleteLine = sql('basket.delete_line', 'DELETE FROM basket_lines WHERE basket_id = $1 AND product_id = $2');

/** Once a day is enough to keep a basket that is in use. */
const postponeExpiry = sql(
  'basket.postpone_expiry',
  `UPDATE baskets SET expires_at = clock_timestamp() + ${keptFor}
    WHERE id = $1 AND expires_at < clock_timestamp() + ${keptFor} - interval '1 day'`,
);

const selectRawLines = sql(
  'basket.raw_lines',
  'SELECT product_id, quantity, position FROM basket_lines WHERE basket_id = $1 ORDER BY position',
);

const takeOutLines = sql(
  'basket.take_out_lines',
  'DELETE FROM basket_lines WHERE basket_id = $1 AND product_id = ANY ($2::uuid[])',
);

const beginCheckout = sql(
  'basket.begin_checkout',
  'UPDATE baskets SET live_order_id = $2, latest_order_id = $2 WHERE id = $1',
);

const endCheckout = sql(
  'basket.end_checkout',
  'UPDATE baskets SET live_order_id = NULL, last_event_offset = $2 WHERE id = $1',
);

/**
 * Adds lines to what is in the basket by now, each cut to 10,000 units and to its product's limit, never beyond 100
 * lines, and where they stood before. Archived products stay out.
 */
const putBackLines = sql(
  'basket.put_back_lines',
  `INSERT INTO basket_lines (basket_id, product_id, quantity, position)
   SELECT $1, back.product_id, least(back.quantity + coalesce(l.quantity, 0), 10000, p.max_per_order),
          least(back.position, l.position)
     FROM (SELECT *, count(*) FILTER (WHERE NOT in_basket) OVER (ORDER BY position) AS new_lines
             FROM (SELECT b.*, EXISTS (SELECT FROM basket_lines
                                        WHERE basket_id = $1 AND product_id = b.product_id) AS in_basket
                     FROM unnest($2::uuid[], $3::integer[], $4::bigint[]) AS b (product_id, quantity, position)
                     JOIN products q ON q.id = b.product_id AND q.archived_at IS NULL) AS known) AS back
     JOIN products p ON p.id = back.product_id
     LEFT JOIN basket_lines l ON l.basket_id = $1 AND l.product_id = back.product_id
    WHERE back.in_basket OR back.new_lines <= 100 - (SELECT count(*) FROM basket_lines WHERE basket_id = $1)
    ORDER BY back.product_id
   ON CONFLICT (basket_id, product_id)
   DO UPDATE SET quantity = excluded.quantity, position = excluded.position`,
);

/** The lines of the basket with that token, in the order first added; none when there is no such basket. */
export function readLines(reader: Reader, token: string): Promise<BasketLineRow[]> {
  return reader.query(selectLines, [token]);
}

/** Locks the basket with that token. */
export async function lockBasketByToken(tx: Tx, token: string): Promise<BasketRow | undefined> {
  const [row] = await tx.query<BasketRow>(lockByToken, [token]);
  return row;
}

/** Locks the basket with that id. */
export async function lockBasketById(tx: Tx, id: string): Promise<BasketRow | undefined> {
  const [row] = await tx.query<BasketRow>(lockById, [id]);
  return row;
}

/** What decides about a line of `productId` in the basket `basketId` (null: one still to be made). */
export async function readLineFacts(
  tx: Tx,
  basketId: string | null,
  productId: string,
): Promise<LineFacts | undefined> {
  const [row] = await tx.query<LineFacts>(selectLineFacts, [basketId, productId]);
  return row;
}

/** Makes an empty basket. */
export async function writeBasket(tx: Tx, id: string, token: string): Promise<void> {
  await tx.query(insertBasket, [id, token]);
}

/** Sets the quantity of a line, or removes the line when it is 0, and keeps the basket from expiring. */
export async function writeLine(tx: Tx, basketId: string, productId: string, quantity: number): Promise<void> {
  const written =
    quantity === 0
      ? tx.query(deleteLine, [basketId, productId])
      : tx.query(upsertLine, [basketId, productId, quantity]);
  await Promise.all([written, tx.query(postponeExpiry, [basketId])]);
}

/** The lines of a locked basket as they stand, in the order first added. */
export function readRawLines(tx: Tx, basketId: string): Promise<RawLine[]> {
  return tx.query(selectRawLines, [basketId]);
}

/** With COMMIT: the lines of these products leave the basket, and `orderId` becomes its live order. */
export function deferBeginCheckout(tx: Tx, basketId: string, orderId: string, productIds: readonly string[]): void {
  tx.defer(takeOutLines, [basketId, productIds]);
  tx.defer(beginCheckout, [basketId, orderId]);
}

/** With COMMIT: the basket has no live order any more, and its stream ends at `eventOffset`. */
export function deferEndCheckout(tx: Tx, basketId: string, eventOffset: number): void {
  tx.defer(endCheckout, [basketId, eventOffset]);
}

/** With COMMIT: the lines are added to what the basket holds by then. */
export function deferPutBack(tx: Tx, basketId: string, lines: readonly RawLine[]): void {
  tx.defer(putBackLines, [
    basketId,
    lines.map((line) => line.product_id),
    lines.map((line) => line.quantity),
    lines.map((line) => line.position),
  ]);
}
