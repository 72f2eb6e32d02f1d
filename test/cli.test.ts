import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type Ended, runCommand, startCommand } from './support/command.ts';
import { expectSoon } from './support/expect-soon.ts';
import { expectNothingLeftOver } from './support/invariants.ts';
import { createTestDatabase, onServer, type TestDatabase } from './support/postgres.ts';

const commands = ['start', 'migrate', 'seed', 'import', 'audit', 'stock', 'order', 'reconcile'];
const { version } = JSON.parse(readFileSync('package.json', 'utf8'));
const password = 'hush';
/** Nobody listens on port 1. */
const nowhere = { DATABASE_URL: `postgres://shop:${password}@127.0.0.1:1/shop` };
const header = 'sku,name,description,price_cents,currency,stock';

/** Several commands, one after the other, on a busy machine. */
const testTimeoutMs = 120_000;

let folder: string;

beforeAll(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'cli-'));
});

afterAll(() => rmSync(folder, { recursive: true }));

const fileOf = (name: string, content: string): string => {
  const file = path.join(folder, name);
  writeFileSync(file, content);
  return file;
};

const numberedCsv = (count: number): string =>
  [header, ...Array.from({ length: count }, (_, at) => `SKU-${at},Lamp,It shines,${at + 1},USD,3`)].join('\n');

describe('the command line', () => {
  test('helps, and names every command', async () => {
    const { status, stdout, stderr } = await runCommand(['--help'], {});
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    for (const command of commands) expect(stdout).toMatch(new RegExp(`^  ${command} `, 'm'));
  });

  test.each(commands)('helps with %s', async (command) => {
    const { status, stdout, stderr } = await runCommand([command, '--help'], {});
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(stdout).toContain(`Usage: scalecommerce ${command}`);
  });

  test.each([[[]], ...commands.map((command) => [[command]])])('tells its version: %j --version', async (command) => {
    expect(await runCommand([...command, '--version'], {})).toEqual({ status: 0, stdout: `${version}\n`, stderr: '' });
  });

  test.each([
    [[], 'no command given (scalecommerce --help lists them)'],
    [['sed'], "unknown command 'sed' (Did you mean seed?)"],
    [['--port'], "unknown option '--port'"],
    [['start', '--port', '5'], "unknown option '--port'"],
    [['migrate', 'now'], "too many arguments for 'migrate'. Expected 0 arguments but got 1: now."],
    [['seed'], "option '--products <N>' is missing"],
    [['seed', '--product', '5'], "unknown option '--product' (Did you mean --products?)"],
    [['seed', '--products'], "option '--products <N>' argument missing"],
    [
      ['seed', '--products', '1e3'],
      "option '--products <N>' argument '1e3' is invalid. It must be a whole number from 1 to 10000000.",
    ],
    [
      ['seed', '--products', '0'],
      "option '--products <N>' argument '0' is invalid. It must be a whole number from 1 to 10000000.",
    ],
    [['import'], "missing required argument 'FILE'"],
    [['import', 'a.csv', 'b.csv'], "too many arguments for 'import'. Expected 1 argument but got 2: a.csv, b.csv."],
    [['import', '--stok', 'a.csv'], "unknown option '--stok' (Did you mean --stock?)"],
    [['audit', '--timeout-s', 'x'], /^option '--timeout-s <SECONDS>' argument 'x' is invalid\. .* from 1 to 86400\.$/],
    [['import', 'nowhere.csv'], /^The file cannot be read: ENOENT.*'nowhere\.csv'$/],
    [['import', '.'], '. is a folder, not a file'],
  ])('refuses %j in one line', async (args, reason) => {
    const { status, stdout, stderr } = await runCommand(args, nowhere);
    expect({ status, stdout }).toEqual({ status: 2, stdout: '' });
    expect(stderr).toMatch(/^scalecommerce: .*\n$/);
    expect(stderr.replace(/^scalecommerce: (.*)\n$/, '$1')).toEqual(
      typeof reason === 'string' ? reason : expect.stringMatching(reason),
    );
  });

  test.each(['start', 'migrate', 'audit'])('tells every fault of the environment at once: %s', async (command) => {
    const faulty = { PORT: 'x', CURRENCY: 'usd', DATABASE_URL: `mysql://shop:${password}@db/shop` };
    const { status, stdout, stderr } = await runCommand([command], faulty);
    expect({ status, stdout }).toEqual({ status: 2, stdout: '' });
    expect(stderr.split('\n')).toEqual([
      'scalecommerce: The environment is not valid:',
      expect.stringMatching(/^ {2}PORT="x"/),
      expect.stringMatching(/^ {2}DATABASE_URL=\(hidden\)/),
      expect.stringMatching(/^ {2}CURRENCY="usd"/),
      '',
    ]);
  });

  test.each([['migrate'], ['seed', '--products', '5'], ['audit']])(
    'fails in one line without a database: %s',
    async (...args) => {
      const { status, stdout, stderr } = await runCommand(args, nowhere);
      expect({ status, stdout }).toEqual({ status: 1, stdout: '' });
      expect(stderr).toMatch(
        /^scalecommerce: The database cannot be .*ECONNREFUSED 127\.0\.0\.1:1.*\(check DATABASE_URL\)\n$/,
      );
      expect(stderr).not.toContain(password);
    },
  );
});

describe('on a database', { timeout: testTimeoutMs }, () => {
  let database: TestDatabase;

  beforeEach(async () => {
    database = await createTestDatabase();
  });

  afterEach(() => database.drop());

  const run = (args: readonly string[], environment: Record<string, string> = {}): Promise<Ended> =>
    runCommand(args, { DATABASE_URL: database.url, ...environment });

  const rowsOf = <T extends object>(text: string): Promise<T[]> =>
    onServer(database.url, async (client) => (await client.query<T>(text)).rows);

  const productCount = async (): Promise<number> => (await rowsOf('SELECT FROM products')).length;

  /** Starts a command, gives it `signal` once `isUnderWay`, and waits for its end. */
  const interrupt = async (
    args: readonly string[],
    signal: NodeJS.Signals,
    isUnderWay: () => Promise<boolean>,
  ): Promise<Ended> => {
    const { process, ended } = startCommand(args, { DATABASE_URL: database.url });
    await expect.poll(isUnderWay, { timeout: 60_000, interval: 5 }).toBe(true);
    process.kill(signal);
    return ended;
  };

  const isLoading = async (): Promise<boolean> => {
    const loading = await rowsOf(`SELECT FROM pg_stat_activity
       WHERE datname = current_database() AND application_name = 'scalecommerce load' AND query LIKE 'COPY%'`);
    return loading.length > 0;
  };

  test('migrate says when there is nothing to do', async () => {
    expect(await run(['migrate'])).toEqual({ status: 0, stdout: 'The schema is the newest.\n', stderr: '' });
  });

  test('seed fills an empty catalogue and refuses one that is not', async () => {
    const seeded = { status: 0, stdout: 'Seeded 50 products.\n', stderr: '' };
    expect(await run(['seed', '--products', '50'])).toEqual(seeded);
    const stderr =
      'scalecommerce: The catalogue is not empty; seed only ever fills an empty one. Nothing was changed.\n';
    expect(await run(['seed', '--products', '50'])).toEqual({ status: 1, stdout: '', stderr });
    expect(await productCount()).toBe(50);
  });

  test('the currency of the first command is that of the shop', async () => {
    await run(['seed', '--products', '5'], { CURRENCY: 'EUR' });
    const { status, stderr } = await run(['import', fileOf('usd.csv', numberedCsv(1))]);
    expect(status).toBe(1);
    expect(stderr).toMatch(/^scalecommerce: This shop's prices are in EUR, but CURRENCY is USD\..*\n$/);
  });

  test.each([
    ['SIGINT', 130],
    ['SIGTERM', 143],
    ['SIGKILL', null],
  ] as const)('a seed that is given %s leaves an empty catalogue', async (signal, expected) => {
    const { status, stderr } = await interrupt(['seed', '--products', '500000'], signal, isLoading);
    expect(status).toBe(expected);
    if (expected !== null) expect(stderr).toMatch(/^scalecommerce: Stopped before the end; nothing was seeded\.\n$/m);
    expect(await productCount()).toBe(0);
    // The server may take a moment to notice that a killed client is gone.
    await expectSoon(isLoading).toBe(false);
    expect((await run(['seed', '--products', '5'])).status).toBe(0);
  });

  test('import puts good lines in, names the bad ones and ends with 1 for them', async () => {
    const file = fileOf(
      'some.csv',
      `${header}\nA,Lamp,,5,USD,1\nB,Lamp,,x,EUR,1\n\n"C\nD",Lamp,,5,USD,1\nE,Lamp,,5,USD,2\n`,
    );
    expect(await run(['import', file])).toEqual({
      status: 1,
      stdout: 'created 2, changed 0, unchanged 0, bad 2\n',
      stderr: [
        'line 3: price_cents must be a whole number from 1 to 1000000000, not "x"; currency "EUR" is not the shop\'s, USD',
        'lines 5-6: sku holds a control character',
        '',
      ].join('\n'),
    });
    const again = await run(['import', '--stock', fileOf('good.csv', `${header}\nA,Lamp,,5,USD,9\nE,Lamp,,5,USD,2\n`)]);
    expect(again).toEqual({ status: 0, stdout: 'created 0, changed 1, unchanged 1, bad 0\n', stderr: '' });
    await expectNothingLeftOver(database.url);
  });

  test('import refuses in one line a file that is not what it should be', async () => {
    const { status, stderr } = await run(['import', fileOf('no-header.csv', 'A,Lamp,,5,USD,1\n')]);
    expect(status).toBe(1);
    expect(stderr).toMatch(/^scalecommerce: the first line must name the columns .*\n$/);
    expect(await productCount()).toBe(0);
  });

  test('import that is interrupted says how far it came and goes on from there when run again', async () => {
    const file = fileOf('many.csv', numberedCsv(60_000));
    const hasBegun = async (): Promise<boolean> => (await productCount()) > 0;
    const { status, stdout, stderr } = await interrupt(['import', file], 'SIGINT', hasBegun);
    const created = await productCount();
    expect(status).toBe(130);
    expect(stdout).toBe(`created ${created}, changed 0, unchanged 0, bad 0\n`);
    expect(stderr).toContain(`scalecommerce: Stopped. Everything up to line ${created + 1} is done;`);
    const rest = { status: 0, stdout: `created ${60_000 - created}, changed 0, unchanged ${created}, bad 0\n` };
    expect(await run(['import', file])).toMatchObject(rest);
    await expectNothingLeftOver(database.url);
  });

  test('import that is killed has kept whole chunks and goes on from there when run again', async () => {
    const file = fileOf('killed.csv', numberedCsv(10_000));
    await interrupt(['import', file], 'SIGKILL', async () => (await productCount()) > 1_000);
    await expectNothingLeftOver(database.url);
    expect((await productCount()) % 500).toBe(0);
    expect((await run(['import', file])).status).toBe(0);
    expect(await productCount()).toBe(10_000);
    await expectNothingLeftOver(database.url);
  });

  test('audit prints every invariant with its count, and ends with 1 when one is violated', async () => {
    await run(['seed', '--products', '50']);
    const clean = await run(['audit']);
    expect(clean).toMatchObject({ status: 0, stderr: '' });
    expect(clean.stdout).toMatch(/^violations {2}invariant +what holds\n/);
    expect(clean.stdout).toMatch(/^ {9}0 {2}stock_adds_up +sellable = received/m);
    expect(clean.stdout).toMatch(/^ {9}0 {2}parked_orders .*\(counted only, no violation\)$/m);
    expect(clean.stdout).toMatch(/\nAll \d+ invariants hold\.\n$/);
    await rowsOf('UPDATE stock SET sellable = sellable + 1');
    const broken = await run(['audit']);
    expect(broken).toMatchObject({ status: 1, stderr: '' });
    expect(broken.stdout).toMatch(
      /^ {8}50 {2}stock_adds_up .*\n {12}e\.g\. [0-9a-f-]{36}, [0-9a-f-]{36}, [0-9a-f-]{36}$/m,
    );
    expect(broken.stdout).toMatch(/\n1 of \d+ invariants are violated\.\n$/);
  });

  test('audit ends at once when it is interrupted', async () => {
    await onServer(database.url, async (holder) => {
      await holder.query('BEGIN');
      await holder.query('LOCK TABLE events IN ACCESS EXCLUSIVE MODE');
      const isWaiting = async (): Promise<boolean> => {
        const waiting = await rowsOf(`SELECT FROM pg_stat_activity
           WHERE datname = current_database() AND application_name = 'scalecommerce audit' AND wait_event_type = 'Lock'`);
        return waiting.length > 0;
      };
      const stderr = 'scalecommerce: Stopped before the end; nothing is known.\n';
      expect(await interrupt(['audit'], 'SIGINT', isWaiting)).toEqual({ status: 130, stdout: '', stderr });
      await holder.query('ROLLBACK');
    });
  });
});
