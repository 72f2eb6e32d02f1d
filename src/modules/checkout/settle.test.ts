import { afterEach, beforeEach, expect, it } from 'vitest';
import { addProduct, openTestShop, orderIdOf, Shopper, type TestShop } from '../../../test/support/shop.ts';
import { newId } from '../../shared/ids.ts';
import type { PaymentOutcome } from './pay.ts';
import { settleOrders } from './settle.ts';
import { readWork } from './work.ts';

let shop: TestShop;
beforeEach(async () => {
  shop = await openTestShop({ ROLE: 'web' });
});
afterEach(() => shop.close());

it('changes nothing of an order that was retried since, although it has come back to the same owner', async () => {
  const { database } = shop.resources;
  const shopper = new Shopper(shop.app);
  await shopper.put(await addProduct(shop), 1);
  const orderId = orderIdOf(await shopper.checkout('v2'));
  const owner = { workerId: newId(), epoch: 7 };
  await shop.query('UPDATE order_states SET worker_id = $1, worker_epoch = $2', [owner.workerId, owner.epoch]);
  const work = await readWork(database, orderId, owner);
  if (!work) throw new Error('The order is not there');
  const outcome: PaymentOutcome = { captured: false, attempt: 'voided', code: 'hold_expired', message: 'Too late' };
  await shop.query('UPDATE order_states SET attempt = 2');
  expect(await database.transaction((tx) => settleOrders(tx, [{ owner, work, outcome }]))).toEqual([null]);
  expect(await shop.query('SELECT state, attempt FROM order_states')).toEqual([{ state: 'pending', attempt: 2 }]);
  const [event] = await database.transaction((tx) =>
    settleOrders(tx, [{ owner, work: { ...work, attempt: 2 }, outcome }]),
  );
  expect(event).toMatchObject({ orderId, kind: 'failed' });
});
