import { setTimeout as sleep } from 'node:timers/promises';
import type { Client } from 'pg';
import { onServer } from './postgres.ts';
import type { Held } from './race.ts';

/** What came of an operation, and when it began and was over on the monotonic clock. */
export type Step<T> = Readonly<{ result: T; startedAtMs: number; endedAtMs: number }>;

const pollMs = 2;
const timeoutMs = 60_000;
/** Who has not moved for so long waits in a line of the process, where nobody can see it. */
const quietMs = 40;

/**
 * Starts `operations` in this order while `held` is locked, each when all before it are over or wait, and then lets go
 * of it.
 */
export async function stepThrough<T>(
  url: string,
  held: Held,
  operations: ReadonlyArray<() => Promise<T>>,
): Promise<Step<T>[]> {
  const steps = await onServer(url, async (holder) => {
    await holder.query('BEGIN');
    await holder.query(held.lock, [...held.values]);
    const started: Array<Promise<Step<T>>> = [];
    let open = 0;
    for (const operation of operations) {
      open++;
      const step = timed(operation).finally(() => open--);
      // Whoever fails is heard of at the end.
      step.catch(() => undefined);
      started.push(step);
      await untilStanding(holder, () => open);
    }
    await holder.query('COMMIT');
    return { started };
  });
  return Promise.all(steps.started);
}

async function timed<T>(operation: () => Promise<T>): Promise<Step<T>> {
  const startedAtMs = performance.now();
  const result = await operation();
  return { result, startedAtMs, endedAtMs: performance.now() };
}

async function untilStanding(client: Client, countOpen: () => number): Promise<void> {
  let seen = '';
  for (let movedAtMs = performance.now(); countOpen() > 0; ) {
    const waiting = await countWaiting(client);
    if (waiting >= countOpen()) return;
    const now = `${waiting} of ${countOpen()}`;
    if (now !== seen) movedAtMs = performance.now();
    if (waiting > 0 && performance.now() - movedAtMs > quietMs) return;
    seen = now;
    await sleep(pollMs);
  }
}

async function untilWaiting(client: Client, count: number): Promise<void> {
  const deadlineMs = performance.now() + timeoutMs;
  for (let waiting = 0; waiting < count; waiting = await countWaiting(client)) {
    if (performance.now() > deadlineMs) throw new Error(`${waiting} of ${count} wait after ${timeoutMs} ms`);
    await sleep(pollMs);
  }
}

/** Sessions that stand before a lock. */
async function countWaiting(client: Client): Promise<number> {
  // A transaction keeps its first view of the sessions, without those that came since.
  await client.query('SELECT pg_stat_clear_snapshot()');
  const { rows } = await client.query<{ waiting: number }>(
    `SELECT count(*)::integer AS waiting FROM pg_stat_activity
      WHERE datname = current_database() AND wait_event_type = 'Lock'`,
  );
  return rows[0]?.waiting ?? 0;
}

/**
 * Breaks the order of locks on purpose, so that `operation`, which takes the stock of three products in their order, is
 * the victim of a deadlock: once it has the first, somebody who has the third asks for the first, and never looks for
 * deadlocks itself.
 */
export async function crossOnce<T>(
  url: string,
  lockOf: (index: 0 | 1 | 2) => Held,
  operation: () => Promise<T>,
): Promise<T> {
  return onServer(url, (holder) =>
    onServer(url, async (intruder) => {
      await intruder.query(`SET deadlock_timeout = '1h'`);
      for (const [client, held] of [
        [holder, lockOf(1)],
        [intruder, lockOf(2)],
      ] as const) {
        await client.query('BEGIN');
        await client.query(held.lock, [...held.values]);
      }
      const running = operation();
      await untilWaiting(holder, 1);
      const first = lockOf(0);
      const crossing = intruder.query(first.lock, [...first.values]);
      await untilWaiting(holder, 2);
      await holder.query('COMMIT');
      await crossing;
      await intruder.query('ROLLBACK');
      return running;
    }),
  );
}
