import { readFileSync } from 'node:fs';
import { sql, type Tx } from '../../platform/db.ts';

/** `examples`: ids, in text, of up to three of what was counted. */
export type FindingRow = {
  name: string;
  kind: 'invariant' | 'notice';
  description: string;
  count: number;
  examples: string[];
};

/** Compiling a statement of this size takes longer than compiled code saves. */
const limit = sql(
  'audit.limit',
  `SELECT set_config('statement_timeout', $1, true), set_config('jit', 'off', true),
          set_config('transaction_read_only', 'on', true)`,
);

/** Bounds what follows in `tx` to `timeoutMs`, and to reading. */
export async function limitAudit(tx: Tx, timeoutMs: number): Promise<void> {
  await tx.query(limit, [String(timeoutMs)]);
}

/** Counts the violations of every invariant, in one statement. */
export function readFindings(tx: Tx): Promise<FindingRow[]> {
  return tx.query(sql('audit.findings', readFileSync(new URL('audit.sql', import.meta.url), 'utf8')));
}
