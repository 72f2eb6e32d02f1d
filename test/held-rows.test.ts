import pg from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { coalescerStats } from '../src/platform/coalescer.ts';
import { poolStats } from '../src/platform/pools.ts';
import { eventually } from './support/eventually.ts';
import { expectNothingLeftOver } from './support/invariants.ts';
import { journalOf } from './support/order-facts.ts';
import { onServer } from './support/postgres.ts';
import { addProduct, endedOrder, openTestShop, orderIdOf, Shopper, type TestShop } from './support/shop.ts';

/** Far above what a batch loses to a held row (200 ms), below the 5 s for which those who need the row are patient. */
const soonMs = 4_000;

let shop: TestShop;
let holder: pg.Client;

beforeAll(async () => {
  shop = await openTestShop();
});
afterAll(() => shop.close());
beforeEach(async () => {
  holder = new pg.Client({ connectionString: shop.url });
  await holder.connect();
  await holder.query('BEGIN');
});
afterEach(() => holder.end());

/** Batches under way in the lines of that name. */
function standing(line: string): number {
  return coalescerStats().find((stats) => stats.name === line)?.inFlight ?? 0;
}

async function shopperWith(product: string): Promise<Shopper> {
  const shopper = new Shopper(shop.app);
  expect((await shopper.put(product, 1)).statusCode).toBe(201);
  return shopper;
}

it('a held product holds up who wants it, and nobody else', async () => {
  const [held, free] = [await addProduct(shop, { stock: 100 }), await addProduct(shop, { stock: 100 })];
  const waiting = await Promise.all(Array.from({ length: 30 }, () => shopperWith(held)));
  const others = await Promise.all(Array.from({ length: 30 }, () => shopperWith(free)));
  const [last, ...behind] = await Promise.all([free, ...Array(5).fill(held)].map(shopperWith));
  await holder.query('SELECT FROM stock WHERE product_id = $1 FOR UPDATE', [held]);
  const startMs = performance.now();
  const late = waiting.map((shopper) => shopper.checkout('v2'));
  const prompt = await Promise.all(others.map((shopper) => shopper.checkout('v1')));
  expect(performance.now() - startMs).toBeLessThan(soonMs);
  expect(prompt.map((answer) => answer.statusCode)).toEqual(prompt.map(() => 201));
  const later = behind.map((shopper) => shopper.checkout('v2'));
  // Once it is served, those who came before it stand in the line of the held row.
  expect((await last?.checkout('v1'))?.statusCode).toBe(201);
  await holder.query('COMMIT');
  const accepted = await Promise.all([...late, ...later]);
  expect(accepted.map((answer) => answer.statusCode)).toEqual(accepted.map(() => 202));
  for (const [index, shopper] of waiting.entries())
    expect(await endedOrder(shopper, orderIdOf((await late[index]) as never))).toMatchObject({ status: 'completed' });
  // The line set aside is gone with the last of it: the product is sold in batches again.
  expect((await (await shopperWith(held)).checkout('v1')).statusCode).toBe(201);
  await expectNothingLeftOver(shop.url);
});

it('many held products leave connections for everybody else, and are all sold once they are free', async () => {
  const held = await Promise.all(Array.from({ length: 20 }, () => addProduct(shop, { stock: 1 })));
  const waiting = await Promise.all(held.map(shopperWith));
  const other = await shopperWith(await addProduct(shop));
  await holder.query('SELECT FROM stock WHERE product_id = ANY ($1) FOR UPDATE', [held]);
  const late = waiting.map((shopper) => shopper.checkout('v2'));
  await eventually(() => standing('checkouts, aside') === held.length);
  expect((await other.checkout('v1')).statusCode).toBe(201);
  expect(poolStats().find((pool) => pool.name === 'engine')).toMatchObject({ waiting: 0 });
  await holder.query('COMMIT');
  const accepted = await Promise.all(late);
  expect(accepted.map((answer) => answer.statusCode)).toEqual(accepted.map(() => 202));
  for (const [index, shopper] of waiting.entries())
    expect(await endedOrder(shopper, orderIdOf(accepted[index] as never))).toMatchObject({ status: 'completed' });
  await expectNothingLeftOver(shop.url);
});

it('a held basket holds up its own checkout, and nobody else', async () => {
  const product = await addProduct(shop, { stock: 100 });
  const waiting = await shopperWith(product);
  const others = await Promise.all(Array.from({ length: 20 }, () => shopperWith(product)));
  await holder.query('SELECT FROM baskets WHERE token = $1 FOR UPDATE', [waiting.token]);
  const startMs = performance.now();
  const late = waiting.checkout('v1');
  const prompt = await Promise.all(others.map((shopper) => shopper.checkout('v1')));
  expect(performance.now() - startMs).toBeLessThan(soonMs);
  expect(prompt.map((answer) => answer.statusCode)).toEqual(prompt.map(() => 201));
  await holder.query('COMMIT');
  expect((await late).statusCode).toBe(201);
  await expectNothingLeftOver(shop.url);
});

it('a product that stays held turns its buyers away with 503, and nothing is taken', async () => {
  const held = await addProduct(shop, { stock: 10 });
  const shopper = await shopperWith(held);
  await holder.query('SELECT FROM stock WHERE product_id = $1 FOR UPDATE', [held]);
  const answer = await shopper.checkout('v2');
  expect([answer.statusCode, answer.headers['retry-after']]).toEqual([503, '1']);
  await holder.query('ROLLBACK');
  expect((await shopper.checkout('v1')).statusCode).toBe(201);
  await expectNothingLeftOver(shop.url);
});

it('a declined order whose stock is held waits to be settled, and no other order does', async () => {
  const [held, free] = [await addProduct(shop, { stock: 10 }), await addProduct(shop, { stock: 100 })];
  const declined = await shopperWith(held);
  const others = await Promise.all(Array.from({ length: 20 }, () => shopperWith(free)));
  const id = await onServer(shop.url, async (gateway) => {
    // No answer from the gateway before the row is held.
    await gateway.query('BEGIN');
    await gateway.query('LOCK TABLE simulated_gateway.journal IN SHARE MODE');
    const accepted = await declined.checkout('v2', { payment_token: 'tok_fail' });
    await holder.query('SELECT FROM stock WHERE product_id = $1 FOR UPDATE', [held]);
    await gateway.query('COMMIT');
    return orderIdOf(accepted);
  });
  await eventually(async () => (await journalOf(shop, id)).length > 0);
  const prompt = await Promise.all(others.map((shopper) => shopper.checkout('v1')));
  expect(prompt.map((answer) => answer.statusCode)).toEqual(prompt.map(() => 201));
  expect((await declined.order(id)).json()).toMatchObject({ status: 'pending' });
  await holder.query('COMMIT');
  expect(await endedOrder(declined, id)).toMatchObject({ status: 'failed' });
  await expectNothingLeftOver(shop.url);
});
