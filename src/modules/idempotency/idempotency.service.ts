import { hash } from 'node:crypto';
import type { Database, Tx } from '../../platform/db.ts';
import { accepted, type Result, refused } from '../../shared/refusal.ts';
import { deferKeys, deleteExpiredKeys, type KeyRow, readKeys } from './idempotency.sql.ts';

/** What a client calls its request: the key, of which operation, and a digest of what it asks for. */
export type RequestKey = Readonly<{ operation: string; key: string; digest: string }>;

/** A request with a key, on a basket that is locked. */
export type KeyedRequest = Readonly<{ basketId: string; key: RequestKey }>;

/** What came of a request: the order that it made, or else its answer. */
export type Effect = Readonly<{ orderId: string; answer: null }> | Readonly<{ orderId: null; answer: string }>;

/** A request with a key, and what came of it. */
export type KeptRequest = KeyedRequest & Readonly<{ effect: Effect }>;

const purgedAtOnce = 1_000;
const otherRequest = refused('unprocessable', 'Idempotency-Key was used before with another request');

/** The key that a client has given a request for `operation` which asks for `wish`, any value that JSON can express. */
export function requestKey(operation: string, key: string, wish: unknown): RequestKey {
  return { operation, key, digest: hash('sha256', canonicalJson(wish), 'base64url') };
}

/**
 * What came of each request the first time, in their order: null for a new one, a refusal where the key was used for
 * something else. Their baskets must be locked: that is what keeps a key from being used twice at once.
 */
export async function recallEffects(tx: Tx, requests: readonly KeyedRequest[]): Promise<Array<Result<Effect> | null>> {
  if (requests.length === 0) return [];
  const rows = await readKeys(
    tx,
    requests.map(({ basketId, key }) => ({ basketId, operation: key.operation, key: key.key })),
  );
  const rowAt = new Map(rows.map((row) => [row.place, row]));
  return requests.map(({ key }, index) => {
    const row = rowAt.get(index + 1);
    if (!row) return null;
    return row.request_digest === key.digest ? accepted(effectFrom(row)) : otherRequest;
  });
}

/** In the commit of `tx`: keeps for 24 hours what came of requests that {@link recallEffects} knew nothing of. */
export function rememberEffects(tx: Tx, requests: readonly KeptRequest[]): void {
  if (requests.length === 0) return;
  deferKeys(
    tx,
    requests.map(({ basketId, key, effect }) => ({ basketId, ...key, ...effect })),
  );
}

/** Deletes all keys that have expired, in short transactions. Returns how many. */
export async function purgeExpiredKeys(database: Database): Promise<number> {
  for (let purged = 0; ; ) {
    const deleted = await deleteExpiredKeys(database, purgedAtOnce);
    purged += deleted;
    if (deleted < purgedAtOnce) return purged;
  }
}

function effectFrom(row: KeyRow): Effect {
  if (row.order_id !== null) return { orderId: row.order_id, answer: null };
  if (row.answer === null) throw new Error('An idempotency key has neither an order nor an answer');
  return { orderId: null, answer: row.answer };
}

/** The same text for the same value, in whatever order its keys came. */
function canonicalJson(value: unknown): string {
  return JSON.stringify(value, (_, part: unknown) => (isRecord(part) ? sortedByKey(part) : part));
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function sortedByKey(record: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(record).sort(([one], [other]) => (one < other ? -1 : 1)));
}
