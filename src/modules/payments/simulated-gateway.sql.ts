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

const insertEntry = sql(
  'simulated_gateway.insert',
  `INSERT INTO simulated_gateway.journal
     (key, operation, authorization_key, amount, currency, request_digest, approved, message, reference)
   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
   ON CONFLICT (key) DO NOTHING
   RETURNING key, operation, authorization_key, amount, currency, request_digest, approved, message, reference`,
);

const selectEntry = sql(
  'simulated_gateway.select',
  `SELECT key, operation, authorization_key, amount, currency, request_digest, approved, message, reference
     FROM simulated_gateway.journal WHERE key = $1`,
);

/** What the journal holds under that key. */
export async function findEntry(journal: Reader, key: string): Promise<JournalRow | undefined> {
  const [row] = await journal.query<JournalRow>(selectEntry, [key]);
  return row;
}

/** Writes an entry, or returns the one that is already there under the same key. */
export async function writeEntryOnce(journal: Reader, entry: JournalRow): Promise<JournalRow> {
  const [written] = await journal.query<JournalRow>(insertEntry, [
    entry.key,
    entry.operation,
    entry.authorization_key,
    entry.amount,
    entry.currency,
    entry.request_digest,
    entry.approved,
    entry.message,
    entry.reference,
  ]);
  const row = written ?? (await findEntry(journal, entry.key));
  if (!row) throw new Error(`The journal neither took nor holds an entry under ${entry.key}`);
  return row;
}
