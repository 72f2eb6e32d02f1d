import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type ImportOptions, type ImportReport, importCatalog } from '../src/modules/catalog/import.service.ts';
import { type Database, openDatabase, type Value } from '../src/platform/db.ts';
import { expectSoon } from './support/expect-soon.ts';
import { expectNothingLeftOver } from './support/invariants.ts';
import { createTestDatabase, onServer, type TestDatabase } from './support/postgres.ts';

type Line = Readonly<{ sku: string; name?: string; description?: string; price?: number; stock?: number }>;
type BadLine = Readonly<{ line: number; faults: string }>;
type ProductState = { sku: string; name: string; price: number; sellable: number };

let database: TestDatabase;
let db: Database;

beforeEach(async () => {
  database = await createTestDatabase();
  db = open('one');
});

afterEach(async () => {
  await db.close();
  await database.drop();
});

const open = (name: string): Database =>
  openDatabase({ url: database.url, name, connections: 1, waiting: 1, onError: () => undefined });

const rowsOf = <T extends object>(text: string, values: readonly Value[] = []): Promise<T[]> =>
  onServer(database.url, async (client) => (await client.query<T>(text, [...values])).rows);

const json = ({ sku, name = 'Lamp', description = 'It shines', price = 1000, stock = 5 }: Line): string =>
  JSON.stringify({ sku, name, description, price_cents: price, currency: 'USD', stock });

const numbered = (count: number, change: (index: number) => Partial<Line> = () => ({})): Line[] =>
  Array.from({ length: count }, (_, index) => ({ sku: `SKU-${String(index).padStart(5, '0')}`, ...change(index) }));

async function* bytesOf(content: string): AsyncGenerator<Buffer> {
  yield Buffer.from(content);
}

const quiet: ImportOptions = {
  currency: 'USD',
  withStock: false,
  onBadLine: () => undefined,
  onProgress: () => undefined,
  onWaiting: () => undefined,
  signal: new AbortController().signal,
};

const importText = (content: string, options: Partial<ImportOptions> = {}, on = db): Promise<ImportReport> =>
  importCatalog(on, { name: 'products.ndjson', chunks: bytesOf(content) }, { ...quiet, ...options });

const importLines = (lines: readonly Line[], options: Partial<ImportOptions> = {}, on = db): Promise<ImportReport> =>
  importText(lines.map(json).join('\n'), options, on);

const products = (): Promise<ProductState[]> =>
  rowsOf(`SELECT sku, name, price_cents::integer AS price, sellable
            FROM products JOIN stock ON product_id = id ORDER BY sku COLLATE "C"`);

/** Changes whenever any row of the catalogue is written, even to the same values. */
const rowVersions = (): Promise<object[]> =>
  rowsOf(`SELECT sku, p.xmin::text AS product, s.xmin::text AS stock, p.updated_at
            FROM products p JOIN stock s ON product_id = id ORDER BY sku`);

const movements = (): Promise<object[]> =>
  rowsOf(`SELECT sku, delta, kind, who, why FROM stock_movements m JOIN products p ON p.id = product_id ORDER BY m.id`);

const withoutLine = (report: ImportReport): object => {
  const { created, changed, unchanged, bad } = report;
  return { created, changed, unchanged, bad };
};

describe('new SKUs', () => {
  test('are created with their stock, booked as received', async () => {
    const report = await importLines([{ sku: 'A' }, { sku: 'B', stock: 0, price: 3, name: 'Chair' }]);
    expect(report).toEqual({ created: 2, changed: 0, unchanged: 0, bad: 0, lastLine: 2 });
    expect(await products()).toEqual([
      { sku: 'A', name: 'Lamp', price: 1000, sellable: 5 },
      { sku: 'B', name: 'Chair', price: 3, sellable: 0 },
    ]);
    const received = { sku: 'A', delta: 5, kind: 'received', who: 'import', why: 'products.ndjson, line 1' };
    expect(await movements()).toEqual([received]);
    await expectNothingLeftOver(database.url);
  });

  test('come into the catalogue in the order of the file', async () => {
    await importLines([{ sku: 'C' }, { sku: 'A' }, { sku: 'B' }]);
    expect(await rowsOf('SELECT sku FROM products ORDER BY id')).toEqual([{ sku: 'C' }, { sku: 'A' }, { sku: 'B' }]);
  });
});

describe('known SKUs', () => {
  test('are changed in name, description and price, their stock only when asked for', async () => {
    await importLines(numbered(4));
    const changes: Line[] = [
      { sku: 'SKU-00000', name: 'Chair', stock: 99 },
      { sku: 'SKU-00001', description: 'It does not', stock: 99 },
      { sku: 'SKU-00002', price: 7, stock: 99 },
      { sku: 'SKU-00003', stock: 99 },
    ];
    expect(withoutLine(await importLines(changes))).toEqual({ created: 0, changed: 3, unchanged: 1, bad: 0 });
    expect((await products()).map((product) => product.sellable)).toEqual([5, 5, 5, 5]);
    const report = await importLines(changes, { withStock: true });
    expect(withoutLine(report)).toEqual({ created: 0, changed: 4, unchanged: 0, bad: 0 });
    expect((await products()).map((product) => product.sellable)).toEqual([99, 99, 99, 99]);
    const adjusted = { sku: 'SKU-00000', delta: 94, kind: 'adjusted', who: 'import', why: 'products.ndjson, line 1' };
    expect((await movements())[4]).toEqual(adjusted);
    await expectNothingLeftOver(database.url);
  });

  test('that are as the file says are not written, nor even locked', async () => {
    await importLines(numbered(3));
    const before = await rowVersions();
    await onServer(database.url, async (client) => {
      await client.query('BEGIN');
      await client.query('SELECT FROM stock FOR UPDATE');
      await client.query('SELECT FROM products FOR UPDATE');
      const report = await importLines(numbered(3), { withStock: true });
      expect(withoutLine(report)).toEqual({ created: 0, changed: 0, unchanged: 3, bad: 0 });
      await client.query('ROLLBACK');
    });
    expect(await rowVersions()).toEqual(before);
  });

  test('keep their limit per order, and stay archived', async () => {
    await importLines([{ sku: 'A' }]);
    await rowsOf('UPDATE products SET archived_at = now(), max_per_order = 2');
    const report = await importLines([{ sku: 'A', price: 7, stock: 9 }], { withStock: true });
    expect(report.changed).toBe(1);
    const kept = { price: 7, archived: true, max_per_order: 2 };
    const select = `SELECT price_cents::integer AS price, archived_at IS NOT NULL AS archived, max_per_order FROM products`;
    expect(await rowsOf(select)).toEqual([kept]);
    await expectNothingLeftOver(database.url);
  });

  test('are limited in an order where a line says so, and from then on until another does', async () => {
    const limited = (sku: string, limit: number | null): string =>
      json({ sku }).replace('}', `,"max_per_order":${limit}}`);
    const limits = (): Promise<object[]> => rowsOf('SELECT sku, max_per_order AS most FROM products ORDER BY sku');
    expect(await importText([limited('A', 2), limited('B', null), json({ sku: 'C' })].join('\n'))).toMatchObject({
      created: 3,
    });
    expect(await limits()).toEqual([
      { sku: 'A', most: 2 },
      { sku: 'B', most: null },
      { sku: 'C', most: null },
    ]);
    const second = [json({ sku: 'A', price: 7 }), limited('B', 5), limited('C', null)].join('\n');
    expect(await importText(second)).toMatchObject({ changed: 2, unchanged: 1 });
    expect(await limits()).toEqual([
      { sku: 'A', most: 2 },
      { sku: 'B', most: 5 },
      { sku: 'C', most: null },
    ]);
    expect(await importText([limited('A', null), limited('B', 6)].join('\n'))).toMatchObject({ changed: 2 });
    expect(await limits()).toMatchObject([{ most: null }, { most: 6 }, { most: null }]);
    await expectNothingLeftOver(database.url);
  });

  test('show their change by the time of it', async () => {
    await importLines([{ sku: 'A' }]);
    const select = 'SELECT updated_at FROM products';
    const [before] = await rowsOf<{ updated_at: Date }>(select);
    await importLines([{ sku: 'A', price: 7 }]);
    const [after] = await rowsOf<{ updated_at: Date }>(select);
    expect(after?.updated_at.getTime()).toBeGreaterThan(before?.updated_at.getTime() ?? Number.NaN);
  });
});

describe('a file', () => {
  test('gives its good lines, and its bad ones with number and reason', async () => {
    const bad: BadLine[] = [];
    const content = [
      json({ sku: 'A' }),
      json({ sku: 'B' }).replace('USD', 'EUR'),
      '',
      json({ sku: 'C', price: 0 }),
      'nonsense',
      json({ sku: 'D' }),
    ].join('\n');
    const report = await importText(content, {
      onBadLine: (line, _lastLine, faults) => bad.push({ line, faults: faults.join('; ') }),
    });
    expect(report).toEqual({ created: 2, changed: 0, unchanged: 0, bad: 3, lastLine: 6 });
    expect(bad).toEqual([
      { line: 2, faults: `currency "EUR" is not the shop's, USD` },
      { line: 4, faults: 'price_cents must be a whole number from 1 to 1000000000, not "0"' },
      { line: 5, faults: 'not a JSON object' },
    ]);
    expect((await products()).map((product) => product.sku)).toEqual(['A', 'D']);
  });

  test('is taken in chunks of at most 500 lines that commit by themselves', async () => {
    const progress: number[] = [];
    await importLines(numbered(1_200), { onProgress: (report) => progress.push(report.lastLine) });
    expect(progress).toEqual([500, 1000, 1200]);
    const commits = await rowsOf('SELECT xmin::text, count(*)::integer FROM products GROUP BY 1 ORDER BY 2');
    expect(commits.map((commit) => (commit as { count: number }).count)).toEqual([200, 500, 500]);
  });

  test('of bad lines alone reaches its end without a commit', async () => {
    const report = await importText('x\n'.repeat(1_100));
    expect(report).toEqual({ created: 0, changed: 0, unchanged: 0, bad: 1_100, lastLine: 1_100 });
  });

  test('ends in the same state when it is run again, and leaves every row alone then', async () => {
    const lines = numbered(700, (index) => ({ price: 1 + index, stock: index % 3 }));
    await importLines(lines, { withStock: true });
    const [state, versions] = [await products(), await rowVersions()];
    const report = await importLines(lines, { withStock: true });
    expect(withoutLine(report)).toEqual({ created: 0, changed: 0, unchanged: 700, bad: 0 });
    expect([await products(), await rowVersions()]).toEqual([state, versions]);
  });

  test.each([1, 499, 500, 501])('that repeats a SKU %i lines later counts line by line', async (distance) => {
    const between = numbered(distance - 1);
    const lines = [{ sku: 'A', price: 1, stock: 3 }, ...between, { sku: 'A', price: 2, stock: 8 }];
    const report = await importLines(lines);
    expect(report).toMatchObject({ created: distance, changed: 1 });
    expect((await products())[0]).toEqual({ sku: 'A', name: 'Lamp', price: 2, sellable: 3 });
    await importLines(lines, { withStock: true });
    expect((await products())[0]).toEqual({ sku: 'A', name: 'Lamp', price: 2, sellable: 8 });
    await expectNothingLeftOver(database.url);
  });

  test('stops when told to, after the chunk in flight', async () => {
    const controller = new AbortController();
    const report = await importLines(numbered(2_000), {
      signal: controller.signal,
      onProgress: () => controller.abort(),
    });
    expect(report).toMatchObject({ created: 500, lastLine: 500 });
    expect(await products()).toHaveLength(500);
  });

  test('takes any text that PostgreSQL can hold', async () => {
    const name = `quote ' double " back \\ brace {a,b} NULL ${'😀'} ,`;
    await importLines([{ sku: '{"\\NULL', name, description: '\ttab\nand\rmore\u0001' }]);
    expect(await products()).toMatchObject([{ sku: '{"\\NULL', name }]);
  });
});

describe('beside others', () => {
  test('two imports of the same new SKUs in opposite order make each once, in one of the two versions', async () => {
    const other = open('other');
    const lines = (name: string): Line[] => numbered(1_500, () => ({ name, price: name.length }));
    const reports = await Promise.all([
      importLines(lines('Lamp')),
      importLines(lines('Chair').toReversed(), {}, other),
    ]);
    await other.close();
    expect(reports.reduce((sum, report) => sum + report.created, 0)).toBe(1_500);
    const found = await products();
    expect(found).toHaveLength(1_500);
    for (const { name, price } of found) expect(price).toBe(name.length);
    await expectNothingLeftOver(database.url);
  });

  test('imports of the same stock at once end in figures of one of them, every unit booked', async () => {
    await importLines(numbered(1_000));
    const imports = [10, 20, 30].map(async (stock) => {
      const connection = open(`stock ${stock}`);
      const lines = numbered(1_000, () => ({ stock, price: stock }));
      await importLines(stock === 20 ? lines.toReversed() : lines, { withStock: true }, connection);
      await connection.close();
    });
    await Promise.all(imports);
    for (const { sellable, price } of await products()) {
      expect([10, 20, 30]).toContain(sellable);
      expect([10, 20, 30]).toContain(price);
    }
    await expectNothingLeftOver(database.url);
  });

  test('--stock books its delta over what was sold while it waited for the row', async () => {
    await importLines([{ sku: 'A', stock: 100 }]);
    await onServer(database.url, async (sale) => {
      await sale.query('BEGIN');
      await sale.query('UPDATE stock SET sellable = sellable - 30');
      const importing = importLines([{ sku: 'A', stock: 40, price: 7 }], { withStock: true });
      await expectSoon(() =>
        rowsOf(`SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`),
      ).toHaveLength(1);
      await sale.query('COMMIT');
      expect(await importing).toMatchObject({ changed: 1 });
    });
    expect(await products()).toMatchObject([{ sellable: 40, price: 7 }]);
    expect((await movements())[1]).toMatchObject({ delta: -30, kind: 'adjusted' });
  });

  test('without --stock an import waits for sales of what it changes, and for no others', async () => {
    await importLines(numbered(3));
    await onServer(database.url, async (sale) => {
      await sale.query('BEGIN');
      await sale.query('UPDATE stock SET sellable = sellable - 1');
      expect(await importLines(numbered(3, () => ({ stock: 9 })))).toMatchObject({ unchanged: 3 });
      const importing = importLines(numbered(3, () => ({ price: 7 })));
      await expectSoon(() =>
        rowsOf(`SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`),
      ).toHaveLength(1);
      await sale.query('COMMIT');
      expect(await importing).toMatchObject({ changed: 3 });
    });
    expect((await products()).map(({ price, sellable }) => [price, sellable])).toEqual([
      [7, 4],
      [7, 4],
      [7, 4],
    ]);
  });

  test('an import outlasts a row that is held for longer than a lock is waited for', async () => {
    await importLines([{ sku: 'A' }]);
    await onServer(database.url, async (holder) => {
      await holder.query('BEGIN');
      await holder.query('SELECT FROM products FOR UPDATE');
      const waits: string[] = [];
      const importing = importLines([{ sku: 'A', price: 7 }], { onWaiting: (reason) => waits.push(reason) });
      await expectSoon(() => waits).not.toEqual([]);
      await holder.query('ROLLBACK');
      expect(await importing).toMatchObject({ changed: 1 });
    });
  });

  test('an import that is told to stop while it waits stops, and has changed nothing', async () => {
    await importLines([{ sku: 'A' }]);
    const controller = new AbortController();
    await onServer(database.url, async (holder) => {
      await holder.query('BEGIN');
      await holder.query('SELECT FROM products FOR UPDATE');
      const report = await importLines([{ sku: 'A', price: 7 }], {
        signal: controller.signal,
        onWaiting: () => controller.abort(),
      });
      expect(report).toMatchObject({ changed: 0, lastLine: 0 });
    });
  });

  test('an import whose connections keep being cut ends in the state of the file', async () => {
    const lines = numbered(3_000, (index) => ({ stock: index % 7, price: 1 + index }));
    let chunks = 0;
    const cuts: Array<Promise<object[]>> = [];
    const cut = (): void => {
      if (chunks++ % 2 === 0) cuts.push(rowsOf(terminateImports));
    };
    await importLines(lines, { withStock: true, onProgress: cut });
    await Promise.all(cuts);
    expect(await products()).toEqual(
      lines.map(({ sku, price, stock }) => ({ sku, name: 'Lamp', price, sellable: stock })),
    );
    await expectNothingLeftOver(database.url);
  });
});

const terminateImports = `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                           WHERE datname = current_database() AND application_name = 'scalecommerce one'`;
