import { type Reader, sql } from '../../platform/db.ts';

export type JournalRow = {
  key: string;
  operation: 'authorize' | 'capture';
  authorization_key: string | null;
  amount: number;
  currency: string;
  request_digest: string;
  approved: boolean;
  message: string | null;
  reference: string;
};

const columns = 'key, operation, authorization_key, amount, currency, request_digest, approved, message, reference';

/**
 * The order of the keys keeps two batches that share some from waiting for each other in a circle. A capture is only
 * written where its authorization was approved for as much.
 */
const insertEntries = sql(
  'simulated_gateway.insert',
  `INSERT INTO simulated_gateway.journal AS j (${columns})
   SELECT e.* FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::text[], $6::text[], $7::boolean[],
                          $8::text[], $9::uuid[]) AS e (${columns})
     LEFT JOIN simulated_gateway.journal a ON a.key = e.authorization_key
    WHERE e.operation = 'authorize' OR (a.approved AND e.amount <= a.amount AND e.currency = a.currency)
    ORDER BY e.key
   ON CONFLICT (key) DO NOTHING
   RETURNING ${columns}`,
);

const selectEntries = sql(
  'simulated_gateway.select',
  `SELECT ${columns} FROM simulated_gateway.journal WHERE key = ANY ($1::text[])`,
);

/**
 * Writes entries in one commit, and returns what the journal holds under their keys then: the entry itself, or the
 * one that was there before. A capture without an approved authorization is missing.
 */
export async function writeEntriesOnce(
  journal: Reader,
  entries: readonly JournalRow[],
): Promise<Map<string, JournalRow>> {
  const written = await journal.query<JournalRow>(insertEntries, [
    entries.map((entry) => entry.key),
    entries.map((entry) => entry.operation),
    entries.map((entry) => entry.authorization_key),
    entries.map((entry) => entry.amount),
    entries.map((entry) => entry.currency),
    entries.map((entry) => entry.request_digest),
    entries.map((entry) => entry.approved),
    entries.map((entry) => entry.message),
    entries.map((entry) => entry.reference),
  ]);
  const held = new Map(written.map((row) => [row.key, row]));
  const others = entries.map((entry) => entry.key).filter((key) => !held.has(key));
  if (others.length === 0) return held;
  for (const row of await journal.query<JournalRow>(selectEntries, [others])) held.set(row.key, row);
  return held;
}
