import { type Database, sqlStateOf } from '../../platform/db.ts';
import { Unavailable } from '../../shared/refusal.ts';
import { type FindingRow, limitAudit, readFindings } from './audit.sql.ts';

/** How often an invariant does not hold; a `notice` is only counted. `examples` are ids of up to three places. */
export type Finding = Readonly<FindingRow>;

/** The database took longer than the audit was given. */
export class AuditTimedOut extends Error {
  constructor(timeoutMs: number, cause: unknown) {
    super(`The audit did not finish within ${timeoutMs / 1000} s and was stopped`, { cause });
    this.name = 'AuditTimedOut';
  }
}

const cancelled = '57014';

/**
 * Counts the violations of every invariant of `audit.sql` as of one moment, while the shop may go on selling. Throws
 * {@link AuditTimedOut} after `timeoutMs`.
 */
export async function auditShop(db: Database, timeoutMs: number): Promise<Finding[]> {
  try {
    return await db.transaction(async (tx) => {
      await limitAudit(tx, timeoutMs);
      return readFindings(tx);
    });
  } catch (error) {
    const wasCancelled = error instanceof Unavailable && sqlStateOf(error.cause) === cancelled;
    throw wasCancelled ? new AuditTimedOut(timeoutMs, error) : error;
  }
}

/** The invariants among `findings` that do not hold. */
export function violatedIn(findings: readonly Finding[]): Finding[] {
  return findings.filter((finding) => finding.kind === 'invariant' && finding.count > 0);
}
