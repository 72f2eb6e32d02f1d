import { setTimeout as sleep } from 'node:timers/promises';
import { onServer } from './postgres.ts';

const deadlockTimeoutMs = 10;
const pollMs = 10;
const timeoutMs = 60_000;

const endOthers = `SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity
                    WHERE datname = current_database() AND pid <> pg_backend_pid()`;

/**
 * From now on the sessions in the database at `url` look for deadlocks long before a lock wait times out, which would
 * hide them. Those that are open are ended, so that they come back with this setting.
 */
export async function noticeDeadlocksSoon(url: string): Promise<void> {
  await onServer(url, async (client) => {
    const database = new URL(url).pathname.slice(1);
    await client.query(`ALTER DATABASE ${database} SET deadlock_timeout = ${deadlockTimeoutMs}`);
  });
  await endSessions(url);
}

/**
 * How many deadlocks there have been in the database at `url`. A session tells of its own only now and then, but
 * always when it ends: so all of them are ended. Whoever needs one afterwards gets a new one.
 */
export async function countDeadlocks(url: string): Promise<number> {
  await endSessions(url);
  return onServer(url, async (client) => {
    const count = 'SELECT deadlocks::integer AS count FROM pg_stat_database WHERE datname = current_database()';
    const { rows } = await client.query<{ count: number }>(count);
    return rows[0]?.count ?? Number.NaN;
  });
}

/** Waits for those that were there: the pools open new ones meanwhile. */
async function endSessions(url: string): Promise<void> {
  await onServer(url, async (client) => {
    const { rows: ended } = await client.query<{ pid: number }>(endOthers);
    const pids = ended.map((row) => row.pid);
    const deadlineMs = performance.now() + timeoutMs;
    for (;;) {
      const { rows: left } = await client.query('SELECT FROM pg_stat_activity WHERE pid = ANY ($1::integer[])', [pids]);
      if (left.length === 0) return;
      if (performance.now() > deadlineMs) throw new Error(`${left.length} sessions go on after ${timeoutMs} ms`);
      await sleep(pollMs);
    }
  });
}
