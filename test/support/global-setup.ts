import { type ChildProcess, fork } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { TestProject } from 'vitest/node';
import { migrate } from '../../src/platform/migrate.ts';
import { dropDatabase, onServer, urlOfDatabase } from './postgres.ts';

declare module 'vitest' {
  interface ProvidedContext {
    /** The server of this run; the names of its databases start with `prefix`, and new ones are copied from `template`. */
    testServer: { url: string; prefix: string; template: string };
  }
}

type Server = { url: string; stop(): Promise<void> };

/**
 * Once per run: a server (that of DATABASE_URL, else a throw-away one) with a migrated template for every test's own
 * database. The returned function removes all of it, and fails when a test left a database behind.
 */
export async function setup(project: TestProject): Promise<() => Promise<void>> {
  const server = await openServer(process.env.DATABASE_URL);
  const prefix = `sc_test_${randomBytes(4).toString('hex')}_`;
  const template = `${prefix}template`;
  const teardown = () => close(server, prefix, template);
  try {
    await makeTemplate(server.url, template);
  } catch (error) {
    await teardown();
    throw error;
  }
  project.provide('testServer', { url: server.url, prefix, template });
  return teardown;
}

async function makeTemplate(url: string, template: string): Promise<void> {
  await onServer(url, (client) => client.query(`CREATE DATABASE ${template} TEMPLATE template0 ENCODING 'UTF8'`));
  await migrate(urlOfDatabase(url, template));
  // A session on the template would keep it from being copied.
  await onServer(url, (client) => client.query(`ALTER DATABASE ${template} ALLOW_CONNECTIONS false`));
}

async function close(server: Server, prefix: string, template: string): Promise<void> {
  try {
    const left = await dropAll(server.url, prefix);
    const leaked = left.filter((name) => name !== template);
    if (leaked.length > 0) throw new Error(`Tests did not drop their databases: ${leaked.join(', ')}`);
  } finally {
    await server.stop();
  }
}

/** Returns the names of the databases that were still there. */
async function dropAll(url: string, prefix: string): Promise<string[]> {
  const names = await onServer(url, async (client) => {
    const query = 'SELECT datname FROM pg_database WHERE starts_with(datname, $1) ORDER BY datname';
    const { rows } = await client.query<{ datname: string }>(query, [prefix]);
    return rows.map((row) => row.datname);
  });
  for (const name of names) await dropDatabase(url, name);
  return names;
}

async function openServer(url: string | undefined): Promise<Server> {
  if (url) return { url, stop: async () => undefined };
  const path = fileURLToPath(new URL('cluster-keeper.ts', import.meta.url));
  const keeper = fork(path, { detached: true, execArgv: [], stdio: ['ignore', 'ignore', 'inherit', 'ipc'] });
  return { url: await urlFrom(keeper), stop: () => stopKeeper(keeper) };
}

async function urlFrom(keeper: ChildProcess): Promise<string> {
  const ended = once(keeper, 'exit').then(([code]) => {
    throw new Error(`The test cluster could not be started (exit status ${code}, its reason is above)`);
  });
  const [message] = await Promise.race([once(keeper, 'message'), ended]);
  return (message as { url: string }).url;
}

async function stopKeeper(keeper: ChildProcess): Promise<void> {
  const ended = keeper.exitCode === null ? once(keeper, 'exit') : [keeper.exitCode];
  if (keeper.connected) keeper.disconnect();
  const [code] = await ended;
  if (code !== 0) throw new Error(`The test cluster was not removed (exit status ${code}, its reason is above)`);
}
