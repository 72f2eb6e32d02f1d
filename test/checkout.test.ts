import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  addProduct,
  checkoutBody,
  endedOrder,
  openTestShop,
  orderIdOf,
  Shopper,
  type TestShop,
} from './support/shop.ts';

let shop: TestShop;
beforeAll(async () => {
  shop = await openTestShop();
});
afterAll(() => shop.close());

const noItems = { error: { code: 422, messages: ['No items available in stock.'] } };
const stockOf = async (product: string): Promise<number> => {
  const [row] = await shop.query<{ sellable: number }>('SELECT sellable FROM stock WHERE product_id = $1', [product]);
  return row?.sellable ?? -1;
};

/** What the simulated gateway's book says of an order. */
const captured = (orderId: string): Promise<Array<{ amount: number }>> =>
  shop.query(`SELECT amount FROM simulated_gateway.journal WHERE operation = 'capture' AND approved AND key LIKE $1`, [
    `${orderId}:%`,
  ]);

describe('a synchronous checkout', () => {
  it('answers with the order, charged once for what was sold', async () => {
    const shopper = new Shopper(shop.app);
    const [lamp, chair] = [
      await addProduct(shop, { name: 'Lamp', priceCents: 300 }),
      await addProduct(shop, { name: 'Chair', priceCents: 50 }),
    ];
    await shopper.put(chair, 2);
    await shopper.put(lamp, 1);
    const response = await shopper.checkout('v1');
    expect(response.statusCode).toBe(201);
    const order = response.json();
    expect(order).toEqual({
      id: expect.any(String),
      email: 'shopper@example.com',
      created_at: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/),
      total_price: { cents: 400, currency: 'USD' },
      order_products: [
        {
          id: chair,
          name: 'Chair',
          description: 'It shines',
          quantity: 2,
          unit_price: { cents: 50, currency: 'USD' },
          total_price: { cents: 100, currency: 'USD' },
        },
        {
          id: lamp,
          name: 'Lamp',
          description: 'It shines',
          quantity: 1,
          unit_price: { cents: 300, currency: 'USD' },
          total_price: { cents: 300, currency: 'USD' },
        },
      ],
    });
    expect(await captured(order.id)).toEqual([{ amount: 400 }]);
    expect([await stockOf(chair), await stockOf(lamp)]).toEqual([8, 9]);
    expect((await shopper.basket()).json().products).toEqual([]);
    expect((await shopper.order(order.id)).json()).toEqual({
      id: order.id,
      status: 'completed',
      order,
      error: null,
      events_url: expect.stringContaining(order.id),
    });
  });

  it.each(['tok_fail', 'tok_failure'])('with %s is 402, and everything is as before', async (payment_token) => {
    const shopper = new Shopper(shop.app);
    const products = [await addProduct(shop), await addProduct(shop)];
    for (const product of products) await shopper.put(product, 2);
    const before = (await shopper.basket()).body;
    const response = await shopper.checkout('v1', { payment_token });
    expect(response.json()).toEqual({ error: { code: 402, messages: ['Insufficient funds'] } });
    const id = orderIdOf(response);
    expect((await shopper.order(id)).json()).toEqual({
      id,
      status: 'failed',
      order: null,
      error: { code: 'payment_required', message: 'Insufficient funds' },
      events_url: expect.stringContaining(id),
    });
    expect(await captured(id)).toEqual([]);
    expect((await shopper.basket()).body).toBe(before);
    expect(await stockOf(String(products[0]))).toBe(10);
    expect((await shopper.checkout('v1')).statusCode).toBe(201);
  });
});

describe('an asynchronous checkout', () => {
  it('is accepted at once and says where its outcome will be told', async () => {
    const shopper = new Shopper(shop.app);
    await shopper.put(await addProduct(shop), 1);
    const response = await shopper.checkout('v2');
    expect(response.statusCode).toBe(202);
    expect(response.json()).toEqual({
      message: 'Checkout processing started',
      events_url: expect.stringMatching(/^\/api\/v2\/orders\/[0-9a-f-]{36}\/events\?ticket=\d+\.[\w-]{22}$/),
      notifications: { channel: 'CheckoutNotificationsChannel', params: { shopping_basket_id: shopper.token } },
    });
    expect(response.headers.location).toMatch(/^\/api\/v2\/orders\/[0-9a-f-]{36}$/);
    expect(await endedOrder(shopper, orderIdOf(response))).toMatchObject({ status: 'completed' });
  });

  it('can follow another from the same basket under the same token', async () => {
    const shopper = new Shopper(shop.app);
    const product = await addProduct(shop);
    for (const quantity of [1, 2]) {
      await shopper.put(product, quantity);
      await endedOrder(shopper, orderIdOf(await shopper.checkout('v2')));
    }
    expect(await stockOf(product)).toBe(7);
  });
});

describe('an order', () => {
  it('is shown to nobody but the holder of its basket', async () => {
    const shopper = new Shopper(shop.app);
    const stranger = new Shopper(shop.app);
    await shopper.put(await addProduct(shop), 1);
    await stranger.put(await addProduct(shop), 1);
    const id = orderIdOf(await shopper.checkout('v2'));
    const notFound = { error: { code: 404, messages: [`Couldn't find Order with 'id'="${id}"`] } };
    expect((await stranger.order(id)).json()).toEqual(notFound);
    expect((await new Shopper(shop.app).order(id)).json()).toEqual(notFound);
    expect((await shopper.order('abc')).statusCode).toBe(404);
    expect((await shopper.order(id)).headers).toMatchObject({
      vary: 'Authorization, Prefer',
      etag: expect.any(String),
    });
  });

  it('keeps name, description and price of the moment of sale', async () => {
    const shopper = new Shopper(shop.app);
    const product = await addProduct(shop, { priceCents: 100 });
    await shopper.put(product, 1);
    const sold = (await shopper.checkout('v1')).json();
    await shop.query(`UPDATE products SET name = 'New', price_cents = 999 WHERE id = $1`, [product]);
    expect((await shopper.order(sold.id)).json().order).toEqual(sold);
  });
});

describe.each(['v1', 'v2'] as const)('in %s, a basket short of stock', (version) => {
  const isSold = version === 'v1' ? 201 : 202;

  it('sells the rest, charges the rest, and keeps the short line', async () => {
    const shopper = new Shopper(shop.app);
    const [short, there] = [await addProduct(shop, { stock: 5 }), await addProduct(shop, { priceCents: 70 })];
    await shopper.put(short, 5);
    await shopper.put(there, 1);
    await shop.query('UPDATE stock SET sellable = 4 WHERE product_id = $1', [short]);
    const response = await shopper.checkout(version);
    expect(response.statusCode).toBe(isSold);
    const id = orderIdOf(response);
    await endedOrder(shopper, id);
    expect(await captured(id)).toEqual([{ amount: 70 }]);
    expect((await shopper.basket()).json().products).toMatchObject([{ id: short, quantity: 5 }]);
    expect(await stockOf(short)).toBe(4);
  });

  it('counts a line above the limit of an order as short', async () => {
    const shopper = new Shopper(shop.app);
    const product = await addProduct(shop);
    await shopper.put(product, 3);
    await shop.query('UPDATE products SET max_per_order = 2 WHERE id = $1', [product]);
    expect((await shopper.checkout(version)).json()).toEqual(noItems);
  });

  it('is refused whole when it asks for all or nothing', async () => {
    const shopper = new Shopper(shop.app);
    const [short, there] = [await addProduct(shop, { stock: 5 }), await addProduct(shop)];
    await shopper.put(short, 5);
    await shopper.put(there, 1);
    await shop.query('UPDATE stock SET sellable = 4 WHERE product_id = $1', [short]);
    const response = await shopper.checkout(version, { fulfilment: 'all_or_nothing' });
    expect(response.json()).toEqual({ error: { code: 422, messages: ['Quantity exceeds available stock.'] } });
    expect([await stockOf(there), (await shopper.basket()).json().products.length]).toEqual([10, 2]);
  });

  it('is refused when nothing is left, when it is empty, and when there is none', async () => {
    const shopper = new Shopper(shop.app);
    expect((await shopper.checkout(version)).json()).toEqual(noItems);
    const product = await addProduct(shop, { stock: 1 });
    await shopper.put(product, 1);
    await shop.query('UPDATE stock SET sellable = 0 WHERE product_id = $1', [product]);
    expect((await shopper.checkout(version)).json()).toEqual(noItems);
    await shopper.put(product, 0);
    expect((await shopper.checkout(version)).json()).toEqual(noItems);
  });
});

describe('a checkout is refused', () => {
  it('with 409 when the basket costs something else than was expected', async () => {
    const shopper = new Shopper(shop.app);
    const product = await addProduct(shop, { priceCents: 100 });
    await shopper.put(product, 2);
    const refused = await shopper.checkout('v2', { expected_total: 199 });
    expect(refused.json()).toEqual({ error: { code: 409, messages: ['Total has changed'] } });
    expect(await stockOf(product)).toBe(10);
    expect((await shopper.checkout('v1', { expected_total: 200 })).statusCode).toBe(201);
  });

  it('with 400 without an address', async () => {
    const response = await new Shopper(shop.app).checkout('v1', { address: undefined, email: '' });
    expect(response.json()).toEqual({ error: { code: 400, messages: ['Missing parameter: address'] } });
  });

  it('with 422 and one message for each fault', async () => {
    const address = { line_1: ' ', line_2: '', city: '', state: 'IL', country: null };
    const response = await new Shopper(shop.app).checkout('v2', { address, email: 'nobody', payment_token: '' });
    expect(response.statusCode).toBe(422);
    expect([...response.json().error.messages].sort()).toEqual([
      "City can't be blank",
      "Country can't be blank",
      'Email is invalid',
      "Line 1 can't be blank",
      "Payment token can't be blank",
      "Zip can't be blank",
    ]);
  });

  it('when the email is blank with that message alone', async () => {
    const response = await new Shopper(shop.app).checkout('v2', { email: '' });
    expect(response.json().error.messages).toEqual(["Email can't be blank"]);
  });
});

describe('while a checkout is in flight', () => {
  let slow: TestShop;
  beforeAll(async () => {
    slow = await openTestShop({ SIMULATED_GATEWAY_LATENCY_MS: '1500' });
  });
  afterAll(() => slow.close());

  it('a second one is refused with 409, after the body has been checked', async () => {
    const shopper = new Shopper(slow.app);
    await shopper.put(await addProduct(slow), 1);
    expect((await shopper.checkout('v2')).statusCode).toBe(202);
    for (const version of ['v1', 'v2'] as const) {
      const twin = await shopper.checkout(version);
      expect(twin.json()).toEqual({ error: { code: 409, messages: ['Checkout is already being processed'] } });
      expect((await shopper.checkout(version, { email: '' })).statusCode).toBe(422);
    }
  });

  it('what the shopper puts in stays in the basket, and declined lines join it up to the caps', async () => {
    const shopper = new Shopper(slow.app);
    const [product, limited, gone] = [
      await addProduct(slow, { stock: 20 }),
      await addProduct(slow, { maxPerOrder: 3 }),
      await addProduct(slow),
    ];
    await shopper.put(product, 4);
    await shopper.put(limited, 2);
    await shopper.put(gone, 1);
    const response = await shopper.checkout('v2', { payment_token: 'tok_fail' });
    expect((await shopper.basket()).json().products).toEqual([]);
    await shopper.put(limited, 3);
    await shopper.put(product, 1);
    await slow.query('UPDATE products SET archived_at = now() WHERE id = $1', [gone]);
    expect(await endedOrder(shopper, orderIdOf(response))).toMatchObject({ status: 'failed' });
    expect((await shopper.basket()).json().products).toMatchObject([
      { id: product, quantity: 5 },
      { id: limited, quantity: 3 },
    ]);
  });

  it('an order shows its state and nothing else', async () => {
    const shopper = new Shopper(slow.app);
    await shopper.put(await addProduct(slow), 1);
    const id = orderIdOf(await shopper.checkout('v2'));
    expect((await shopper.order(id)).json()).toEqual({
      id,
      status: 'pending',
      order: null,
      error: null,
      events_url: expect.stringContaining(id),
    });
  });
});

it('keeps no payment token once the order is over, and numbers orders without telling their count', async () => {
  const shopper = new Shopper(shop.app);
  const product = await addProduct(shop);
  for (let n = 0; n < 2; n++) {
    await shopper.put(product, 1);
    await shopper.request({ method: 'POST', url: '/api/v1/shopping_basket/checkout', payload: checkoutBody() });
  }
  const ended = 'SELECT payment_token FROM order_states WHERE ended_at IS NOT NULL';
  expect(new Set((await shop.query(ended)).map((row) => row.payment_token))).toEqual(new Set([null]));
  const numbers = await shop.query<{ number: string }>('SELECT number FROM orders');
  for (const { number } of numbers) expect(number).toMatch(/^[0-9A-HJKMNP-TV-Z]{4}-[0-9A-HJKMNP-TV-Z]{4}$/);
});
