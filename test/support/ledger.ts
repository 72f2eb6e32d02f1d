import { expect } from 'vitest';
import { openDatabase, sql, type Value } from '../../src/platform/db.ts';
import type { TestShop } from './shop.ts';

/** What the database says, past the shop. */
export type Ledger = Pick<TestShop, 'query'>;

let statements = 0;

/** For a shop in processes of its own. Close it when done. */
export function openLedger(url: string): Ledger & { close(): Promise<void> } {
  const onError = (): void => undefined;
  const database = openDatabase({ url, name: 'test ledger', connections: 1, waiting: 100, onError });
  return {
    query: (text, values = []) => database.query(sql(`ledger.${statements++}`, text), values),
    close: () => database.close(),
  };
}

export function stockOf(ledger: Ledger, product: string): Promise<number> {
  return numberFrom(ledger, 'SELECT sellable AS number FROM stock WHERE product_id = $1', [product]);
}

/** Units of completed orders. */
export function soldUnits(ledger: Ledger, product: string): Promise<number> {
  return numberFrom(
    ledger,
    `SELECT coalesce(sum(quantity), 0)::integer AS number FROM order_lines JOIN order_states USING (order_id)
      WHERE product_id = $1 AND state = 'completed'`,
    [product],
  );
}

/** Units that came and went other than by sale. */
export function movedUnits(ledger: Ledger, product: string): Promise<number> {
  return numberFrom(ledger, 'SELECT sum(delta)::integer AS number FROM stock_movements WHERE product_id = $1', [
    product,
  ]);
}

/** The amounts that the gateway has charged for orders of `product`. */
export async function charges(ledger: Ledger, product: string): Promise<number[]> {
  const rows = await ledger.query<{ amount: number }>(
    `SELECT amount::integer FROM simulated_gateway.journal
      WHERE operation = 'capture' AND approved
        AND split_part(key, ':', 1) IN (SELECT order_id::text FROM order_lines WHERE product_id = $1)`,
    [product],
  );
  return rows.map((row) => row.amount);
}

/** Waits until no order is on its way any more. */
export async function allEnded(ledger: Ledger, timeoutMs = 60_000): Promise<void> {
  const open = 'SELECT count(*)::integer AS number FROM order_states WHERE ended_at IS NULL';
  await expect.poll(() => numberFrom(ledger, open), { timeout: timeoutMs }).toBe(0);
}

async function numberFrom(ledger: Ledger, text: string, values: readonly Value[] = []): Promise<number> {
  const [row] = await ledger.query<{ number: number }>(text, values);
  return row?.number ?? Number.NaN;
}
