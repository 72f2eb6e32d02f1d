import pg from 'pg';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { expectNothingLeftOver } from '../../../test/support/invariants.ts';
import { addProduct, openTestShop, orderIdOf, Shopper, type TestShop } from '../../../test/support/shop.ts';
import { isLockTimeout } from '../../platform/db.ts';
import { newId } from '../../shared/ids.ts';
import { BatchedSettlement } from './batched-settlement.ts';
import { endPayment } from './pay.ts';
import type { Settlement } from './settle.ts';
import { readWork } from './work.ts';

const owner = { workerId: newId(), epoch: 7 };

let shop: TestShop;
let holder: pg.Client;
beforeEach(async () => {
  shop = await openTestShop({ ROLE: 'web' });
  holder = new pg.Client({ connectionString: shop.url });
  await holder.connect();
  await holder.query('BEGIN');
});
afterEach(async () => {
  await holder.end();
  await shop.close();
});

type Paid = Readonly<{ settlement: Settlement; product: string }>;

/** An order whose payment has ended, and is not settled yet. */
async function paid(paymentToken: string): Promise<Paid> {
  const { database, gateway } = shop.resources;
  const product = await addProduct(shop);
  const shopper = new Shopper(shop.app);
  await shopper.put(product, 1);
  const orderId = orderIdOf(await shopper.checkout('v2', { payment_token: paymentToken }));
  await shop.query('UPDATE order_states SET worker_id = $2, worker_epoch = $3 WHERE order_id = $1', [
    orderId,
    owner.workerId,
    owner.epoch,
  ]);
  const work = await readWork(database, orderId, owner);
  if (!work) throw new Error('The order is not there');
  const outcome = await endPayment(gateway, work, () => undefined);
  return { settlement: { owner, work, outcome }, product };
}

const basketOf = ({ settlement }: Paid): string => settlement.work.basketId;
const orderOf = ({ settlement }: Paid): string => settlement.work.orderId;
const productOf = ({ product }: Paid): string => product;

it.each([
  { row: 'basket', token: 'tok_success', table: 'baskets', column: 'id', keyOf: basketOf },
  { row: 'state', token: 'tok_success', table: 'order_states', column: 'order_id', keyOf: orderOf },
  { row: 'stock', token: 'tok_fail', table: 'stock', column: 'product_id', keyOf: productOf },
])('refuses an order whose $row is held ($token), and settles the others of its batch', async (held) => {
  const late = await paid(held.token);
  const others = [await paid('tok_success'), await paid('tok_fail'), await paid('tok_success'), await paid('tok_fail')];
  await holder.query(`SELECT FROM ${held.table} WHERE ${held.column} = $1 FOR UPDATE`, [held.keyOf(late)]);
  const settlements = new BatchedSettlement(shop.resources.workerDatabase, (error) => {
    throw error;
  });
  // The first leaves at once, on its own; the others leave together.
  const [first, ...rest] = others.map(({ settlement }) => settlement) as [Settlement, ...Settlement[]];
  const answers = [first, late.settlement, ...rest].map((settlement) => settlements.submit(settlement));
  const [, refused, ...settled] = await Promise.allSettled(answers);
  expect(refused?.status === 'rejected' && isLockTimeout(refused.reason)).toBe(true);
  expect(settled.map((one) => one.status === 'fulfilled' && one.value?.kind)).toEqual([
    'failed',
    'completed',
    'failed',
  ]);
  await holder.query('COMMIT');
  const kind = held.token === 'tok_fail' ? 'failed' : 'completed';
  expect(await settlements.submit(late.settlement)).toMatchObject({ kind });
  await expectNothingLeftOver(shop.url);
});
