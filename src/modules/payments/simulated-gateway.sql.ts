import { type Reader, sql, sqlStateOf } from '../../platform/db.ts';
import { newId } from '../../shared/ids.ts';
import type { GatewayAuthorization, GatewayRecord, ListRequest } from './payments.service.ts';

export type JournalRow = {
  key: string;
  operation: GatewayRecord['operation'];
  /** Of all but an authorization: the key of the one that it is about. */
  authorization_key: string | null;
  amount: number;
  currency: string;
  /** Of an authorization, and of the captures and voids that repeat it: the digest of its request. */
  request_digest: string;
  approved: boolean;
  closed: boolean;
  message: string | null;
  reference: string;
};

/**
 * Where one call stands once it was written: its entry, or the one that was there before under its key. Only when there
 * is none: what kept it from being written.
 */
export type Standing = Readonly<{
  entry: JournalRow | undefined;
  authorization?: JournalRow | undefined;
  /** The capture or the void that ended the authorization. */
  end?: JournalRow | undefined;
  refund?: JournalRow | undefined;
}>;

const uniqueViolation = '23505';

const columns =
  'key, operation, authorization_key, amount, currency, request_digest, approved, closed, message, reference';

/**
 * No lock is taken and nothing is read first: of a capture and a void that come together, the one that is first in
 * journal_one_end stands, and the other waits for its commit. A snapshot may miss an authorization that is being written,
 * so a void need not see the one that it closes. The order keeps two batches that share some authorizations from waiting
 * for each other in a circle. OFFSET 0 makes the planner look each authorization up by its key: it took to hashing the
 * whole book for each batch, at five times the cost (221 microseconds an order instead of 41 to 47, for its two entries).
 */
const insertText = `INSERT INTO simulated_gateway.journal AS j (${columns})
   SELECT e.* FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::text[], $6::text[], $7::boolean[],
                          $8::boolean[], $9::text[], $10::uuid[]) AS e (${columns})
     LEFT JOIN LATERAL (SELECT * FROM simulated_gateway.journal WHERE key = e.authorization_key OFFSET 0) a ON true
    WHERE CASE e.operation
          WHEN 'capture' THEN a.operation = 'authorize' AND a.approved AND a.request_digest = e.request_digest
          WHEN 'void' THEN a.key IS NULL OR (a.operation = 'authorize' AND a.request_digest = e.request_digest)
          ELSE true END
    ORDER BY coalesce(e.authorization_key, e.key), e.operation, e.key`;

/** Fails, whole, when one of its places is taken. For two entries 13 microseconds, and 19 with ON CONFLICT. */
const insertFirst = sql('simulated_gateway.insert_first', `${insertText} RETURNING key`);

/** Leaves out what finds its place taken. */
const insertFree = sql('simulated_gateway.insert_free', `${insertText} ON CONFLICT DO NOTHING RETURNING key`);

/** One index for each: the keys, journal_one_end, journal_one_refund. */
const selectRelated = sql(
  'simulated_gateway.select_related',
  `SELECT ${columns} FROM simulated_gateway.journal WHERE key = ANY ($1::text[])
   UNION ALL
   SELECT ${columns} FROM simulated_gateway.journal
    WHERE authorization_key = ANY ($2::text[]) AND operation IN ('capture', 'void') AND approved
   UNION ALL
   SELECT ${columns} FROM simulated_gateway.journal
    WHERE authorization_key = ANY ($2::text[]) AND operation = 'refund' AND approved`,
);

const selectEntry = sql('simulated_gateway.select', `SELECT ${columns} FROM simulated_gateway.journal WHERE key = $1`);

const selectEnd = sql(
  'simulated_gateway.select_end',
  `SELECT ${columns} FROM simulated_gateway.journal
    WHERE authorization_key = $1 AND operation IN ('capture', 'void') AND approved`,
);

/**
 * Keys grow with time, more or less. So a first page, which names none to go on after, begins at the lowest of that
 * time, found by the index on the time (OFFSET 0 keeps the planner from looking for the minimum among the keys, from the
 * beginning of the book), and every page is read along the keys.
 */
const listApproved = sql(
  'simulated_gateway.list',
  `SELECT page.key, page.amount, page.currency,
          CASE WHEN refund.key IS NOT NULL THEN 'refunded'
               WHEN ending.operation = 'capture' THEN 'captured'
               WHEN ending.operation = 'void' THEN 'voided'
               ELSE 'authorized' END AS state
     FROM (SELECT key, amount, currency FROM simulated_gateway.journal
            WHERE operation = 'authorize' AND approved AND created_at >= $1::timestamptz
              AND key IS DISTINCT FROM $2::text
              AND key >= coalesce($2, (SELECT min(key) FROM (SELECT key FROM simulated_gateway.journal
                                                              WHERE created_at >= $1 OFFSET 0) recent))
            ORDER BY key LIMIT $3) page
     LEFT JOIN simulated_gateway.journal ending
       ON ending.authorization_key = page.key AND ending.operation IN ('capture', 'void') AND ending.approved
     LEFT JOIN simulated_gateway.journal refund
       ON refund.authorization_key = page.key AND refund.operation = 'refund' AND refund.approved
    ORDER BY page.key`,
);

/**
 * Writes entries in one commit, as far as what is in the journal lets each of them in, and returns where each stands.
 * A void brings the authorization with it, closed, in case that it has not arrived yet.
 */
export async function writeEntries(journal: Reader, entries: readonly JournalRow[]): Promise<Standing[]> {
  const voids = entries.filter((entry) => entry.operation === 'void');
  const written = await insertRows(journal, [...voids.map(closedAuthorization), ...entries]);
  const missing = entries.filter((entry) => !written.has(entry.key));
  if (missing.length === 0) return entries.map((entry) => ({ entry: written.get(entry.key) }));
  const related = await relatedTo(journal, missing);
  return entries.map((entry) => {
    const own = written.get(entry.key);
    return own ? { entry: own } : related(entry);
  });
}

/** What the journal holds under a key. */
export async function findEntry(journal: Reader, key: string): Promise<JournalRow | undefined> {
  const [row] = await journal.query<JournalRow>(selectEntry, [key]);
  return row;
}

/** The capture or the void that ended an authorization. */
export async function findEnd(journal: Reader, authorizationKey: string): Promise<JournalRow | undefined> {
  const [row] = await journal.query<JournalRow>(selectEnd, [authorizationKey]);
  return row;
}

/** A page of what was approved, in the order of the keys. */
export function listAuthorizations(journal: Reader, request: ListRequest): Promise<GatewayAuthorization[]> {
  const { since, afterKey, limit } = request;
  return journal.query<GatewayAuthorization>(listApproved, [since.toISOString(), afterKey, limit]);
}

function closedAuthorization(voiding: JournalRow): JournalRow {
  const key = voiding.authorization_key ?? voiding.key;
  const authorization = { key, authorization_key: null, operation: 'authorize' } as const;
  return { ...voiding, ...authorization, approved: false, closed: true, reference: newId() };
}

/** Those that found their place, by key: they stand there as they were sent. Few calls come a second time. */
async function insertRows(journal: Reader, rows: readonly JournalRow[]): Promise<Map<string, JournalRow>> {
  const values = [
    rows.map((row) => row.key),
    rows.map((row) => row.operation),
    rows.map((row) => row.authorization_key),
    rows.map((row) => row.amount),
    rows.map((row) => row.currency),
    rows.map((row) => row.request_digest),
    rows.map((row) => row.approved),
    rows.map((row) => row.closed),
    rows.map((row) => row.message),
    rows.map((row) => row.reference),
  ];
  const written = await journal.query<{ key: string }>(insertFirst, values).catch((error: unknown) => {
    if (sqlStateOf(error) !== uniqueViolation) throw error;
    return journal.query<{ key: string }>(insertFree, values);
  });
  const sent = new Map(rows.map((row) => [row.key, row]));
  return new Map(written.map(({ key }) => [key, sent.get(key) as JournalRow]));
}

/** A statement of its own sees what the one before it had to wait for. */
async function relatedTo(journal: Reader, missing: readonly JournalRow[]): Promise<(entry: JournalRow) => Standing> {
  const authorizations = missing.map((entry) => entry.authorization_key).filter((key) => key !== null);
  const keys = [...missing.map((entry) => entry.key), ...authorizations];
  const rows = await journal.query<JournalRow>(selectRelated, [keys, authorizations]);
  const byKey = new Map(rows.map((row) => [row.key, row]));
  const approved = rows.filter((row) => row.approved && row.authorization_key !== null);
  const refunds = approved.filter((row) => row.operation === 'refund');
  const ends = approved.filter((row) => row.operation !== 'refund');
  const refundOf = new Map(refunds.map((row) => [row.authorization_key, row]));
  const endOf = new Map(ends.map((row) => [row.authorization_key, row]));
  return ({ key, authorization_key }) => ({
    entry: byKey.get(key),
    authorization: byKey.get(authorization_key ?? key),
    end: endOf.get(authorization_key),
    refund: refundOf.get(authorization_key),
  });
}
