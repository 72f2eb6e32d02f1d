import { readFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type MetricsServer, serveMetrics } from '../src/bin/metrics.ts';
import { startCommand } from './support/command.ts';
import { eventually } from './support/eventually.ts';
import { createTestDatabase } from './support/postgres.ts';
import { addProduct, endedOrder, openTestShop, orderIdOf, Shopper, type TestShop } from './support/shop.ts';

/** A series by its name and labels, as it is served. */
type Series = Readonly<Record<string, number>>;

const anyPort = { METRICS_PORT: '0' };
/** On a busy machine. */
const startTimeoutMs = 120_000;

async function read(address: string): Promise<string> {
  const answer = await fetch(address);
  expect(answer.headers.get('content-type')).toBe('text/plain; version=0.0.4; charset=utf-8');
  return answer.text();
}

function seriesIn(text: string): Series {
  const lines = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  return Object.fromEntries(lines.map((line) => [line.replace(/ \S+$/, ''), Number(line.replace(/^.* /, ''))]));
}

describe('metrics', () => {
  let shop: TestShop;
  let metrics: MetricsServer;

  async function openShop(environment: Record<string, string> = {}): Promise<void> {
    shop = await openTestShop({ ...anyPort, ...environment });
    const served = await serveMetrics(shop.resources);
    if (!served) throw new Error('No metrics are served');
    metrics = served;
  }

  beforeEach(() => openShop());
  afterEach(async () => {
    await metrics.close();
    await shop.close();
  });

  async function checkOut(paymentToken = 'tok_success'): Promise<{ shopper: Shopper; id: string; product: string }> {
    const product = await addProduct(shop);
    const shopper = new Shopper(shop.app);
    await shopper.put(product, 1);
    return { shopper, product, id: orderIdOf(await shopper.checkout('v2', { payment_token: paymentToken })) };
  }

  it('are those that docs/metrics.md lists, each of the type that it says', async () => {
    const { shopper, id } = await checkOut();
    await endedOrder(shopper, id);
    const text = await read(metrics.address);
    const served = new Map([...text.matchAll(/^# TYPE (\S+) (\S+)$/gm)].map(([, name, type]) => [name, type]));
    const page = readFileSync('docs/metrics.md', 'utf8');
    const listed = new Map([...page.matchAll(/^\| `(\S+)` \| (\S+) \|/gm)].map(([, name, type]) => [name, type]));
    expect([...served].filter(([name, type]) => listed.get(name) !== type)).toEqual([]);
    // What a process can tell of itself depends on its operating system.
    const ours = [...listed.keys()].filter((name) => name?.startsWith('scalecommerce_'));
    expect(ours.filter((name) => !served.has(name))).toEqual([]);
  });

  it('count lines and pools by their names', async () => {
    const { shopper, id } = await checkOut();
    await endedOrder(shopper, id);
    const series = seriesIn(await read(metrics.address));
    for (const line of ['basket writes', 'checkouts', 'settlements']) {
      expect(series[`scalecommerce_line_served_total{line="${line}"}`]).toBeGreaterThan(0);
      const batches = series[`scalecommerce_line_batch_size_count{line="${line}"}`];
      expect(batches).toBeGreaterThan(0);
      expect(series[`scalecommerce_line_batch_size_bucket{line="${line}",le="+Inf"}`]).toBe(batches);
      expect(series[`scalecommerce_line_wait_seconds_sum{line="${line}"}`]).toBeGreaterThanOrEqual(0);
      expect(series[`scalecommerce_line_waiting{line="${line}"}`]).toBe(0);
      expect(series[`scalecommerce_line_turned_away_total{line="${line}",why="full"}`]).toBe(0);
    }
    expect(series['scalecommerce_pool_connections_max{pool="engine"}']).toBe(12);
    expect(series['scalecommerce_pool_connections{pool="engine"}']).toBeGreaterThan(0);
    expect(series['scalecommerce_pool_waiting{pool="worker"}']).toBe(0);
    expect(series.nodejs_eventloop_lag_p99_seconds).toBeGreaterThan(0);
    expect(series.process_resident_memory_bytes).toBeGreaterThan(0);
  });

  it('count open orders, those that wait for the gateway and those that are parked', async () => {
    await metrics.close();
    await shop.close();
    await openShop({ ROLE: 'web' });
    const made = [await checkOut(), await checkOut(), await checkOut()];
    await shop.query('UPDATE order_states SET unanswered_since = now() WHERE order_id = $1', [made[0]?.id ?? '']);
    await shop.query(
      `UPDATE order_states SET parked_at = now(), parked_reason = 'test' WHERE order_id = ANY ($1::uuid[])`,
      [made.slice(0, 2).map(({ id }) => id)],
    );
    expect(seriesIn(await read(metrics.address))).toMatchObject({
      scalecommerce_orders_open: 3,
      scalecommerce_orders_unanswered: 1,
      scalecommerce_orders_parked: 2,
    });
    // Counted a moment ago: the next who looks costs the database nothing.
    await shop.query('UPDATE order_states SET unanswered_since = NULL');
    expect(seriesIn(await read(metrics.address))).toMatchObject({ scalecommerce_orders_unanswered: 1 });
  });

  it('count events, and who waits for them', async () => {
    const { shopper, id } = await checkOut();
    await endedOrder(shopper, id);
    await eventually(async () => {
      const series = seriesIn(await read(metrics.address));
      return series.scalecommerce_events_published_total === 1 && series.scalecommerce_events_listening === 1;
    });
    expect(seriesIn(await read(metrics.address))).toMatchObject({
      scalecommerce_events_received_total: 0,
      scalecommerce_events_dropped_total: 0,
      scalecommerce_events_found_total: 0,
      scalecommerce_events_watchers: 0,
    });
  });

  it('name nobody and nothing', async () => {
    const { shopper, id, product } = await checkOut('tok_of_a_stranger');
    await endedOrder(shopper, id);
    const text = await read(metrics.address);
    for (const secret of [shopper.token ?? '', id, product, 'tok_', '@', '/api/']) expect(text).not.toContain(secret);
    expect(text).not.toMatch(/[0-9a-f]{8}-[0-9a-f]{4}-/);
  });

  it('are at one address, and can only be read', async () => {
    const elsewhere = await fetch(metrics.address.replace('/metrics', '/'));
    const written = await fetch(metrics.address, { method: 'POST' });
    expect([elsewhere.status, written.status, written.headers.get('allow')]).toEqual([404, 405, 'GET, HEAD']);
  });
});

describe('metrics of a shop without its database', () => {
  it('leave out what only the database knows', async () => {
    const shop = await openTestShop(anyPort);
    const metrics = await serveMetrics({
      ...shop.resources,
      reader: { query: () => Promise.reject(new Error('The database is away')) },
    });
    const series = seriesIn(await read(metrics?.address ?? ''));
    expect(Object.keys(series).filter((name) => name.startsWith('scalecommerce_orders_'))).toEqual([]);
    expect(series).toHaveProperty('scalecommerce_pool_waiting{pool="engine"}');
    await metrics?.close();
    await shop.close();
  });
});

describe('start', { timeout: startTimeoutMs }, () => {
  it.each(['all', 'web', 'worker'])('serves metrics as %s where METRICS_PORT is set', async (role) => {
    const database = await createTestDatabase();
    const environment = { DATABASE_URL: database.url, PORT: '0', SEED_PRODUCTS: '0', LOG_LEVEL: 'silent' };
    const { process: child, ended } = startCommand(['start'], { ...environment, ...anyPort, ROLE: role });
    let said = '';
    child.stdout?.on('data', (chunk) => {
      said += chunk;
    });
    const address = await eventually(() => /^Metrics at (\S+)$/m.exec(said)?.[1]);
    expect(seriesIn(await read(address))).toMatchObject({ scalecommerce_orders_open: 0 });
    await eventually(() => /open at|worker: paying/.test(said));
    child.kill('SIGTERM');
    expect(await ended).toMatchObject({ status: 0, stderr: '' });
    await expect(fetch(address)).rejects.toThrow();
    await database.drop();
  });

  it('says whose port is taken before it starts anything', async () => {
    const shop = await openTestShop(anyPort);
    const metrics = await serveMetrics(shop.resources);
    const port = new URL(metrics?.address ?? '').port;
    const { ended } = startCommand(['start'], { DATABASE_URL: shop.url, PORT: '0', METRICS_PORT: port });
    const stderr = `scalecommerce: Port ${port} on 127.0.0.1 is in use by another program. Stop it, or choose another port, such as METRICS_PORT=${Number(port) + 1}.\n`;
    expect(await ended).toEqual({ status: 1, stdout: '', stderr });
    await metrics?.close();
    await shop.close();
  });
});
