import { once } from 'node:events';
import { AuditTimedOut, auditShop, type Finding, violatedIn } from '../modules/audit/audit.service.ts';
import type { Config } from '../platform/config.ts';
import { openDatabase } from '../platform/db.ts';
import { withDatabase } from './database.ts';

/** `scalecommerce audit`: counts the violations of every invariant; the exit status is 1 when there is one. */
export async function auditCommand(
  config: Config,
  options: { timeoutS: number },
  signal: AbortSignal,
): Promise<number> {
  const findings = await withDatabase(config, ({ url }) => findingsIn(url, options.timeoutS, signal));
  console.log(tableOf(findings));
  const violated = violatedIn(findings);
  const invariants = findings.filter((finding) => finding.kind === 'invariant').length;
  console.log(
    violated.length === 0
      ? `\nAll ${invariants} invariants hold.`
      : `\n${violated.length} of ${invariants} invariants are violated.`,
  );
  return violated.length === 0 ? 0 : 1;
}

async function findingsIn(url: string, timeoutS: number, signal: AbortSignal): Promise<Finding[]> {
  const timeoutMs = timeoutS * 1000;
  const answerTimeoutMs = timeoutMs + 10_000;
  const db = openDatabase({
    url,
    name: 'audit',
    connections: 1,
    waiting: 1,
    answerTimeoutMs,
    onError: () => undefined,
  });
  const closed = auditShop(db, timeoutMs).finally(() => db.close());
  try {
    // Whoever stops it does not wait for the statement, which ends by itself at its timeout.
    return await Promise.race([closed, stopped(signal)]);
  } catch (error) {
    if (error instanceof AuditTimedOut)
      throw new Error(`${error.message}. Give it more with --timeout-s.`, { cause: error });
    throw error;
  }
}

async function stopped(signal: AbortSignal): Promise<never> {
  if (!signal.aborted) await once(signal, 'abort');
  throw new Error('Stopped before the end; nothing is known.');
}

/** Counts, names and what they mean in columns; the ids of examples below their line. */
function tableOf(findings: readonly Finding[]): string {
  const nameWidth = Math.max(...findings.map((finding) => finding.name.length));
  const countWidth = Math.max('violations'.length, ...findings.map((finding) => String(finding.count).length));
  const rows = findings.flatMap(({ count, name, description, kind, examples }) => {
    const note = kind === 'notice' ? ' (counted only, no violation)' : '';
    const row = `${String(count).padStart(countWidth)}  ${name.padEnd(nameWidth)}  ${description}${note}`;
    const indent = ' '.repeat(countWidth + 2);
    return examples.length > 0 ? [row, `${indent}e.g. ${examples.join(', ')}`] : [row];
  });
  return [`${'violations'.padStart(countWidth)}  ${'invariant'.padEnd(nameWidth)}  what holds`, ...rows].join('\n');
}
