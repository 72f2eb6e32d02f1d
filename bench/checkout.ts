/**
 * How many checkouts a second this machine completes over HTTP: accepted, paid at the simulated gateway (its journal
 * included) and settled; the load generator runs beside it on the same machine. Every strategy of reservation on one hot
 * product, and batches also spread over many. The database is a throw-away one with everything on that makes it durable.
 */
import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { cpus, tmpdir } from 'node:os';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { buildApp } from '../src/app.ts';
import { readConfig } from '../src/platform/config.ts';
import { sql, type Value } from '../src/platform/db.ts';
import { acquireEmbeddedPostgres } from '../src/platform/embedded-postgres.ts';
import { migrate } from '../src/platform/migrate.ts';
import { openResources, type Resources } from '../src/resources.ts';
import { newId } from '../src/shared/ids.ts';
import { startWorker } from '../src/worker.ts';

type Run = Readonly<{ strategy: string; products: number; connections: number; orders: number }>;

const runs: readonly Run[] = [
  { strategy: 'batched', products: 1, connections: 1_000, orders: 30_000 },
  { strategy: 'batched', products: 10_000, connections: 1_000, orders: 30_000 },
  { strategy: 'batched', products: 1, connections: 100, orders: 20_000 },
  { strategy: 'atomic', products: 1, connections: 100, orders: 3_000 },
  { strategy: 'pessimistic', products: 1, connections: 100, orders: 3_000 },
];
const unitsPerProduct = 1_000_000;
const loadScript = fileURLToPath(new URL('checkout-load.ts', import.meta.url));

let statements = 0;
const dataDir = await mkdtemp(path.join(tmpdir(), 'checkout-bench-'));
const server = await acquireEmbeddedPostgres({ dataDir });
try {
  await migrate(server.url);
  console.log(`Node ${process.version}, ${cpus().length} x ${cpus()[0]?.model}, load generator on the same machine`);
  const table: Record<string, unknown>[] = [];
  for (const run of runs) {
    console.log(
      `${run.strategy}: ${run.orders} checkouts over ${run.connections} connections, ${run.products} products …`,
    );
    table.push(await measure(run));
  }
  console.table(table);
} finally {
  await server.release();
  await rm(dataDir, { recursive: true, force: true });
}

async function measure(run: Run): Promise<Record<string, unknown>> {
  const config = readConfig({ RESERVATION_STRATEGY: run.strategy, LOG_LEVEL: 'fatal' });
  const resources = await openResources(config, server.url);
  await checkDurability(resources);
  const worker = await startWorker(resources, 'all');
  const app = await buildApp({ resources, worker, findObstacle: async () => null });
  const address = await app.listen({ host: '127.0.0.1', port: 0 });
  const tokens = await fillBaskets(resources, run);
  const [began] = await query<{ at: Date }>(resources, 'SELECT clock_timestamp() AS at');
  const load = await crowd(Number(new URL(address).port), run.connections, tokens);
  const completed = await completedSince(resources, began?.at ?? new Date());
  await app.close();
  await worker.stop();
  await resources.close();
  const { strategy, products, connections } = run;
  return {
    strategy,
    products,
    connections,
    'completed/s': completed,
    'answered/s': load.perSecond,
    ...answersOf(load),
  };
}

/** A figure that was got by giving durability up would be worth nothing. */
async function checkDurability(resources: Resources): Promise<void> {
  const off = await query<{ name: string }>(
    resources,
    `SELECT name FROM pg_settings WHERE name IN ('fsync', 'synchronous_commit', 'full_page_writes') AND setting <> 'on'`,
  );
  if (off.length > 0) throw new Error(`Not measured: ${off.map(({ name }) => name).join(', ')} must be on`);
}

/** One basket with one unit for each order, the products in turn; returns their tokens. */
async function fillBaskets(resources: Resources, { products, orders }: Run): Promise<string[]> {
  const run = newId();
  await query(
    resources,
    `WITH made AS (INSERT INTO products (id, sku, name, description, price_cents)
       SELECT gen_random_uuid(), $1 || '-' || n, 'Lamp ' || n, 'A sturdy lamp, made to last and easy to clean', 1000
         FROM generate_series(1, $2::integer) n RETURNING id),
     moved AS (INSERT INTO stock_movements (product_id, delta, kind, who, why)
       SELECT id, $3::integer, 'received', 'bench', 'bench' FROM made)
     INSERT INTO stock (product_id, sellable) SELECT id, $3::integer FROM made`,
    [run, products, unitsPerProduct],
  );
  const tokens = Array.from({ length: orders }, newId);
  for (let first = 0; first < orders; first += 5_000) {
    const some = tokens.slice(first, first + 5_000);
    await query(
      resources,
      `INSERT INTO baskets (id, token, expires_at) SELECT t, t, now() + interval '1 day' FROM unnest($1::uuid[]) t`,
      [some],
    );
    await query(
      resources,
      `INSERT INTO basket_lines (basket_id, product_id, quantity)
       SELECT t.token, p.id, 1 FROM unnest($1::uuid[]) WITH ORDINALITY AS t (token, n)
         JOIN (SELECT id, row_number() OVER (ORDER BY id) AS n FROM products WHERE sku LIKE $2 || '-%') p
           ON p.n = 1 + t.n % $3::integer`,
      [some, run, products],
    );
  }
  return tokens;
}

type Load = { perSecond: number; answersByStatus: Record<string, number>; p50Ms: number; p99Ms: number };

async function crowd(port: number, connections: number, tokens: readonly string[]): Promise<Load> {
  const child = spawn(process.execPath, [loadScript, String(port), String(connections)], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  child.stdin.end(tokens.join('\n'));
  return JSON.parse(await text(child.stdout));
}

function answersOf({ answersByStatus, p50Ms, p99Ms }: Load): Record<string, unknown> {
  const { 202: accepted = 0, ...others } = answersByStatus;
  return { accepted, others: JSON.stringify(others), 'p50 ms': p50Ms, 'p99 ms': p99Ms };
}

/** Orders a second from the first acceptance to the last settlement, once none is open any more. */
async function completedSince(resources: Resources, began: Date): Promise<number> {
  for (;;) {
    const [row] = await query<{ open: number; completed: number; seconds: number }>(
      resources,
      `SELECT count(*) FILTER (WHERE s.ended_at IS NULL) AS open, count(*) FILTER (WHERE s.state = 'completed') AS completed,
              extract(epoch FROM max(s.ended_at) - min(o.created_at))::float8 AS seconds
         FROM orders o JOIN order_states s ON s.order_id = o.id WHERE o.created_at >= $1`,
      [began.toISOString()],
    );
    if (row && row.open === 0) return Math.round(row.completed / row.seconds);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

function query<Row>(resources: Resources, statement: string, values: readonly Value[] = []): Promise<Row[]> {
  return resources.database.query(sql(`bench.${statements++}`, statement), values);
}
