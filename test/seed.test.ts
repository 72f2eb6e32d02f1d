import { afterEach, beforeEach, expect, test } from 'vitest';
import { seedCatalog } from '../src/modules/catalog/seed.service.ts';
import { bulkLoad } from '../src/platform/copy.ts';
import { sql } from '../src/platform/db.ts';
import { expectNothingLeftOver } from './support/invariants.ts';
import { createTestDatabase, onServer, type TestDatabase } from './support/postgres.ts';

type Row = { id: string; sku: string; name: string; description: string; price_cents: number; sellable: number };

let database: TestDatabase;

beforeEach(async () => {
  database = await createTestDatabase();
});

afterEach(() => database.drop());

const rowsOf = <T extends object = Row>(text: string, url = database.url): Promise<T[]> =>
  onServer(url, async (client) => (await client.query<T>(text)).rows);

const allProducts = `SELECT id, sku, name, description, price_cents::integer, sellable
                       FROM products JOIN stock ON product_id = id ORDER BY id`;

test('a seeded catalogue is on sale, its stock booked, about one in twenty products sold out', async () => {
  expect(await seedCatalog({ url: database.url, products: 2_000 })).toBe('seeded');
  const products = await rowsOf(allProducts);
  expect(products).toHaveLength(2_000);
  expect(products.map((product) => product.sku)).toEqual(products.map((product) => product.sku).toSorted());
  expect(products.at(-1)?.sku).toBe('DEMO-0002000');
  for (const product of products) {
    expect(product.id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
    expect(product.price_cents).toBeGreaterThanOrEqual(100);
    expect(product.price_cents).toBeLessThanOrEqual(50_000);
    expect(product.sellable).toBeLessThanOrEqual(1_000);
  }
  const soldOut = products.filter((product) => product.sellable === 0).length;
  expect(soldOut).toBeGreaterThan(60);
  expect(soldOut).toBeLessThan(140);
  const [movements] = await rowsOf<{ count: number }>('SELECT count(*)::integer FROM stock_movements');
  expect(movements?.count).toBe(2_000 - soldOut);
  await expectNothingLeftOver(database.url);
});

test('the same products come in every catalogue, whatever their number', async () => {
  const other = await createTestDatabase();
  try {
    await seedCatalog({ url: database.url, products: 30 });
    await seedCatalog({ url: other.url, products: 20 });
    expect((await rowsOf(allProducts)).slice(0, 20)).toEqual(await rowsOf(allProducts, other.url));
  } finally {
    await other.drop();
  }
});

test('progress is told up to the end', async () => {
  const told: number[] = [];
  await seedCatalog({ url: database.url, products: 25_000, onProgress: (loaded) => told.push(loaded) });
  expect(told).toEqual([0, 20_000, 25_000]);
});

test('a catalogue with a product in it, even an archived one, is left alone', async () => {
  await rowsOf(`INSERT INTO products (id, sku, name, description, price_cents, archived_at)
                VALUES (gen_random_uuid(), 'A', 'A', '', 1, now())`);
  expect(await seedCatalog({ url: database.url, products: 10 })).toBe('not_empty');
  expect(await rowsOf('SELECT FROM products')).toHaveLength(1);
});

test('of several seeds at once one seeds and the others leave it alone', async () => {
  const outcomes = await Promise.all([1, 2, 3, 4].map(() => seedCatalog({ url: database.url, products: 3_000 })));
  expect(outcomes.filter((outcome) => outcome === 'seeded')).toHaveLength(1);
  expect(await rowsOf('SELECT FROM products')).toHaveLength(3_000);
});

test('a seed does not wait for whoever is adding a product', async () => {
  await onServer(database.url, async (client) => {
    await client.query('BEGIN');
    await client.query(`INSERT INTO products (id, sku, name, description, price_cents)
                        VALUES (gen_random_uuid(), 'A', 'A', '', 1)`);
    expect(await seedCatalog({ url: database.url, products: 10 })).toBe('busy');
    await client.query('ROLLBACK');
  });
  expect(await seedCatalog({ url: database.url, products: 10 })).toBe('seeded');
});

test('a seed that is stopped, or loses its connection, leaves nothing, and the next one succeeds', async () => {
  const controller = new AbortController();
  const stopAtFirstChunk = (loaded: number): void => {
    if (loaded > 0) controller.abort(new Error('enough'));
  };
  const { url } = database;
  const stopped = seedCatalog({ url, products: 60_000, signal: controller.signal, onProgress: stopAtFirstChunk });
  await expect(stopped).rejects.toThrow('enough');
  let cut: Promise<unknown> | undefined;
  const cutAtFirstChunk = (loaded: number): void => {
    if (loaded > 0) cut ??= rowsOf(terminateLoads);
  };
  await expect(seedCatalog({ url, products: 60_000, onProgress: cutAtFirstChunk })).rejects.toThrow();
  await cut;
  expect(await rowsOf('SELECT FROM products')).toEqual([]);
  expect(await seedCatalog({ url, products: 10 })).toBe('seeded');
});

const terminateLoads = `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                         WHERE datname = current_database() AND application_name = 'scalecommerce load'`;

test('COPY takes any text there is', async () => {
  const texts = ['plain', 'a\tb\nc\r\nd', '\\N', '\\.', 'back\\slash', '"quoted", comma', '', ' ', '😀'];
  await rowsOf('CREATE TABLE texts (position integer, content text NOT NULL)');
  const target = { table: 'texts', columns: ['position', 'content'] };
  const rows = texts.map((content, position) => [position, content]);
  const seenInside = await bulkLoad(database.url, async (loader) => {
    await loader.copy(target, rows);
    return loader.query<{ count: number }>(sql('test.count', 'SELECT count(*)::integer FROM texts WHERE $1'), [true]);
  });
  expect(seenInside).toEqual([{ count: texts.length }]);
  const found = await rowsOf<{ content: string }>('SELECT content FROM texts ORDER BY position');
  expect(found.map((row) => row.content)).toEqual(texts);
});

test('a load that the server refuses fails with its reason and leaves nothing', async () => {
  await rowsOf('CREATE TABLE numbers (number integer CHECK (number < 3))');
  const load = bulkLoad(database.url, (loader) =>
    loader.copy({ table: 'numbers', columns: ['number'] }, [[1], [2], [3]]),
  );
  await expect(load).rejects.toThrow(/violates check constraint/);
  expect(await rowsOf('SELECT FROM numbers')).toEqual([]);
});
