import { afterEach, beforeEach, expect, it } from 'vitest';
import { expectNothingLeftOver } from '../../../test/support/invariants.ts';
import { charges } from '../../../test/support/ledger.ts';
import { addProduct, endedOrder, openTestShop, orderIdOf, Shopper, type TestShop } from '../../../test/support/shop.ts';
import { newId } from '../../shared/ids.ts';
import { GatewayUnanswered, type PaymentGateway } from '../payments/payments.service.ts';
import { startOrderWorker } from './order-worker.ts';
import { type RetryResult, retryOrder } from './retry.ts';

const total = 1_000;
const holdSeconds = 300;

let shop: TestShop;

beforeEach(async () => {
  shop = await openTestShop({ ROLE: 'web' });
});
afterEach(() => shop.close());

function retry(id: string, changes: Partial<PaymentGateway> = {}): Promise<RetryResult> {
  const { database, gateway } = shop.resources;
  return retryOrder({ database, gateway: { ...gateway, ...changes }, holdSeconds }, id);
}

async function parked(): Promise<{ id: string; product: string; shopper: Shopper }> {
  const product = await addProduct(shop, { priceCents: total });
  const shopper = new Shopper(shop.app);
  await shopper.put(product, 1);
  const id = orderIdOf(await shopper.checkout('v2'));
  await shop.query(
    `UPDATE order_states SET parked_at = now(), parked_reason = 'test', takeovers = 6, unanswered_since = now()
      WHERE order_id = $1`,
    [id],
  );
  return { id, product, shopper };
}

async function rowOf(id: string): Promise<Record<string, unknown> | undefined> {
  const columns = 'attempt, takeovers, parked_at, parked_reason, unanswered_since, worker_id';
  const left = 'extract(epoch FROM hold_until - clock_timestamp())::integer AS seconds_left';
  const [row] = await shop.query(`SELECT ${columns}, ${left} FROM order_states WHERE order_id = $1`, [id]);
  return row;
}

it('frees a parked order with its whole hold and under a new key, and a worker is paid by that one', async () => {
  const { id, product, shopper } = await parked();
  expect(await retry(id)).toEqual({ result: 'retried', attempt: 2, isNewAttempt: true });
  const { seconds_left, ...row } = (await rowOf(id)) ?? {};
  const nothing = { parked_at: null, parked_reason: null, unanswered_since: null, worker_id: null };
  expect(row).toEqual({ attempt: 2, takeovers: 0, ...nothing });
  expect(seconds_left).toBeGreaterThan(holdSeconds - 30);
  expect(seconds_left).toBeLessThanOrEqual(holdSeconds);

  const worker = await startOrderWorker({ ...shop.resources, pollMs: 50 });
  expect(await endedOrder(shopper, id)).toMatchObject({ status: 'completed' });
  await worker.stop();
  expect(await charges(shop, product)).toEqual([total]);
  expect(await shop.query('SELECT attempt, state FROM payment_attempts ORDER BY attempt')).toEqual([
    { attempt: 1, state: 'voided' },
    { attempt: 2, state: 'captured' },
  ]);
  await expectNothingLeftOver(shop.url);
});

it('by two at once begins one attempt', async () => {
  const { id } = await parked();
  const results = await Promise.all([retry(id), retry(id)]);
  expect(results.filter(({ result }) => result === 'retried')).toHaveLength(1);
  expect(await rowOf(id)).toMatchObject({ attempt: 2 });
});

it('leaves an order parked whose old key the gateway has not closed', async () => {
  const { id } = await parked();
  const unanswered = async () => {
    throw new GatewayUnanswered('The gateway does not answer');
  };
  expect(await retry(id, { void: unanswered })).toEqual({ result: 'unanswered' });
  expect(await rowOf(id)).toMatchObject({ attempt: 1, parked_reason: 'test', takeovers: 6 });
});

it('goes on under the key by which the order was paid', async () => {
  const { id } = await parked();
  const authorization = { key: `${id}:1:authorize`, paymentToken: 'tok_success', amount: total, currency: 'USD' };
  await shop.resources.gateway.authorize(authorization);
  await shop.resources.gateway.capture({ key: `${id}:1:capture`, authorization });
  expect(await retry(id)).toEqual({ result: 'retried', attempt: 1, isNewAttempt: false });
  expect(await shop.query('SELECT FROM payment_attempts')).toEqual([]);
});

it('leaves orders alone that are not parked, over or not there', async () => {
  const { id, shopper } = await parked();
  await shop.query('UPDATE order_states SET parked_at = NULL, parked_reason = NULL, takeovers = 0');
  expect(await retry(id)).toEqual({ result: 'not_parked', state: 'pending' });
  const worker = await startOrderWorker({ ...shop.resources, pollMs: 50 });
  await endedOrder(shopper, id);
  await worker.stop();
  expect(await retry(id)).toEqual({ result: 'over', state: 'completed' });
  expect(await retry(newId())).toEqual({ result: 'not_found' });
});
