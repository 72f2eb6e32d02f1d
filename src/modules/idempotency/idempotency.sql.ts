import { type Database, sql, type Tx } from '../../platform/db.ts';

/** A key within its scope: one operation on one basket. */
export type ScopedKey = Readonly<{ basketId: string; operation: string; key: string }>;

/** What is kept of a request: either the order that it made, or its answer. */
export type KeyedEffect = ScopedKey & Readonly<{ digest: string; orderId: string | null; answer: string | null }>;

/** A row that is still valid, for the `place`-th key that was asked for, from 1. */
export type KeyRow = { place: number; request_digest: string; order_id: string | null; answer: string | null };

const keptFor = `interval '24 hours'`;

const selectKeys = sql(
  'idempotency.select',
  `SELECT wanted.place, k.request_digest, k.order_id, k.answer
     FROM unnest($1::uuid[], $2::text[], $3::text[]) WITH ORDINALITY AS wanted (basket_id, operation, key, place)
     JOIN idempotency_keys k ON k.basket_id = wanted.basket_id AND k.operation = wanted.operation AND k.key = wanted.key
    WHERE k.created_at > clock_timestamp() - ${keptFor}`,
);

/** Under the lock of its basket, and after {@link selectKeys}, a row that is in the way can only be an expired one. */
const upsertKeys = sql(
  'idempotency.upsert',
  `INSERT INTO idempotency_keys (basket_id, operation, key, request_digest, order_id, answer)
   SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::uuid[], $6::text[])
   ON CONFLICT (basket_id, operation, key) DO UPDATE
      SET request_digest = excluded.request_digest, created_at = excluded.created_at,
          order_id = excluded.order_id, answer = excluded.answer`,
);

/** Rows that somebody is replacing at this moment are passed over. */
const deleteExpired = sql(
  'idempotency.delete_expired',
  `WITH deleted AS (
     DELETE FROM idempotency_keys WHERE ctid = ANY (ARRAY(
       SELECT ctid FROM idempotency_keys WHERE created_at <= clock_timestamp() - ${keptFor}
        ORDER BY created_at LIMIT $1 FOR UPDATE SKIP LOCKED))
     RETURNING 1)
   SELECT count(*) AS deleted FROM deleted`,
);

/** What is kept under those of the keys that have not expired. */
export function readKeys(tx: Tx, keys: readonly ScopedKey[]): Promise<KeyRow[]> {
  return tx.query(selectKeys, [
    keys.map((key) => key.basketId),
    keys.map((key) => key.operation),
    keys.map((key) => key.key),
  ]);
}

/** With COMMIT: these requests are kept under their keys, in place of expired ones. */
export function deferKeys(tx: Tx, requests: readonly KeyedEffect[]): void {
  tx.defer(upsertKeys, [
    requests.map((request) => request.basketId),
    requests.map((request) => request.operation),
    requests.map((request) => request.key),
    requests.map((request) => request.digest),
    requests.map((request) => request.orderId),
    requests.map((request) => request.answer),
  ]);
}

/** Deletes up to `most` expired keys, the oldest first, and returns how many. */
export async function deleteExpiredKeys(database: Database, most: number): Promise<number> {
  const [row] = await database.query<{ deleted: number }>(deleteExpired, [most]);
  return row?.deleted ?? 0;
}
