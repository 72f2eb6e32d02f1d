import { expect } from 'vitest';
import { eventually } from './eventually.ts';
import type { Ledger } from './ledger.ts';
import type { ShopProcess } from './process.ts';

/** The calls about an order that took effect at the gateway. */
export async function journalOf(ledger: Ledger, orderId: string): Promise<string[]> {
  const rows = await ledger.query<{ operation: string }>(
    `SELECT operation FROM simulated_gateway.journal WHERE starts_with(key, $1) ORDER BY created_at`,
    [orderId],
  );
  return rows.map((row) => row.operation);
}

export async function stateOf(ledger: Ledger, orderId: string): Promise<string | undefined> {
  const [row] = await ledger.query<{ state: string }>('SELECT state FROM order_states WHERE order_id = $1', [orderId]);
  return row?.state;
}

export async function eventsOf(ledger: Ledger, orderId: string): Promise<string[]> {
  const rows = await ledger.query<{ kind: string }>('SELECT kind FROM events WHERE order_id = $1', [orderId]);
  return rows.map((row) => row.kind);
}

/** The orders that are open and the worker's, or were its when it lost its lease. */
export async function openOrdersOf(ledger: Ledger, worker: ShopProcess): Promise<string[]> {
  const rows = await ledger.query<{ order_id: string }>(
    `SELECT order_id FROM order_states JOIN workers ON workers.id = worker_id WHERE pid = $1 AND ended_at IS NULL`,
    [worker.pid],
  );
  return rows.map((row) => row.order_id);
}

/** Every row that a late settlement would change. */
export function everything(ledger: Ledger): Promise<unknown[]> {
  const tables = ['baskets', 'basket_lines', 'order_states', 'payment_attempts', 'events', 'stock'];
  return Promise.all(tables.map((table) => ledger.query(`SELECT * FROM ${table} ORDER BY 1, 2`)));
}

/** All that the gateway has in its book. */
export function wholeJournal(ledger: Ledger): Promise<unknown[]> {
  return ledger.query('SELECT * FROM simulated_gateway.journal ORDER BY key');
}

/** Expects stock to have gone back at the end of a hold only after the gateway had closed the payment. */
export async function expectReleasedByGateway(ledger: Ledger): Promise<void> {
  const releasedBefore = await ledger.query(
    `SELECT order_id FROM order_states s
      WHERE state = 'failed' AND error_code = 'hold_expired'
        AND NOT EXISTS (SELECT FROM simulated_gateway.journal j
                         WHERE starts_with(j.key, s.order_id::text) AND j.operation = 'void' AND j.approved
                           AND j.created_at <= s.ended_at)`,
  );
  expect(releasedBefore).toEqual([]);
}

/** Waits until no order is on its way any more; in tests that run beside each other, too. */
export function untilAllEnded(ledger: Ledger, timeoutMs: number): Promise<true> {
  return eventually(async () => {
    const open = await ledger.query('SELECT FROM order_states WHERE ended_at IS NULL LIMIT 1');
    return open.length === 0;
  }, timeoutMs);
}
