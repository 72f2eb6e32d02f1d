import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  addProduct,
  endedOrder,
  openAppBeside,
  openTestShop,
  orderIdOf,
  Shopper,
  type TestShop,
} from '../../../test/support/shop.ts';
import type { Database } from '../../platform/db.ts';
import { GatewayRefusedRequest, GatewayUnanswered, type PaymentGateway } from '../payments/payments.service.ts';
import { type OrderWorker, startOrderWorker } from './order-worker.ts';

/** As many as a worker pays at the same time. */
const mostAtOnce = 2_000;
const claimedAtOnce = 500;
const shoppersAtOnce = 100;
/** A call without an answer is promised to be given up after 2.5 s. The rest is for a busy machine. */
const givenUpMs = 7_500;

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

describe('a worker that winds down', () => {
  it('takes nothing on from the table', async () => {
    const product = await addProduct(shop);
    const { calls, counting } = countCalls(gateway);
    worker = await startOrderWorker({ ...shop.resources, gateway: counting, pollMs: 10, onError: () => undefined });
    worker.windDown();
    const { shopper, orderId } = await order(product, 'tok_success');
    const other = await startOrderWorker({ ...shop.resources, gateway, pollMs: 10, onError: () => undefined });
    expect(await endedOrder(shopper, orderId)).toMatchObject({ status: 'completed' });
    expect(calls).toEqual([]);
    await other.stop();
  });

  it('goes on with orders that a request waits for, tries included, and with no others', async () => {
    const product = await addProduct(shop);
    let hesitations = 3;
    const hesitant: PaymentGateway = {
      ...gateway,
      authorize: async (request) => {
        if (request.paymentToken === 'tok_hesitant' && hesitations-- > 0) throw new GatewayUnanswered('Not yet');
        return gateway.authorize(request);
      },
    };
    const { calls, counting } = countCalls(hesitant);
    worker = await startOrderWorker({ ...shop.resources, gateway: counting, pollMs: 10, onError: () => undefined });
    const app = await openAppBeside(shop, worker);
    const waiting = new Shopper(app);
    await waiting.put(product, 1);
    const nobodyWaits = await order(product, 'tok_unanswered', app);
    await expect.poll(() => calls).toHaveLength(1);
    worker.windDown();
    expect((await waiting.checkout('v1', { payment_token: 'tok_hesitant' })).statusCode).toBe(201);
    expect(hesitations).toBe(-1);
    expect(calls.filter((orderId) => orderId === nobodyWaits.orderId)).toHaveLength(1);
    await app.close();
  });
});

describe('a worker that stops', () => {
  it('does not wait for a gateway that does not answer, and leaves the order to the next worker at once', async () => {
    const product = await addProduct(shop);
    const { calls, counting } = countCalls({ ...gateway, authorize: () => new Promise(() => undefined) });
    const errors: Error[] = [];
    const onError = (error: Error): void => void errors.push(error);
    worker = await startOrderWorker({ ...shop.resources, gateway: counting, pollMs: 10, onError });
    const { shopper, orderId } = await order(product, 'tok_success');
    await expect.poll(() => calls).toEqual([orderId]);
    const startMs = performance.now();
    await worker.stop();
    expect(performance.now() - startMs).toBeLessThan(givenUpMs);
    worker = await startOrderWorker({ ...shop.resources, gateway, pollMs: 10, onError });
    expect(await endedOrder(shopper, orderId)).toMatchObject({ status: 'completed' });
    expect(errors).toEqual([]);
  });

  it('finishes what goes forward', async () => {
    const product = await addProduct(shop);
    const slow: PaymentGateway = {
      ...gateway,
      authorize: (request) => sleep(1_500).then(() => gateway.authorize(request)),
      capture: (request) => sleep(1_500).then(() => gateway.capture(request)),
    };
    const { calls, counting } = countCalls(slow);
    worker = await startOrderWorker({ ...shop.resources, gateway: counting, pollMs: 10, onError: () => undefined });
    const { shopper, orderId } = await order(product, 'tok_success');
    await expect.poll(() => calls).toEqual([orderId]);
    await worker.stop();
    expect((await shopper.order(orderId)).json()).toMatchObject({ status: 'completed' });
  });
});

/** Tells for which orders `gateway` was asked for money. */
function countCalls(gateway: PaymentGateway): { calls: string[]; counting: PaymentGateway } {
  const calls: string[] = [];
  const authorize: PaymentGateway['authorize'] = (request) => {
    calls.push(request.key.split(':')[0] ?? '');
    return gateway.authorize(request);
  };
  return { calls, counting: { ...gateway, authorize } };
}

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

async function order(
  product: string,
  paymentToken: string,
  app = shop.app,
): Promise<{ shopper: Shopper; orderId: string }> {
  const shopper = new Shopper(app);
  await shopper.put(product, 1);
  const accepted = await shopper.checkout('v2', { payment_token: paymentToken });
  expect(accepted.statusCode).toBe(202);
  return { shopper, orderId: orderIdOf(accepted) };
}
