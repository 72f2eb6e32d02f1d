import { setTimeout as sleep } from 'node:timers/promises';
import { type Reader, sql, type Value } from '../../src/platform/db.ts';
import { newId } from '../../src/shared/ids.ts';

/** Products to buy. */
export type Shelf = Readonly<{ productIds: readonly string[] }>;

/** How the orders of one run ended. Seconds from the first acceptance to the last end. */
export type Outcome = Readonly<{ completed: number; others: number; seconds: number; unrecorded: number }>;

const unitsPerProduct = 10_000_000;
const basketsPerStatement = 5_000;

const empty = sql(
  'bench.empty',
  `TRUNCATE products, baskets, orders, order_lines, order_contacts, order_states, payment_attempts, events,
            simulated_gateway.journal CASCADE`,
);
const analyze = sql('bench.analyze', 'ANALYZE');
const now = sql('bench.now', 'SELECT clock_timestamp()::text AS now');

const insertProducts = sql(
  'bench.insert_products',
  `WITH made AS (INSERT INTO products (id, sku, name, description, price_cents)
     SELECT id, id, 'Desk lamp', 'A sturdy lamp, made to last and easy to clean', 1000 FROM unnest($1::uuid[]) id
     RETURNING id),
   moved AS (INSERT INTO stock_movements (product_id, delta, kind, who, why)
     SELECT id, $2::integer, 'received', 'bench', 'bench' FROM made)
   INSERT INTO stock (product_id, sellable) SELECT id, $2::integer FROM made`,
);

const insertBaskets = sql(
  'bench.insert_baskets',
  `INSERT INTO baskets (id, token, expires_at)
   SELECT id, token, now() + interval '1 day' FROM unnest($1::uuid[], $2::uuid[]) AS b (id, token)`,
);

const insertLines = sql(
  'bench.insert_lines',
  `INSERT INTO basket_lines (basket_id, product_id, quantity)
   SELECT id, ($2::uuid[])[1 + (n - 1) % cardinality($2::uuid[])], 1 FROM unnest($1::uuid[]) WITH ORDINALITY AS b (id, n)`,
);

/** Every completed order must have its capture in the gateway's book. */
const selectOutcome = sql(
  'bench.outcome',
  `SELECT count(*) FILTER (WHERE s.state = 'completed') AS completed,
          count(*) FILTER (WHERE s.state <> 'completed') AS others,
          count(*) FILTER (WHERE s.state = 'completed' AND j.key IS NULL) AS unrecorded,
          extract(epoch FROM max(s.ended_at) - min(o.created_at))::float8 AS seconds
     FROM orders o
     JOIN order_states s ON s.order_id = o.id
     LEFT JOIN simulated_gateway.journal j ON j.key = o.id || ':' || s.attempt || ':capture'
    WHERE o.created_at >= $1`,
);

const selectEventTimes = sql(
  'bench.event_times',
  'SELECT id, (extract(epoch FROM created_at) * 1000)::float8 AS at_ms FROM events WHERE created_at >= $1',
);

const countOpen = sql('bench.open', 'SELECT count(*) AS open FROM order_states WHERE ended_at IS NULL');

/** Takes everything out of the shop, so that each part of a benchmark begins alike. */
export async function emptyShop(database: Reader): Promise<void> {
  await database.query(empty);
}

export async function fillShelf(database: Reader, products: number): Promise<Shelf> {
  const productIds = Array.from({ length: products }, newId);
  await database.query(insertProducts, [productIds, unitsPerProduct]);
  return { productIds };
}

/** Makes baskets of one line and one unit, the products in turn, and returns their tokens. */
export async function fillBaskets(database: Reader, shelf: Shelf, count: number): Promise<string[]> {
  const baskets = Array.from({ length: count }, () => ({ id: newId(), token: newId() }));
  for (let first = 0; first < count; first += basketsPerStatement) {
    const some = baskets.slice(first, first + basketsPerStatement);
    const ids: Value = some.map(({ id }) => id);
    await database.query(insertBaskets, [ids, some.map(({ token }) => token)]);
    await database.query(insertLines, [ids, shelf.productIds]);
  }
  // What a shop that runs for longer than a minute has from autovacuum.
  await database.query(analyze);
  return baskets.map(({ token }) => token);
}

/** The database's clock. */
export async function readClock(database: Reader): Promise<string> {
  const [row] = await database.query<{ now: string }>(now);
  return row?.now ?? '';
}

/** Waits until every order has ended. */
export async function awaitEnds(database: Reader): Promise<void> {
  for (let isOpen = true; isOpen; ) {
    const [row] = await database.query<{ open: number }>(countOpen);
    isOpen = row?.open !== 0;
    if (isOpen) await sleep(50);
  }
}

/** How the orders accepted since `began` have ended. */
export async function readOutcome(database: Reader, began: string): Promise<Outcome> {
  const [outcome] = await database.query<Outcome>(selectOutcome, [began]);
  if (!outcome) throw new Error('Counting orders returned nothing');
  return outcome;
}

/** When each event since `began` was written, right before its COMMIT was: Unix time in milliseconds, by its id. */
export async function readEventTimes(database: Reader, began: string): Promise<Map<string, number>> {
  const rows = await database.query<{ id: string; at_ms: number }>(selectEventTimes, [began]);
  return new Map(rows.map((row) => [row.id, row.at_ms]));
}
