import pg from 'pg';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { addProduct, endedOrder, openTestShop, orderIdOf, Shopper, type TestShop } from '../../../test/support/shop.ts';
import type { Database } from '../../platform/db.ts';
import { GatewayRefusedRequest, GatewayUnanswered, type PaymentGateway } from '../payments/payments.service.ts';
import { type OrderWorker, startOrderWorker } from './order-worker.ts';

/** As many as a worker pays at the same time. */
const mostAtOnce = 2_000;
const claimedAtOnce = 500;
const shoppersAtOnce = 100;

let shop: TestShop;
let worker: OrderWorker;

beforeEach(async () => {
  shop = await openTestShop({ ROLE: 'web' });
});
afterEach(async () => {
  await worker.stop();
  await shop.close();
});

it('works on other orders while those that the gateway cannot answer for wait for their next try', async () => {
  const product = await addProduct(shop, { stock: 10_000 });
  const unanswered = Array.from({ length: mostAtOnce }, () => product);
  const shoppers = Array.from({ length: shoppersAtOnce }, async () => {
    while (unanswered.pop()) await order(product, 'tok_unanswered');
  });
  await Promise.all(shoppers);
  let failures = 0;
  worker = await startOrderWorker({ ...shop.resources, gateway, pollMs: 100, onError: () => failures++ });
  await expect.poll(() => failures, { timeout: 10_000 }).toBeGreaterThanOrEqual(mostAtOnce);

  const { shopper, orderId } = await order(product, 'tok_success');
  expect(await endedOrder(shopper, orderId)).toMatchObject({ status: 'completed' });
}, 60_000);

it('works through a line of free orders that is longer than what it takes at a time, without another look', async () => {
  const product = await addProduct(shop, { stock: 1_000 });
  const wanted = Array.from({ length: claimedAtOnce + 100 }, () => product);
  const shoppers = Array.from({ length: shoppersAtOnce }, async () => {
    while (wanted.pop()) await order(product, 'tok_success');
  });
  await Promise.all(shoppers);
  const never = 2 ** 31 - 1;
  worker = await startOrderWorker({ ...shop.resources, gateway, pollMs: never, onError: () => undefined });
  const open = async () => (await shop.query('SELECT FROM order_states WHERE ended_at IS NULL')).length;
  await expect.poll(open, { timeout: 20_000 }).toBe(0);
}, 60_000);

it('keeps no order among those that wait for the gateway once it has answered, though it cannot be settled yet', async () => {
  const product = await addProduct(shop);
  const unanswered = async () =>
    (await shop.query<{ since: Date | null }>('SELECT unanswered_since AS since FROM order_states'))[0]?.since;
  let isSilent = true;
  const hesitant: PaymentGateway = {
    ...gateway,
    capture: async (request) => {
      if (isSilent) throw new GatewayUnanswered('The gateway does not answer');
      return gateway.capture(request);
    },
  };
  const { shopper, orderId } = await order(product, 'tok_success');
  worker = await startOrderWorker({ ...shop.resources, gateway: hesitant, pollMs: 100, onError: () => undefined });
  await expect.poll(unanswered).toBeInstanceOf(Date);
  const holder = new pg.Client({ connectionString: shop.url });
  await holder.connect();
  await holder.query('BEGIN');
  await holder.query('SELECT FROM baskets FOR UPDATE');
  try {
    isSilent = false;
    await expect.poll(unanswered, { timeout: 10_000 }).toBeNull();
    expect((await shopper.order(orderId)).json()).toMatchObject({ status: 'pending' });
    await holder.query('COMMIT');
  } finally {
    await holder.end();
  }
  expect(await endedOrder(shopper, orderId)).toMatchObject({ status: 'completed' });
});

it('stops although its lease cannot be given up, and says so', async () => {
  const { database } = shop.resources;
  const failing: Database = {
    ...database,
    query: (statement, values) =>
      statement.name === 'lease.release'
        ? Promise.reject(new Error('The database does not answer'))
        : database.query(statement, values),
  };
  const errors: Error[] = [];
  const onError = (error: Error): void => void errors.push(error);
  worker = await startOrderWorker({ ...shop.resources, database: failing, gateway, pollMs: 100, onError });
  await worker.stop();
  expect(errors.map(({ message }) => message)).toEqual(['The database does not answer']);
});

it('counts an answer that cannot be used as one', async () => {
  const product = await addProduct(shop);
  let calls = 0;
  const odd: PaymentGateway = {
    ...gateway,
    authorize: async () => {
      throw calls++ === 0 ? new GatewayUnanswered('No answer') : new GatewayRefusedRequest('That makes no sense');
    },
  };
  await order(product, 'tok_success');
  worker = await startOrderWorker({ ...shop.resources, gateway: odd, pollMs: 100, onError: () => undefined });
  const state = async () => (await shop.query('SELECT parked_reason, unanswered_since FROM order_states'))[0];
  const parked = { parked_reason: 'That makes no sense', unanswered_since: null };
  await expect.poll(state, { timeout: 10_000 }).toEqual(parked);
});

const unused = async (): Promise<never> => {
  throw new Error('Not asked for here');
};

const gateway: PaymentGateway = {
  authorize: async ({ paymentToken }) => {
    if (paymentToken === 'tok_unanswered') throw new GatewayUnanswered('The gateway does not answer');
    return { outcome: 'approved', reference: 'authorization' };
  },
  capture: async () => ({ outcome: 'captured', reference: 'capture' }),
  void: unused,
  refund: unused,
  lookup: unused,
  listAuthorizations: unused,
  close: async () => undefined,
};

async function order(product: string, paymentToken: string): Promise<{ shopper: Shopper; orderId: string }> {
  const shopper = new Shopper(shop.app);
  await shopper.put(product, 1);
  const accepted = await shopper.checkout('v2', { payment_token: paymentToken });
  expect(accepted.statusCode).toBe(202);
  return { shopper, orderId: orderIdOf(accepted) };
}
