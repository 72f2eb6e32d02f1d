import { setTimeout as sleep } from 'node:timers/promises';
import type { LightMyRequestResponse as Response } from 'fastify';
import type { Client } from 'pg';
import { onServer } from './postgres.ts';

/** Rows to hold: a statement that locks them, and its parameters. */
export type Held = Readonly<{ lock: string; values: readonly unknown[] }>;

const pollMs = 3;
const timeoutMs = 60_000;

/** The basket that `token` opens. */
export function heldBasket(token: string | null): Held {
  return { lock: 'SELECT FROM baskets WHERE token = $1 FOR NO KEY UPDATE', values: [token] };
}

/** The stock of some products, locked in the global order. */
export function heldStock(productIds: readonly string[]): Held {
  return {
    lock: 'SELECT FROM stock WHERE product_id = ANY ($1::uuid[]) ORDER BY product_id FOR NO KEY UPDATE',
    values: [productIds],
  };
}

/** A machine that is too slow for so many at once asks some to come again (503: nothing was taken), and they do. */
export async function untilDecided(request: () => Promise<Response>): Promise<Response> {
  for (;;) {
    const response = await request();
    if (response.statusCode !== 503) return response;
  }
}

/** Starts all `requests`, the first `waiting` of them so that they stand before `held`, and then lets go of it. */
export function releaseTogether<T>(
  url: string,
  held: Held,
  waiting: number,
  requests: ReadonlyArray<() => Promise<T>>,
): Promise<T[]> {
  return whileHeld(url, held, async (holder) => {
    const answers = requests.slice(0, waiting).map((request) => request());
    await untilWaiting(holder, waiting);
    return [...answers, ...requests.slice(waiting).map((request) => request())];
  });
}

/** Starts `requests` one after the other, each once those before it stand before `held`: they are let in in this order. */
export function releaseInOrder<T>(url: string, held: Held, requests: ReadonlyArray<() => Promise<T>>): Promise<T[]> {
  return whileHeld(url, held, async (holder) => {
    const answers: Array<Promise<T>> = [];
    for (const request of requests) {
      answers.push(request());
      await untilWaiting(holder, answers.length);
    }
    return answers;
  });
}

async function whileHeld<T>(
  url: string,
  { lock, values }: Held,
  start: (holder: Client) => Promise<Array<Promise<T>>>,
): Promise<T[]> {
  const answers = await onServer(url, async (holder) => {
    await holder.query('BEGIN');
    await holder.query(lock, [...values]);
    const started = await start(holder);
    await holder.query('COMMIT');
    return { started };
  });
  return Promise.all(answers.started);
}

async function untilWaiting(holder: Client, waiting: number): Promise<void> {
  const deadlineMs = performance.now() + timeoutMs;
  for (;;) {
    // Within a transaction the list of sessions stays as it was first read.
    await holder.query('SELECT pg_stat_clear_snapshot()');
    const { rows } = await holder.query<{ waiting: number }>(
      `SELECT count(*)::integer AS waiting FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'`,
    );
    if (Number(rows[0]?.waiting) >= waiting) return;
    if (performance.now() > deadlineMs) throw new Error(`${rows[0]?.waiting} of ${waiting} wait after ${timeoutMs} ms`);
    await sleep(pollMs);
  }
}
