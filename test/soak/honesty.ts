import { expect } from 'vitest';
import type { ClientRecord } from '../support/client-records.ts';
import type { Ledger } from '../support/ledger.ts';

/** What a client may be told while anything fails: done, not done, not known. 422: sold out. */
const honest = [0, 201, 202, 402, 409, 422, 429, 500, 503, 504];

/**
 * Expects that nobody was told anything else, and that each order that was accepted is there and has ended. Where the
 * gateway fails, any payment may be declined or run into the end of its hold.
 */
export async function expectHonesty(ledger: Ledger, records: readonly ClientRecord[]): Promise<void> {
  expect([...new Set(records.map((record) => record.status))].filter((status) => !honest.includes(status))).toEqual([]);
  const told = records.flatMap((record) => (record.outcome === 'ok' && record.orderId ? [record.orderId] : []));
  expect(told.length).toBeGreaterThan(0);
  expect(new Set(told).size).toBe(told.length);
  const rows = await ledger.query<{ order_id: string; state: string }>(
    'SELECT order_id, state FROM order_states WHERE order_id = ANY ($1::uuid[])',
    [told],
  );
  expect(rows.length).toBe(told.length);
  const stateOf = new Map(rows.map((row) => [row.order_id, row.state]));
  const mayHaveEnded = { completed: ['completed', 'failed'], failed: ['failed'] };
  const wrong = records.filter(
    ({ orderId, outcome, end }) =>
      outcome === 'ok' && orderId && !mayHaveEnded[end].includes(stateOf.get(orderId) ?? 'missing'),
  );
  expect(wrong).toEqual([]);
}
