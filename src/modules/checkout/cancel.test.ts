import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { expectNothingLeftOver } from '../../../test/support/invariants.ts';
import { allEnded, charges, stockOf } from '../../../test/support/ledger.ts';
import { between, randomOf } from '../../../test/support/seed.ts';
import { addProduct, endedOrder, openTestShop, orderIdOf, Shopper, type TestShop } from '../../../test/support/shop.ts';
import type { Database } from '../../platform/db.ts';
import { newId } from '../../shared/ids.ts';
import { GatewayUnanswered, type PaymentGateway } from '../payments/payments.service.ts';
import { type CancelResult, cancelOrder, openRefunds } from './cancel.ts';

const total = 1_000;
const testTimeoutMs = 60_000;

let shop: TestShop;

beforeEach(async () => {
  shop = await openTestShop();
});
afterEach(() => shop.close());

async function reopen(environment: Record<string, string>): Promise<void> {
  await shop.close();
  shop = await openTestShop(environment);
}

function cancel(id: string, changes: Partial<PaymentGateway> = {}): Promise<CancelResult> {
  return cancelOrder(deskWith(changes), id, { restock: false, by: 'ann' }, () => undefined);
}

/** A worker's rounds of refunds. */
function refundsOf(changes: Partial<PaymentGateway> = {}, onError: (error: Error) => void = throwing) {
  return openRefunds(deskWith(changes), onError);
}

function throwing(error: Error): never {
  throw error;
}

function deskWith(changes: Partial<PaymentGateway>) {
  const { database, gateway, notifications } = shop.resources;
  return { database, gateway: { ...gateway, ...changes }, notifications };
}

type Made = Readonly<{ shopper: Shopper; product: string; id: string }>;

async function order(paymentToken = 'tok_success'): Promise<Made> {
  const product = await addProduct(shop, { priceCents: total, stock: 5 });
  const shopper = new Shopper(shop.app);
  await shopper.put(product, 1);
  return { shopper, product, id: orderIdOf(await shopper.checkout('v2', { payment_token: paymentToken })) };
}

async function sold(): Promise<Made> {
  const made = await order();
  await endedOrder(made.shopper, made.id);
  return made;
}

async function stateOf(id: string): Promise<string | undefined> {
  const [row] = await shop.query<{ state: string }>('SELECT state FROM order_states WHERE order_id = $1', [id]);
  return row?.state;
}

it.each([1, 8])(
  'beside the capture, %i ms away from the gateway, each order is cancelled or refunded, whichever comes first',
  async (latencyMs) => {
    await reopen({ SIMULATED_GATEWAY_LATENCY_MS: String(latencyMs) });
    const random = randomOf(`cancel ${latencyMs}`);
    const made: Made[] = [];
    const results = Array.from({ length: 60 }, async () => {
      const next = await order();
      made.push(next);
      await sleep(between(random, 0, 4 * latencyMs));
      return (await cancel(next.id)).result;
    });
    expect(new Set(await Promise.all(results)).difference(new Set(['cancelled', 'refunded']))).toEqual(new Set());
    await allEnded(shop);
    for (const { id, product } of made) {
      const state = await stateOf(id);
      expect(['cancelled', 'refunded']).toContain(state);
      expect(await charges(shop, product)).toEqual(state === 'refunded' ? [total] : []);
      expect(await stockOf(shop, product)).toBe(state === 'refunded' ? 4 : 5);
    }
    await expectNothingLeftOver(shop.url);
  },
  testTimeoutMs,
);

it('by two at once, a completed order is refunded once', async () => {
  const { id, product } = await sold();
  const results = await Promise.all([cancel(id), cancel(id), refundsOf()()]);
  expect(results.slice(0, 2)).toContainEqual({ orderId: id, result: 'refunded' });
  expect(await stateOf(id)).toBe('refunded');
  expect(await stockOf(shop, product)).toBe(4);
  const events = await shop.query('SELECT kind FROM events WHERE order_id = $1 ORDER BY stream_offset', [id]);
  expect(events).toEqual([{ kind: 'completed' }, { kind: 'refunded' }]);
  await expectNothingLeftOver(shop.url);
});

it('finds no order that does not exist, and leaves those alone that are over', async () => {
  expect(await cancel(newId())).toEqual({ result: 'not_found' });
  const { shopper, id } = await order('tok_fail');
  await endedOrder(shopper, id);
  expect(await cancel(id)).toEqual({ result: 'over', state: 'failed' });
  expect(await shop.query('SELECT FROM cancellations')).toEqual([]);
});

it('keeps an order sold that the gateway refuses to refund, and asks again when it is wished again', async () => {
  const { id } = await sold();
  const refund = async () => ({ outcome: 'refused', message: 'Too late' }) as const;
  expect(await cancel(id, { refund })).toMatchObject({ result: 'refused', message: 'Too late' });
  expect(await stateOf(id)).toBe('completed');
  await refundsOf()();
  expect(await stateOf(id)).toBe('completed');
  await expectNothingLeftOver(shop.url);
  expect(await cancel(id)).toMatchObject({ result: 'refunded' });
  await expectNothingLeftOver(shop.url);
});

it.each([
  { first: false, later: true, who: 'bob' },
  { first: true, later: false, who: 'ann' },
])(
  'books goods as returned by who wanted them back: by ann $first, then by bob $later',
  async ({ first, later, who }) => {
    const { id } = await sold();
    const refund = async () => ({ outcome: 'refused', message: 'Too late' }) as const;
    await cancelOrder(deskWith({ refund }), id, { restock: first, by: 'ann' }, throwing);
    expect(await cancelOrder(deskWith({}), id, { restock: later, by: 'bob' }, throwing)).toMatchObject({
      result: 'refunded',
    });
    const returned = await shop.query(`SELECT who FROM stock_movements WHERE kind = 'returned'`);
    expect(returned).toEqual([{ who }]);
    await expectNothingLeftOver(shop.url);
  },
);

it('leaves a refund that has no answer to the workers', async () => {
  const { id, shopper } = await sold();
  const refund = async () => {
    throw new GatewayUnanswered('The gateway does not answer');
  };
  expect(await cancel(id, { refund })).toMatchObject({ result: 'unanswered' });
  await expect.poll(() => stateOf(id), { timeout: 15_000 }).toBe('refunded');
  expect((await shopper.order(id)).json()).toMatchObject({ status: 'refunded', order: { id } });
  await expectNothingLeftOver(shop.url);
});

it('completes an order that was captured already, and refunds it', async () => {
  await reopen({ ROLE: 'web' });
  const { id, product } = await order();
  const authorization = { key: `${id}:1:authorize`, paymentToken: 'tok_success', amount: total, currency: 'USD' };
  await shop.resources.gateway.authorize(authorization);
  await shop.resources.gateway.capture({ key: `${id}:1:capture`, authorization });
  expect(await cancel(id)).toMatchObject({ result: 'refunded' });
  expect(await stateOf(id)).toBe('refunded');
  expect(await charges(shop, product)).toEqual([total]);
  await expectNothingLeftOver(shop.url);
});

it('takes the goods back that somebody wants back while the refund is already under way', async () => {
  const { shopper, product, id } = await sold();
  const refund: PaymentGateway['refund'] = async (request) => {
    await shop.query('UPDATE cancellations SET restock = true');
    return shop.resources.gateway.refund(request);
  };
  expect(await cancel(id, { refund })).toMatchObject({ result: 'refunded' });
  expect(await stockOf(shop, product)).toBe(5);
  expect(await endedOrder(shopper, id)).toMatchObject({ status: 'refunded' });
  await expectNothingLeftOver(shop.url);
});

/** Sold orders that are to be cancelled, the oldest wish first. */
async function dueForRefund(count: number): Promise<string[]> {
  const ids: string[] = [];
  for (let made = 0; made < count; made++) ids.push((await sold()).id);
  await shop.worker?.stop();
  for (const id of ids)
    await shop.query(`INSERT INTO cancellations (order_id, restock, requested_by) VALUES ($1, false, 'ann')`, [id]);
  return ids;
}

function silentFor(ids: readonly string[], error: Error): PaymentGateway['refund'] {
  return async (request) => {
    if (ids.some((id) => request.key.startsWith(id))) throw error;
    return shop.resources.gateway.refund(request);
  };
}

it(
  'gives money back behind more orders than it asks for at once whose refunds have no answer',
  async () => {
    const ids = await dueForRefund(52);
    const [last = ''] = ids.slice(-1);
    const asked: string[] = [];
    const silent = silentFor(ids.slice(0, -1), new GatewayUnanswered('No answer'));
    const refunds = refundsOf({
      refund: (request) => {
        asked.push(request.key);
        return silent(request);
      },
    });
    await refunds();
    expect(await stateOf(last)).toBe('completed');
    await refunds();
    expect(await stateOf(last)).toBe('refunded');
    // Whoever was asked for the longest time ago comes first.
    expect(asked.slice(50, 52)).toEqual([`${ids[50]}:1:refund`, `${last}:1:refund`]);
    expect(asked.slice(52, 100)).toEqual(asked.slice(0, 48));
    await refunds();
    expect(asked.slice(100, 103)).toEqual([asked[48], asked[49], asked[50]]);
    await refundsOf()();
    await refundsOf()();
    await expectNothingLeftOver(shop.url);
  },
  testTimeoutMs,
);

it('gives back all other money where one refund fails, and tells of it ever more rarely', async () => {
  const [broken = '', fine = ''] = await dueForRefund(2);
  const problem = new Error('The gateway answered with something that cannot be read');
  const errors: Error[] = [];
  const refunds = refundsOf({ refund: silentFor([broken], problem) }, (error) => errors.push(error));
  await refunds();
  expect(await stateOf(fine)).toBe('refunded');
  const told = `Order ${broken} could not be refunded: ${problem.message}`;
  expect(errors.map(({ message, cause }) => [message, cause])).toEqual([[told, problem]]);
  for (let round = 2; round <= 5; round++) await refunds();
  expect(errors).toHaveLength(3);
  await refundsOf()();
  await expectNothingLeftOver(shop.url);
});

it.each(['result', 'error'])('tells the %s although the lease could not be given up', async (what) => {
  const { id } = await sold();
  const { database } = shop.resources;
  const errors: Error[] = [];
  const failing: Database = {
    ...database,
    query: (statement, values) =>
      statement.name === 'lease.release'
        ? Promise.reject(new Error('The lease cannot be given up'))
        : database.query(statement, values),
  };
  const refund = async () => {
    throw new Error('The answer cannot be read');
  };
  const desk = { ...deskWith(what === 'error' ? { refund } : {}), database: failing };
  const cancelled = cancelOrder(desk, id, { restock: false, by: 'ann' }, (error) => errors.push(error));
  if (what === 'error') await expect(cancelled).rejects.toThrow('The answer cannot be read');
  else expect(await cancelled).toEqual({ orderId: id, result: 'refunded' });
  expect(errors.map(({ message }) => message)).toEqual(['The lease cannot be given up']);
  await expect.poll(() => stateOf(id), { timeout: 15_000 }).toBe('refunded');
});
