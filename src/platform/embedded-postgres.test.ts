import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test, vi } from 'vitest';
import { openPlace } from './embedded-postgres/place.ts';
import { findPostmaster, stopPostmaster } from './embedded-postgres/postmaster.ts';
import { acquireEmbeddedPostgres } from './embedded-postgres.ts';

// Servers are created and started, on a busy machine at that.
vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 });

const settings = { fsync: 'off' };
const root = mkdtempSync(join(tmpdir(), 'scalecommerce-embedded-'));
const seed = join(root, 'seed');
const children: ChildProcess[] = [];
let dataDir: string;
let count = 0;

beforeAll(async () => {
  chmodSync(root, 0o755);
  const postgres = await acquireEmbeddedPostgres({ dataDir: seed, settings });
  await query(postgres.url, 'CREATE TABLE kept AS SELECT 1 AS it');
  await postgres.release();
});

beforeEach(() => {
  dataDir = join(root, String(++count));
  cpSync(seed, dataDir, { recursive: true });
});

afterEach(async () => {
  for (const child of children.splice(0)) child.kill('SIGKILL');
  if (!existsSync(dataDir)) return;
  const place = openPlace(dataDir);
  const left = findPostmaster(place.cluster);
  if (left) await stopPostmaster(place, left.pid);
  rmSync(dataDir, { recursive: true });
});

afterAll(() => rmSync(root, { recursive: true }));

const acquire = () => acquireEmbeddedPostgres({ dataDir, settings });
const postmasterPid = () => findPostmaster(join(dataDir, 'postgres'))?.pid;
const holders = () => readdirSync(join(dataDir, 'postgres.holders'));
const untilGone = (pid: number | undefined) => vi.waitUntil(() => !existsSync(`/proc/${pid}/cwd`), { timeout: 60_000 });

async function query(url: string, text: string): Promise<unknown[]> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return (await client.query(text)).rows;
  } finally {
    await client.end();
  }
}

const moduleUrl = (name: string) => JSON.stringify(new URL(name, import.meta.url).href);

const holderProgram = `
  import { acquireEmbeddedPostgres } from ${moduleUrl('embedded-postgres.ts')};
  const postgres = await acquireEmbeddedPostgres({ dataDir: process.argv[1], settings: ${JSON.stringify(settings)} });
  process.send(postgres.url);
  process.once('message', () => postgres.release().then(() => process.disconnect()));
`;

const lockerProgram = `
  import { withLock } from ${moduleUrl('embedded-postgres/lock.ts')};
  const forEver = new Promise((resolve) => setTimeout(resolve, 1_000_000));
  await withLock(process.argv[1] + '/postgres.lock', () => undefined, () => (process.send('locked'), forEver));
`;

/** Runs a program on the data folder in a process group of its own. */
function run(program: string): ChildProcess {
  const child = spawn(process.execPath, ['--input-type=module', '--eval', program, dataDir], {
    detached: true,
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  });
  children.push(child);
  return child;
}

async function said(child: ChildProcess): Promise<unknown> {
  const [message] = await once(child, 'message');
  return message;
}

async function kill(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  const ended = once(child, 'exit');
  process.kill(-Number(child.pid), signal);
  await ended;
}

test('a new cluster is durable, checks its pages, sorts alike everywhere and listens on loopback only', async () => {
  rmSync(dataDir, { recursive: true });
  const lines: string[] = [];
  const postgres = await acquireEmbeddedPostgres({ dataDir, log: (line) => lines.push(line) });
  const names = ['fsync', 'full_page_writes', 'synchronous_commit', 'data_checksums', 'server_encoding'];
  const shown = `SELECT name, setting FROM pg_settings WHERE name IN ('${names.join("','")}')`;
  expect(Object.fromEntries((await query(postgres.url, shown)).map((row) => Object.values(row as object)))).toEqual({
    fsync: 'on',
    full_page_writes: 'on',
    synchronous_commit: 'on',
    data_checksums: 'on',
    server_encoding: 'UTF8',
  });
  const catalogue = 'SELECT datlocprovider, datlocale FROM pg_database WHERE datname = current_database()';
  expect(await query(postgres.url, catalogue)).toEqual([{ datlocprovider: 'b', datlocale: 'C.UTF-8' }]);
  const addresses = "SELECT current_setting('listen_addresses') a, current_setting('unix_socket_directories') s";
  expect(await query(postgres.url, addresses)).toEqual([{ a: '127.0.0.1', s: '' }]);
  await postgres.release();
  expect(lines.join('\n')).toMatch(/creating .*\n.* runs on 127\.0\.0\.1:\d+ as .*\nstopping/);
});

test('the password is needed, and only its owner can read it', async () => {
  const postgres = await acquire();
  const wrong = new URL(postgres.url);
  wrong.password = 'guess';
  await expect(query(wrong.href, 'SELECT 1')).rejects.toMatchObject({ code: '28P01' });
  expect(statSync(join(dataDir, 'postgres.password')).mode & 0o777).toBe(0o600);
  await postgres.release();
});

test('data outlives the server, and releasing again changes nothing', async () => {
  const postgres = await acquire();
  expect(await query(postgres.url, 'SELECT it FROM kept')).toEqual([{ it: 1 }]);
  await Promise.all([postgres.release(), postgres.release()]);
  expect(postmasterPid()).toBeUndefined();
  await postgres.release();
});

test('processes that come at once share one server, and the last to leave stops it', async () => {
  rmSync(dataDir, { recursive: true });
  const [first, second] = [run(holderProgram), run(holderProgram)];
  const [mine, ...theirs] = await Promise.all([acquire(), said(first), said(second)]);
  expect(theirs).toEqual([mine.url, mine.url]);
  first.send('release');
  await once(first, 'exit');
  await mine.release();
  expect(await query(mine.url, 'SELECT 1 AS it')).toEqual([{ it: 1 }]);
  second.send('release');
  await once(second, 'exit');
  expect(postmasterPid()).toBeUndefined();
  expect(holders()).toEqual([]);
});

test.each(['SIGKILL', 'SIGINT'] as const)('a server left by %s to its only holder is taken over', async (signal) => {
  const holder = run(holderProgram);
  await said(holder);
  const left = postmasterPid();
  await kill(holder, signal);
  const postgres = await acquire();
  expect(postmasterPid()).toBe(left);
  await postgres.release();
  expect(postmasterPid()).toBeUndefined();
  expect(holders()).toEqual([]);
});

test('a holder whose number another process has now does not keep the server', async () => {
  const postgres = await acquire();
  writeFileSync(
    join(dataDir, 'postgres.holders', 'reused'),
    JSON.stringify({ pid: process.ppid, startedAt: 'before' }),
  );
  await postgres.release();
  expect(postmasterPid()).toBeUndefined();
});

test('a database that its starter did not live to create is created', async () => {
  const postgres = await acquire();
  const administration = new URL(postgres.url);
  administration.pathname = '/postgres';
  await query(administration.href, 'DROP DATABASE scalecommerce');
  const later = await acquire();
  expect(await query(later.url, 'SELECT current_database() AS it')).toEqual([{ it: 'scalecommerce' }]);
  await later.release();
  await postgres.release();
});

test('a postmaster killed under a working session is started again, with everything committed', async () => {
  const first = await acquire();
  await query(first.url, 'CREATE TABLE committed AS SELECT 2 AS it');
  const busy = new pg.Client({ connectionString: first.url });
  busy.on('error', () => undefined);
  await busy.connect();
  const lost = busy.query('SELECT count(*) FROM generate_series(1, 1e12)').catch((error: Error) => error);
  const killed = postmasterPid();
  process.kill(Number(killed), 'SIGKILL');
  await untilGone(killed);
  const second = await acquire();
  expect(postmasterPid()).not.toBe(killed);
  expect(await query(second.url, 'SELECT it FROM committed')).toEqual([{ it: 2 }]);
  expect(await lost).toBeInstanceOf(Error);
  await Promise.all([first.release(), second.release()]);
  expect(postmasterPid()).toBeUndefined();
});

test('a postmaster.pid whose number a stranger has by now does not prevent the start', async () => {
  const { uid, gid } = statSync(join(seed, 'postgres'));
  const stranger = spawn('sleep', ['60'], { uid, gid, stdio: 'ignore' });
  children.push(stranger);
  await once(stranger, 'spawn');
  const left = `${stranger.pid}\n/elsewhere\n1\n5432\n\n127.0.0.1\n  0 0\nready   \n`;
  writeFileSync(join(dataDir, 'postgres', 'postmaster.pid'), left, { mode: 0o600 });
  const postgres = await acquire();
  expect(postmasterPid()).not.toBe(stranger.pid);
  await postgres.release();
});

test('a postmaster.pid that was cut short does not prevent the start', async () => {
  writeFileSync(join(dataDir, 'postgres', 'postmaster.pid'), '', { mode: 0o600 });
  await (await acquire()).release();
});

test('a process that dies with the lock in hand blocks nobody', async () => {
  const locker = run(lockerProgram);
  await said(locker);
  const waiting = acquire();
  await kill(locker, 'SIGKILL');
  await (await waiting).release();
});

test('an interrupted creation leaves nothing that is taken for a cluster', async () => {
  rmSync(dataDir, { recursive: true });
  const creator = run(holderProgram);
  const begun = () => existsSync(dataDir) && readdirSync(dataDir).some((name) => name.startsWith('postgres.new-'));
  await vi.waitUntil(begun, { timeout: 60_000, interval: 5 });
  await kill(creator, 'SIGKILL');
  expect(existsSync(join(dataDir, 'postgres'))).toBe(false);
  const postgres = await acquire();
  expect(readdirSync(dataDir).filter((name) => name.startsWith('postgres.new-'))).toEqual([]);
  await postgres.release();
});

test("a creation that was interrupted while it wrote the password stands in nobody's way", async () => {
  rmSync(dataDir, { recursive: true });
  mkdirSync(dataDir);
  writeFileSync(join(dataDir, 'postgres.password'), '', { mode: 0o600 });
  await (await acquire()).release();
});

test('a cluster of another major version is refused by name', async () => {
  writeFileSync(join(dataDir, 'postgres', 'PG_VERSION'), '17\n');
  await expect(acquire()).rejects.toThrow(/made by PostgreSQL 17, but PostgreSQL 18 is installed/);
});

test('a folder with something else in it is left alone', async () => {
  rmSync(join(dataDir, 'postgres', 'PG_VERSION'));
  await expect(acquire()).rejects.toThrow(`${join(dataDir, 'postgres')} is not a PostgreSQL cluster`);
  expect(existsSync(join(dataDir, 'postgres', 'global'))).toBe(true);
});

test('a server that does not start is reported with its folder, its log and the last lines of it', async () => {
  const failed = acquireEmbeddedPostgres({ dataDir, settings: { shared_buffers: 'plenty' } });
  const error = await failed.then(() => undefined).catch((reason: Error) => reason);
  expect(error?.message).toContain(`folder: ${dataDir}\n`);
  expect(error?.message).toContain(`log: ${join(dataDir, 'postgres.log')}\n`);
  expect(error?.message).toContain('invalid value for parameter "shared_buffers": "plenty"');
  expect(holders()).toEqual([]);
});

test('a data folder that cannot be one is reported', async () => {
  writeFileSync(join(dataDir, 'file'), '');
  const impossible = acquireEmbeddedPostgres({ dataDir: join(dataDir, 'file', 'data') });
  await expect(impossible).rejects.toThrow(/data folder .*file\/data cannot be used by user \d+.*DATA_DIR/);
});

test('a cluster may be moved into a closed folder with spaces in its name, and out again', async () => {
  const closed = join(root, 'a closed folder');
  const open = dataDir;
  mkdirSync(closed, { mode: 0o700 });
  for (const place of [join(closed, 'the data'), open]) {
    renameSync(dataDir, place);
    dataDir = place;
    const postgres = await acquire();
    expect(await query(postgres.url, 'SELECT it FROM kept')).toEqual([{ it: 1 }]);
    await postgres.release();
  }
});

test('a server whose data was deleted is stopped all the same', async () => {
  const postgres = await acquire();
  const pid = postmasterPid();
  rmSync(dataDir, { recursive: true });
  await postgres.release();
  expect(existsSync(`/proc/${pid}/cwd`)).toBe(false);
});

test('the log is emptied when it has grown too large', async () => {
  const log = join(dataDir, 'postgres.log');
  truncateSync(log, 11 * 1024 * 1024);
  const postgres = await acquire();
  expect(statSync(log).size).toBeLessThan(100_000);
  expect(readFileSync(log, 'utf8')).toContain('ready to accept connections');
  await postgres.release();
});
