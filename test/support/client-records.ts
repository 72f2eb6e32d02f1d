import { expect } from 'vitest';
import type { Ledger } from './ledger.ts';
import type { Answer } from './process.ts';

/** Whether something was done, as its client was told. */
type Outcome = 'ok' | 'failed' | 'unknown';

/** One operation of one client, and what came of it. */
export type ClientRecord = Readonly<{
  what: 'put' | 'checkout';
  /** The basket's; of a `put` that made one, the one it was told of. */
  token: string | null;
  /** How an order that was accepted has to end. */
  end: 'completed' | 'failed';
  outcome: Outcome;
  /** 0 where the connection broke. */
  status: number;
  orderId: string | null;
  /** On the monotonic clock. */
  startedAtMs: number;
  tookMs: number;
}>;

const broken: Answer = { status: 0, body: {}, location: null };

/** Runs an operation and puts down what came of it. */
export async function recorded(
  records: ClientRecord[],
  about: Pick<ClientRecord, 'what' | 'end'> & Readonly<{ token: () => string | null }>,
  operation: () => Promise<Answer>,
): Promise<ClientRecord> {
  const startedAtMs = performance.now();
  const answer = await operation().catch(() => broken);
  const tookMs = performance.now() - startedAtMs;
  const orderId = answer.location?.replace(/^.*\//, '') ?? null;
  const { status } = answer;
  const { what, end } = about;
  const record = { what, end, token: about.token(), outcome: outcomeOf(status), status, orderId, startedAtMs, tookMs };
  records.push(record);
  return record;
}

/** A payment that was declined is the end of an order that was accepted. */
function outcomeOf(status: number): Outcome {
  if ((status >= 200 && status < 300) || status === 402) return 'ok';
  return status === 0 || status === 500 || status === 504 ? 'unknown' : 'failed';
}

/**
 * Expects the database to agree with the clients, once all orders have ended: what they were told is done is there,
 * what they were told is not done is not, and what they do not know of is there once at most.
 */
export async function expectAgreement(ledger: Ledger, records: readonly ClientRecord[]): Promise<void> {
  const told = records.filter((record) => record.token !== null);
  const tokens = [...new Set(told.map((record) => record.token))];
  const rows = await ledger.query<{ token: string; order_id: string | null; state: string | null }>(
    `SELECT token, orders.id AS order_id, state
       FROM baskets LEFT JOIN orders ON orders.basket_id = baskets.id LEFT JOIN order_states ON order_id = orders.id
      WHERE token = ANY ($1::uuid[])`,
    [tokens],
  );
  const stateOf = new Map(rows.map((row) => [row.order_id, row.state]));
  const ordersOf = Map.groupBy(rows, (row) => row.token);
  expect(tokens.filter((token) => !ordersOf.has(String(token)))).toEqual([]);
  await expectNoMoreBaskets(ledger, records);
  for (const [token, ofBasket] of Map.groupBy(told, (record) => record.token)) {
    const checkouts = ofBasket.filter((record) => record.what === 'checkout');
    const accepted = checkouts.filter((record) => record.outcome === 'ok');
    const unknown = checkouts.filter((record) => record.outcome === 'unknown');
    const orders = (ordersOf.get(String(token)) ?? []).filter((row) => row.order_id !== null);
    expect(orders.length, `orders of ${JSON.stringify(ofBasket)}`).toBeGreaterThanOrEqual(accepted.length);
    expect(orders.length, `orders of ${JSON.stringify(ofBasket)}`).toBeLessThanOrEqual(
      accepted.length + unknown.length,
    );
    for (const { orderId, end } of accepted)
      if (orderId !== null) expect(stateOf.get(orderId), `order ${orderId}`).toBe(end);
  }
}

async function expectNoMoreBaskets(ledger: Ledger, records: readonly ClientRecord[]): Promise<void> {
  const puts = records.filter((record) => record.what === 'put');
  const made = puts.filter((record) => record.outcome === 'ok').length;
  const unknown = puts.filter((record) => record.outcome === 'unknown').length;
  const [row] = await ledger.query<{ count: number }>('SELECT count(*)::integer AS count FROM baskets');
  expect(row?.count).toBeGreaterThanOrEqual(made);
  expect(row?.count).toBeLessThanOrEqual(made + unknown);
}
