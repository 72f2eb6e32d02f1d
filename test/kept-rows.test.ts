import { afterEach, beforeEach, expect, it } from 'vitest';
import { basket, insertHealthyShop, order, orders, product } from './support/healthy-shop.ts';
import { createTestDatabase, onServer, type TestDatabase } from './support/postgres.ts';

let database: TestDatabase;

beforeEach(async () => {
  database = await createTestDatabase();
  await insertHealthyShop(database.url);
});
afterEach(() => database.drop());

const completed = order(orders.completed);

it.each([
  ['an order', `DELETE FROM orders WHERE id = '${completed}'`],
  ['the id of an order', `UPDATE orders SET id = gen_random_uuid() WHERE id = '${completed}'`],
  ['the id of a basket', `UPDATE baskets SET id = gen_random_uuid() WHERE id = '${basket(0)}'`],
  ['a basket with orders', `DELETE FROM baskets WHERE id = '${basket(1)}'`],
  ['a product with stock', `DELETE FROM products WHERE id = '${product(1)}'`],
])('nobody can take away %s', (_, statement) =>
  onServer(database.url, async (client) => {
    await expect(client.query(statement)).rejects.toMatchObject({ code: '23503' });
  }),
);

const addLine = `INSERT INTO basket_lines (basket_id, product_id, quantity) VALUES ('${basket(0)}', '${product(1)}', 1)`;
const linesOfBasket = `SELECT FROM basket_lines WHERE basket_id = '${basket(0)}'`;

it('a basket that no order names can be removed, and its lines go with it', async () => {
  await onServer(database.url, async (client) => {
    expect((await client.query(addLine)).rowCount).toBe(1);
    expect((await client.query(`DELETE FROM baskets WHERE id = '${basket(0)}'`)).rowCount).toBe(1);
    expect((await client.query(linesOfBasket)).rowCount).toBe(0);
  });
});

it('a line that is added to a basket while it is being removed goes with it', async () => {
  await onServer(database.url, async (writer) => {
    await writer.query('BEGIN');
    await writer.query(`SELECT FROM baskets WHERE id = '${basket(0)}' FOR NO KEY UPDATE`);
    await onServer(database.url, async (removal) => {
      const removed = removal.query(`DELETE FROM baskets WHERE id = '${basket(0)}'`);
      expect((await writer.query(addLine)).rowCount).toBe(1);
      await writer.query('COMMIT');
      expect((await removed).rowCount).toBe(1);
    });
    expect((await writer.query(linesOfBasket)).rowCount).toBe(0);
  });
});

it('a basket is kept whose first order is accepted while it is being removed', async () => {
  await onServer(database.url, async (acceptance) => {
    await acceptance.query('BEGIN');
    await acceptance.query(`SELECT FROM baskets WHERE id = '${basket(0)}' FOR NO KEY UPDATE`);
    await onServer(database.url, async (removal) => {
      const removed = removal.query(`DELETE FROM baskets WHERE id = '${basket(0)}'`);
      removed.catch(() => undefined);
      await acceptance.query(
        `INSERT INTO orders (id, number, basket_id, currency, items_total, total)
         VALUES (gen_random_uuid(), 'new', '${basket(0)}', 'USD', 1, 1)`,
      );
      await acceptance.query(`UPDATE baskets SET last_event_offset = 0 WHERE id = '${basket(0)}'`);
      await acceptance.query('COMMIT');
      await expect(removed).rejects.toMatchObject({ code: '23503' });
    });
  });
});
