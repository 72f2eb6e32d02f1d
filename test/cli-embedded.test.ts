import { chmodSync, globSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { type Ended, type Running, runCommand, startCommand } from './support/command.ts';
import { eventually } from './support/eventually.ts';

const header = 'sku,name,description,price_cents,currency,stock';

// Each command starts a server of its own, on a busy machine at that.
vi.setConfig({ testTimeout: 240_000, hookTimeout: 120_000 });

let folder: string;
let environment: Record<string, string>;

beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'cli-embedded-'));
  // Where the tests run as root, PostgreSQL runs as somebody who must get in here.
  chmodSync(folder, 0o755);
  environment = { DATA_DIR: path.join(folder, 'data'), PORT: '0', SEED_PRODUCTS: '20' };
});

let running: Running | null = null;

afterEach(async () => {
  running?.process.kill('SIGTERM');
  await running?.ended;
  running = null;
  rmSync(folder, { recursive: true, force: true });
});

const run = (...args: string[]): Promise<Ended> => runCommand(args, environment);

/** A running postmaster keeps this file. */
const serverIsRunning = (): boolean => globSync(`${folder}/**/postmaster.pid`).length > 0;

async function untilOpen({ process, ended }: Running): Promise<void> {
  if (!process.stdout) throw new Error('The command has no output to wait for');
  for await (const line of createInterface(process.stdout)) if (line.includes('is open at')) return;
  throw new Error(`It did not open: ${(await ended).stderr}`);
}

test('each command works alone on a new folder, and leaves no server behind', async () => {
  const migrated = await run('migrate');
  expect(migrated).toMatchObject({ status: 0, stderr: '' });
  expect(migrated.stdout).toMatch(/^ran 0001_shop\n.*The schema is now the newest\.\n$/s);
  expect(serverIsRunning()).toBe(false);
  expect((await run('seed', '--products', '100')).stdout).toBe('Seeded 100 products.\n');
  expect((await run('audit')).stdout).toMatch(/\nAll \d+ invariants hold\.\n$/);
  expect(serverIsRunning()).toBe(false);
});

test('a command that is interrupted leaves no server behind', async () => {
  const seeding = startCommand(['seed', '--products', '1000000'], environment);
  running = seeding;
  await eventually(serverIsRunning);
  seeding.process.kill('SIGINT');
  expect((await seeding.ended).status).toBe(130);
  expect(serverIsRunning()).toBe(false);
});

test('each command works beside a running shop on the same folder', async () => {
  const shop = startCommand(['start'], environment);
  running = shop;
  await untilOpen(shop);
  const file = path.join(folder, 'products.csv');
  writeFileSync(file, `${header}\nDEMO-0000001,Lamp,It shines,1000,USD,5\nNEW,Chair,,2000,USD,5\n`);
  const ran = await Promise.all([run('import', '--stock', file), run('migrate'), run('seed', '--products', '5')]);
  expect(ran.map(({ status }) => status)).toEqual([0, 0, 1]);
  expect((await run('audit')).stdout).toMatch(/\nAll \d+ invariants hold\.\n$/);
  expect(serverIsRunning()).toBe(true);
  shop.process.kill('SIGTERM');
  expect((await shop.ended).status).toBe(0);
  expect(serverIsRunning()).toBe(false);
});

test.each(['/proc/x', '/dev/null/x/y'])('says in one line that the data folder %s cannot be made', async (dataDir) => {
  running = startCommand(['start'], { ...environment, DATA_DIR: dataDir });
  const tooLong = setTimeout(() => running?.process.kill('SIGKILL'), 60_000);
  const { status, stderr } = await running.ended;
  clearTimeout(tooLong);
  expect(stderr).toMatch(/^scalecommerce: The data folder \S+ cannot be used by user \d+: .*set DATA_DIR.*\n$/);
  expect(status).toBe(1);
});
