import pg from 'pg';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { addProduct, openTestShop, Shopper, type TestShop } from '../../../test/support/shop.ts';
import { type Database, sql } from '../../platform/db.ts';
import { newId } from '../../shared/ids.ts';
import type { PlannedOrder } from './accept.ts';
import { BatchedReservation } from './batched-reservation.ts';

const lockStock = sql('test.lock_stock', 'SELECT FROM stock WHERE product_id = $1 FOR NO KEY UPDATE');

let shop: TestShop;
beforeAll(async () => {
  shop = await openTestShop({ ROLE: 'web' });
});
afterAll(() => shop.close());

async function plannedOf(product: string): Promise<PlannedOrder> {
  const shopper = new Shopper(shop.app);
  await shopper.put(product, 1);
  return { id: newId(), owner: null, token: String(shopper.token) } as PlannedOrder;
}

it('accepts nobody of a batch whose rest fails, those set aside included: all are told that nothing was taken', async () => {
  const [held, free] = [await addProduct(shop), await addProduct(shop)];
  const [waiting, other, ...fillers] = await Promise.all([held, free, free, free].map(plannedOf));
  const holder = new pg.Client({ connectionString: shop.url });
  await holder.connect();
  await holder.query('BEGIN');
  await holder.query('SELECT FROM stock WHERE product_id = $1 FOR UPDATE', [held]);

  const served: PlannedOrder[] = [];
  let letFillersGo = (): void => undefined;
  const gate = new Promise<void>((resolve) => {
    letFillersGo = resolve;
  });
  const accept = async (database: Database, planned: readonly PlannedOrder[]): Promise<never[]> => {
    if (planned.some((order) => fillers.includes(order))) await gate;
    else if (planned.includes(waiting as PlannedOrder)) {
      await database.transaction((tx) => tx.query(lockStock, [held]));
      served.push(...planned);
    } else throw new Error('The rest fails');
    return planned.map(() => undefined as never);
  };
  const { database, batchDatabase } = shop.resources;
  const reservation = new BatchedReservation({ database, batchDatabase, accept, onSplit: () => undefined });
  const filled = fillers.map((order) => reservation.submit(order));
  const answers = [waiting, other].map((order) => reservation.submit(order as PlannedOrder));
  letFillersGo();
  await Promise.all(filled);
  for (const answer of answers) await expect(answer).rejects.toThrow('The rest fails');
  await holder.query('COMMIT');
  await holder.end();
  expect(await database.query(lockStock, [held])).toHaveLength(1);
  expect(served).toEqual([]);
});
