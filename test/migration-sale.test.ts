import { cpSync, globSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import pg from 'pg';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { migrate } from '../src/platform/migrate.ts';
import { startShopping } from './support/busy-shoppers.ts';
import { type ClientRecord, expectAgreement } from './support/client-records.ts';
import { untilMore } from './support/fault-stage.ts';
import { expectNothingLeftOver } from './support/invariants.ts';
import { allEnded, openLedger } from './support/ledger.ts';
import { watchLockWaits } from './support/lock-waits.ts';
import { createTestDatabase, onServer, type TestDatabase } from './support/postgres.ts';
import { startProcess } from './support/process.ts';
import { randomOf, seed } from './support/seed.ts';
import { addProduct } from './support/shop.ts';

/** The promise is 1 s; the rest is for a busy machine. Whoever waited behind a migration would be turned away after 1 s. */
const mostLockWaitMs = 3_000;
/** What a shopper may wait on a busy machine, work included: less than whoever had to wait for the end of a long transaction. */
const mostWaitMs = 6_000;
const heldMs = 10_000;
const testTimeoutMs = 240_000;
const settings = `-- Up Migration\nSET lock_timeout = '100ms';\nSET statement_timeout = '60s';\n`;

let database: TestDatabase;
let directory: string;

beforeEach(async () => {
  database = await createTestDatabase();
  directory = mkdtempSync(path.join(tmpdir(), 'migrations-'));
  cpSync('migrations', directory, { recursive: true });
});

afterEach(async () => {
  rmSync(directory, { recursive: true });
  await database.drop();
});

/** Puts migrations behind those of the shop, in this order. */
function addMigrations(...statements: string[]): void {
  for (const [at, statement] of statements.entries())
    writeFileSync(path.join(directory, `9${String(at).padStart(3, '0')}_test.sql`), `${settings}${statement};\n`);
}

/** An index that is built beside all writes cannot be built in a transaction: its migration is a script. */
function addConcurrentIndex(index: string, on: string): void {
  const statements = [
    `SET lock_timeout = '10s'`,
    `DROP INDEX CONCURRENTLY IF EXISTS ${index}`,
    `CREATE INDEX CONCURRENTLY ${index} ON ${on}`,
  ];
  const script = `export const up = (pgm) => {
    pgm.noTransaction();
    for (const statement of ${JSON.stringify(statements)}) pgm.sql(statement);
  };
  export const down = false;\n`;
  writeFileSync(path.join(directory, '9900_index.mjs'), script);
}

/** Runs `change` while a crowd buys, and expects that nobody was turned away, told an error or kept waiting for long. */
async function duringASale(name: string, change: () => Promise<void>): Promise<void> {
  const shop = await startProcess(database.url);
  const ledger = openLedger(database.url);
  try {
    const products = await Promise.all([1, 2, 3].map(() => addProduct(ledger, { stock: 1_000_000 })));
    const watch = await watchLockWaits(database.url, 'scalecommerce migrate');
    const records: ClientRecord[] = [];
    const stopShopping = startShopping({ shops: [shop], products, count: 12, random: randomOf(name), records });
    await untilMore(records, 100);
    await change();
    await untilMore(records, 100);
    await stopShopping();
    const longestLockWaitMs = await watch.stop();
    await allEnded(ledger);

    expect(records.filter((record) => ![200, 201, 202, 402].includes(record.status))).toEqual([]);
    expect(longestLockWaitMs).toBeLessThan(mostLockWaitMs);
    expect(Math.max(...records.map((record) => record.tookMs))).toBeLessThan(mostWaitMs);
    expect(shop.errors()).toBe('');
    await expectAgreement(ledger, records);
    await expectNothingLeftOver(database.url);
  } finally {
    await ledger.close();
    await shop.end('SIGKILL');
  }
}

describe(`a migration during a sale (FAULT_SEED=${seed})`, { timeout: testTimeoutMs }, () => {
  it('that changes every hot table is felt by nobody', async () => {
    addMigrations(
      'ALTER TABLE baskets ADD COLUMN note text',
      'ALTER TABLE basket_lines ADD COLUMN note text',
      'ALTER TABLE orders ADD COLUMN note text; ALTER TABLE order_lines ADD COLUMN note text',
      'ALTER TABLE order_states ADD COLUMN note text',
      'ALTER TABLE products ADD COLUMN note text',
      'ALTER TABLE stock ADD COLUMN counted_at timestamptz',
      'ALTER TABLE stock ADD CONSTRAINT stock_known CHECK (sellable < 2000000000) NOT VALID',
      'ALTER TABLE stock VALIDATE CONSTRAINT stock_known',
      'ALTER TABLE events ADD CONSTRAINT events_lines CHECK (kind <> id::text) NOT VALID',
    );
    addConcurrentIndex('order_lines_product_id', 'order_lines (product_id)');
    await duringASale('hot tables', async () => {
      expect(await migrate(database.url, { directory })).toHaveLength(10);
    });
    const index = `SELECT indisvalid FROM pg_index WHERE indexrelid = 'order_lines_product_id'::regclass`;
    expect(await onServer(database.url, async (client) => (await client.query(index)).rows)).toEqual([
      { indisvalid: true },
    ]);
  });

  it('that has to wait for a long transaction keeps no shopper waiting behind it', async () => {
    addMigrations('ALTER TABLE orders ADD COLUMN note text');
    await duringASale('long transaction', async () => {
      const startMs = performance.now();
      const migrating = await onServer(database.url, async (reader) => {
        await reader.query('BEGIN');
        await reader.query('SELECT FROM orders LIMIT 1');
        const begun = migrate(database.url, { directory });
        await new Promise((resolve) => setTimeout(resolve, heldMs));
        await reader.query('COMMIT');
        return { begun };
      });
      expect(await migrating.begun).toHaveLength(1);
      expect(performance.now() - startMs).toBeGreaterThan(heldMs);
    });
  });
});

describe('a migration', { timeout: testTimeoutMs }, () => {
  it('that finds its tables locked for good says so, and is done when run again', async () => {
    addMigrations('ALTER TABLE baskets ADD COLUMN note text', 'ALTER TABLE orders ADD COLUMN note text');
    const holder = new pg.Client({ connectionString: database.url });
    await holder.connect();
    await holder.query('BEGIN');
    await holder.query('SELECT FROM orders');
    await expect(migrate(database.url, { directory, patienceMs: 1_000 })).rejects.toThrow(
      /^A migration needs tables that others have kept locked for 1 s: .*; run the same command again$/,
    );
    await holder.end();
    // What could be done is done already.
    expect(await migrate(database.url, { directory })).toEqual(['9001_test']);
    expect(await migrate(database.url, { directory })).toEqual([]);
  });

  it('that is wrong fails at once and leaves nothing behind', async () => {
    addMigrations('ALTER TABLE orders ADD COLUMN note text; SELECT no_such_column');
    await expect(migrate(database.url, { directory })).rejects.toThrow('no_such_column');
    const notes = `SELECT FROM pg_attribute WHERE attrelid = 'orders'::regclass AND attname = 'note'`;
    expect((await onServer(database.url, (client) => client.query(notes))).rowCount).toBe(0);
  });

  it('is run by one of those that start at once', async () => {
    addMigrations('ALTER TABLE orders ADD COLUMN note text', 'ALTER TABLE baskets ADD COLUMN note text');
    const ran = await Promise.all(Array.from({ length: 5 }, () => migrate(database.url, { directory })));
    expect(ran.flat().sort()).toEqual(['9000_test', '9001_test']);
  });

  it.each(globSync('migrations/*.sql').sort())('gives up a lock soon: %s', (file) => {
    expect(readFileSync(file, 'utf8')).toMatch(/^-- Up Migration\nSET lock_timeout = '100ms';\n/);
  });
});
