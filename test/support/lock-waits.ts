import { setTimeout as sleep } from 'node:timers/promises';
import { Client } from 'pg';

/** Measures how long sessions wait for locks; `stop` returns the longest wait, in ms. */
export type LockWatch = Readonly<{ stop(): Promise<number> }>;

const pollMs = 10;

/** Watches the sessions of the database at `url`, but for those named `ignored`. */
export async function watchLockWaits(url: string, ignored: string): Promise<LockWatch> {
  const client = new Client({ connectionString: url, application_name: 'scalecommerce test' });
  await client.connect();
  let isOpen = true;
  const longest = watch(client, ignored, () => isOpen).finally(() => client.end());
  return {
    stop: () => {
      isOpen = false;
      return longest;
    },
  };
}

async function watch(client: Client, ignored: string, isOpen: () => boolean): Promise<number> {
  let longestMs = 0;
  while (isOpen()) {
    const { rows } = await client.query<{ waited_ms: number }>(
      `SELECT coalesce(max(extract(epoch FROM clock_timestamp() - locks.waitstart)) * 1000, 0)::integer AS waited_ms
         FROM pg_locks locks JOIN pg_stat_activity activity USING (pid)
        WHERE NOT locks.granted AND activity.datname = current_database() AND activity.application_name <> $1`,
      [ignored],
    );
    longestMs = Math.max(longestMs, rows[0]?.waited_ms ?? 0);
    await sleep(pollMs);
  }
  return longestMs;
}
