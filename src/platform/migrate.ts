import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { runner } from 'node-pg-migrate';
import { Client } from 'pg';
import { sqlStateOf } from './db.ts';

export type MigrationOptions = Readonly<{
  /** Where the migrations are, if not in the project's own folder. */
  directory?: string;
  /** For how long a migration is tried whose tables somebody else keeps locked. */
  patienceMs?: number;
}>;

const migrationsDirectory = fileURLToPath(new URL('../../migrations', import.meta.url));
const defaultPatienceMs = 60_000;
/** Long enough for all who had to wait behind a try to get on. */
const pauseMs = 500;
const lockTimedOut = '55P03';

/**
 * Brings the database at `url` to the newest schema and returns the names of the migrations it ran, each a commit of its
 * own. Processes that start at once wait for each other: one migrates, the others find nothing left to do.
 *
 * Whoever wants a table that a migration waits for waits behind it. So each migration sets a short `lock_timeout`, and when
 * that is not enough all of it is undone and tried again after a pause. Throws when that goes on for `patienceMs`.
 */
export async function migrate(url: string, options: MigrationOptions = {}): Promise<string[]> {
  const { directory = migrationsDirectory, patienceMs = defaultPatienceMs } = options;
  const ran: string[] = [];
  for (;;) {
    const name = await patiently(() => runNext(url, directory), patienceMs);
    if (name === null) return ran;
    ran.push(name);
  }
}

async function patiently<T>(attempt: () => Promise<T>, patienceMs: number): Promise<T> {
  const untilMs = performance.now() + patienceMs;
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      if (sqlStateOf(error) !== lockTimedOut) throw error;
      if (performance.now() > untilMs) throw tablesStayLocked(patienceMs, error);
      await sleep(pauseMs * (1 + Math.random()));
    }
  }
}

function tablesStayLocked(patienceMs: number, cause: unknown): Error {
  const message = `A migration needs tables that others have kept locked for ${patienceMs / 1000} s: look for long transactions in pg_stat_activity. Nothing of it was done; run the same command again`;
  return new Error(message, { cause });
}

/** On a connection of its own: closing it undoes what has failed, and nothing that a migration sets reaches the next. */
async function runNext(url: string, directory: string): Promise<string | null> {
  const client = new Client({ connectionString: url, application_name: 'scalecommerce migrate' });
  await client.connect();
  try {
    const [migration] = await runner({
      dbClient: client,
      dir: directory,
      direction: 'up',
      count: 1,
      migrationsTable: 'migrations',
      checkOrder: true,
      singleTransaction: false,
      advisoryLockMode: 'wait',
      log: () => undefined,
    });
    return migration?.name ?? null;
  } finally {
    await client.end();
  }
}
