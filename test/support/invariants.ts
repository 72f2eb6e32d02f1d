import { expect } from 'vitest';
import { auditShop, violatedIn } from '../../src/modules/audit/audit.service.ts';
import { openDatabase } from '../../src/platform/db.ts';
import { openLedger } from './ledger.ts';

const timeoutMs = 60_000;

/** Expects every invariant of the shop to hold, and no order to be on its way any more. */
export async function expectNothingLeftOver(url: string): Promise<void> {
  const db = openDatabase({ url, name: 'test audit', connections: 1, waiting: 1, onError: () => undefined });
  const findings = await auditShop(db, timeoutMs).finally(() => db.close());
  expect(findings.length).toBeGreaterThan(10);
  expect(violatedIn(findings)).toEqual([]);
  const ledger = openLedger(url);
  const open = await ledger.query('SELECT order_id, state FROM order_states WHERE ended_at IS NULL');
  await ledger.close();
  expect(open).toEqual([]);
}
