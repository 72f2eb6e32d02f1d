import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { addProduct, openTestShop, Shopper, type TestShop } from './support/shop.ts';

let shop: TestShop;
beforeAll(async () => {
  shop = await openTestShop();
});
afterAll(() => shop.close());

const emptyBasket = { products: [], total_price: { cents: 0, currency: 'USD' } };

describe.each(['v1', 'v2'])('the basket in %s', (version) => {
  it('is empty for whoever has no token, and reading it makes none', async () => {
    const baskets = async () => (await shop.query('SELECT count(*) FROM baskets'))[0];
    const before = await baskets();
    for (const authorization of [
      undefined,
      'Bearer',
      'Bearer nonsense',
      'Bearer 01960000-0000-7000-8000-000000000000',
    ]) {
      const headers = authorization === undefined ? {} : { authorization };
      const response = await shop.app.inject({ url: `/api/${version}/shopping_basket`, headers });
      expect([response.statusCode, response.json()]).toEqual([200, emptyBasket]);
      expect(response.headers).not.toHaveProperty('shopping-basket-id');
    }
    expect(await baskets()).toEqual(before);
  });

  it('is made by the first write, which returns its token once', async () => {
    const shopper = new Shopper(shop.app);
    const product = await addProduct(shop, { priceCents: 250 });
    const first = await shopper.put(product, 2, version);
    expect(first.statusCode).toBe(201);
    expect(first.headers['shopping-basket-id']).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-7/);
    expect(first.json()).toEqual({
      products: [
        {
          id: product,
          name: 'Lamp',
          description: 'It shines',
          quantity: 2,
          stock_status: 'AVAILABLE',
          total_price: { cents: 500, currency: 'USD' },
        },
      ],
      total_price: { cents: 500, currency: 'USD' },
    });
    const second = await shopper.put(product, 3, version);
    expect(second.headers).not.toHaveProperty('shopping-basket-id');
    expect((await shopper.basket(version)).body).toBe(second.body);
  });

  it('takes the last word of the header for its token, whatever the scheme', async () => {
    const shopper = new Shopper(shop.app);
    await shopper.put(await addProduct(shop), 1, version);
    for (const scheme of ['Bearer ', 'bearer ', 'BEARER   ', 'Token token ', '']) {
      const headers = { authorization: `${scheme}${shopper.token}` };
      const response = await shop.app.inject({ url: `/api/${version}/shopping_basket`, headers });
      expect([scheme, response.json().products.length]).toEqual([scheme, 1]);
    }
  });
});

describe('a line', () => {
  it('is set, not added to, and 0 takes it out', async () => {
    const shopper = new Shopper(shop.app);
    const product = await addProduct(shop);
    await shopper.put(product, 4);
    expect((await shopper.put(product, 2)).json().products[0].quantity).toBe(2);
    const emptied = await shopper.put(product, 0);
    expect([emptied.statusCode, emptied.json()]).toEqual([201, emptyBasket]);
  });

  it('keeps its place in the order first added', async () => {
    const shopper = new Shopper(shop.app);
    const products = [await addProduct(shop), await addProduct(shop), await addProduct(shop)].reverse();
    for (const product of products) await shopper.put(product, 1);
    await shopper.put(products[0], 3);
    const shown = (await shopper.basket()).json().products.map((line: { id: string }) => line.id);
    expect(shown).toEqual(products);
  });

  it('follows the price and the stock of its product', async () => {
    const shopper = new Shopper(shop.app);
    const product = await addProduct(shop, { stock: 5 });
    await shopper.put(product, 5);
    await shop.query('UPDATE products SET price_cents = 7 WHERE id = $1', [product]);
    await shop.query('UPDATE stock SET sellable = 4 WHERE product_id = $1', [product]);
    expect((await shopper.basket()).json()).toMatchObject({
      products: [{ quantity: 5, stock_status: 'OUT_OF_STOCK', total_price: { cents: 35 } }],
      total_price: { cents: 35 },
    });
  });

  it('of an archived product can still be taken out', async () => {
    const shopper = new Shopper(shop.app);
    const product = await addProduct(shop);
    await shopper.put(product, 1);
    await shop.query('UPDATE products SET archived_at = now() WHERE id = $1', [product]);
    expect((await shopper.basket()).json().products[0].stock_status).toBe('OUT_OF_STOCK');
    expect((await shopper.put(product, 1)).statusCode).toBe(404);
    expect((await shopper.put(product, 0)).json()).toEqual(emptyBasket);
  });
});

describe('a refused write', () => {
  const unknown = '01960000-0000-7000-8000-000000000000';

  it.each([
    ['more than is in stock', 11, 422, 'Quantity exceeds available stock.'],
    ['more than the limit of an order', 6, 422, 'Quantity must be less than or equal to 5'],
    ['a negative quantity', -1, 422, 'Quantity must be greater than or equal to 0'],
    ['half a unit', 1.5, 422, 'Quantity must be an integer'],
    ['a quantity in words', '2', 422, 'Quantity must be an integer'],
    ['no quantity', undefined, 422, 'Quantity must be an integer'],
    ['ten thousand and one', 10_001, 422, 'Quantity must be less than or equal to 10000'],
  ])('for %s leaves the basket byte-identical', async (_, quantity, status, message) => {
    const shopper = new Shopper(shop.app);
    const maxPerOrder = message.endsWith('to 5') ? 5 : null;
    const product = await addProduct(shop, { stock: 10, maxPerOrder });
    await shopper.put(product, 2);
    const before = (await shopper.basket()).body;
    const response = await shopper.put(product, quantity);
    expect([response.statusCode, response.json()]).toEqual([status, { error: { code: status, messages: [message] } }]);
    expect((await shopper.basket()).body).toBe(before);
  });

  it.each([0, 1])('for an unknown product with quantity %s is 404 and makes no basket', async (quantity) => {
    const shopper = new Shopper(shop.app);
    const response = await shopper.put(unknown, quantity);
    expect(response.json().error.messages).toEqual([`Couldn't find Product with 'id'="${unknown}"`]);
    expect([response.statusCode, shopper.token]).toEqual([404, null]);
  });

  it('without a product is 400', async () => {
    const url = '/api/v1/shopping_basket/products';
    const response = await shop.app.inject({ method: 'POST', url, payload: {} });
    expect(response.json()).toEqual({ error: { code: 400, messages: ['Missing parameter: product'] } });
  });

  it('of a 101st line is 422, while the first hundred can still be changed', async () => {
    const shopper = new Shopper(shop.app);
    const products: string[] = [];
    for (let n = 0; n < 101; n++) products.push(await addProduct(shop));
    for (const product of products.slice(0, 100)) await shopper.put(product, 1);
    const full = await shopper.put(products[100], 1);
    expect([full.statusCode, full.json().error.messages]).toEqual([422, ['Basket is full']]);
    expect((await shopper.put(products[99], 2)).statusCode).toBe(201);
  });
});

it('answers 304 to whoever has the bytes already, to each shopper apart', async () => {
  const shopper = new Shopper(shop.app);
  await shopper.put(await addProduct(shop), 1);
  const first = await shopper.basket();
  expect(first.headers).toMatchObject({ 'cache-control': 'private, no-cache', vary: 'Authorization' });
  const headers = { 'if-none-match': String(first.headers.etag) };
  const again = await shopper.request({ method: 'GET', url: '/api/v1/shopping_basket', headers });
  expect([again.statusCode, again.body]).toEqual([304, '']);
});
