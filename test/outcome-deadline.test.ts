import { expect, it } from 'vitest';
import { startWorker } from '../src/worker.ts';
import { addProduct, endedOrder, openTestShop, orderIdOf, Shopper } from './support/shop.ts';

it("answers 504 with the order's address when a synchronous checkout has no outcome after 25 s; the order goes on", async () => {
  const shop = await openTestShop({ ROLE: 'web' });
  const shopper = new Shopper(shop.app);
  await shopper.put(await addProduct(shop), 1);
  const response = await shopper.checkout('v1');
  expect([response.statusCode, response.json().error.code]).toEqual([504, 504]);
  const worker = await startWorker(shop.resources, 'worker');
  expect(await endedOrder(shopper, orderIdOf(response))).toMatchObject({ status: 'completed' });
  await worker.stop();
  await shop.close();
}, 120_000);
