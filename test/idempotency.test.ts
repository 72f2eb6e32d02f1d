import type { LightMyRequestResponse as Response } from 'fastify';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { purgeExpiredKeys } from '../src/modules/idempotency/idempotency.service.ts';
import { newId } from '../src/shared/ids.ts';
import { expectSoon } from './support/expect-soon.ts';
import { expectNothingLeftOver } from './support/invariants.ts';
import { allEnded, charges, soldUnits, stockOf } from './support/ledger.ts';
import { heldBasket, releaseTogether, untilDecided } from './support/race.ts';
import {
  addProduct,
  checkoutBody,
  endedOrder,
  openTestShop,
  orderIdOf,
  Shopper,
  type TestShop,
} from './support/shop.ts';

type Version = 'v1' | 'v2';

const usedBefore = 'Idempotency-Key was used before with another request';
const underWay = 'A request with this Idempotency-Key is being processed';
const twinCount = 50;
const strategies = ['batched', 'atomic', 'pessimistic'];

let shop: TestShop;
const open = async (strategy: string): Promise<void> => {
  shop = await openTestShop({ RESERVATION_STRATEGY: strategy });
};
const close = (): Promise<void> => shop.close();

function leavesNothingOver(): void {
  it('leaves nothing over', async () => {
    await allEnded(shop);
    await expectNothingLeftOver(shop.url);
  });
}

async function shopperWith(product: string, quantity = 1): Promise<Shopper> {
  const shopper = new Shopper(shop.app);
  expect((await shopper.put(product, quantity)).statusCode).toBe(201);
  return shopper;
}

function checkout(shopper: Shopper, version: Version, key: string, changes: object = {}): Promise<Response> {
  return shopper.request({
    method: 'POST',
    url: `/api/${version}/shopping_basket/checkout`,
    headers: { 'idempotency-key': key },
    payload: checkoutBody({ ...changes }),
  });
}

function put(shopper: Shopper, productId: string, quantity: number, key: string, version = 'v1'): Promise<Response> {
  return shopper.request({
    method: 'POST',
    url: `/api/${version}/shopping_basket/products`,
    headers: { 'idempotency-key': key },
    payload: { product: { product_id: productId, quantity } },
  });
}

async function receive(product: string, units: number): Promise<void> {
  await shop.query(
    `WITH moved AS (INSERT INTO stock_movements (product_id, delta, kind, who, why)
       VALUES ($1, $2::integer, 'received', 'test', 'test'))
     UPDATE stock SET sellable = sellable + $2::integer WHERE product_id = $1`,
    [product, units],
  );
}

function messagesOf(response: Response): string[] {
  return response.json().error.messages;
}

function isReplay(response: Response): boolean {
  return response.headers['idempotent-replayed'] === 'true';
}

/** Of twins: the answers of those that were not told to come again. */
function answered(responses: readonly Response[]): Response[] {
  const others = responses.filter((response) => response.statusCode !== 409);
  for (const response of responses.filter((each) => !others.includes(each)))
    expect([messagesOf(response), response.headers['retry-after']]).toEqual([[underWay], '1']);
  return others;
}

/** As if so much time had passed since the keys of `shopper` were used. */
async function ageKeys(shopper: Shopper, interval: string): Promise<void> {
  await shop.query(
    `UPDATE idempotency_keys k SET created_at = k.created_at - $2::interval
       FROM baskets b WHERE b.id = k.basket_id AND b.token = $1`,
    [shopper.token, interval],
  );
}

async function keysOf(shopper: Shopper): Promise<string[]> {
  const rows = await shop.query<{ key: string }>(
    'SELECT key FROM idempotency_keys k JOIN baskets b ON b.id = k.basket_id WHERE b.token = $1 ORDER BY key',
    [shopper.token],
  );
  return rows.map((row) => row.key);
}

describe.each(strategies)('a checkout with an Idempotency-Key (%s)', (strategy) => {
  beforeAll(() => open(strategy));
  afterAll(close);

  it.each(['v1', 'v2'] as const)('that is sent %s many times at once is carried out once', async (version) => {
    const product = await addProduct(shop, { stock: 100 });
    const shopper = await shopperWith(product, 2);
    const responses = await Promise.all(
      Array.from({ length: twinCount }, () => untilDecided(() => checkout(shopper, version, 'one'))),
    );
    const answers = answered(responses);
    if (version === 'v1') expect(answers).toHaveLength(twinCount);
    expect(new Set(answers.map((answer) => answer.statusCode))).toEqual(new Set([version === 'v1' ? 201 : 202]));
    expect(new Set(answers.map((answer) => answer.body)).size).toBe(1);
    expect(new Set(answers.map((answer) => answer.headers.location)).size).toBe(1);
    expect(answers.filter((answer) => !isReplay(answer))).toHaveLength(1);
    await allEnded(shop);
    expect([await charges(shop, product), await stockOf(shop, product)]).toEqual([[2_000], 98]);
  });

  it('is answered again, before and after its order has ended', async () => {
    const product = await addProduct(shop);
    const shopper = await shopperWith(product);
    const first = await checkout(shopper, 'v2', 'again');
    const early = await checkout(shopper, 'v2', 'again');
    await endedOrder(shopper, orderIdOf(first));
    await shopper.put(product, 3);
    const late = await checkout(shopper, 'v2', 'again');
    for (const replay of [early, late]) {
      expect([replay.statusCode, replay.body, replay.headers.location]).toEqual([
        202,
        first.body,
        first.headers.location,
      ]);
      expect(isReplay(replay)).toBe(true);
    }
    expect(isReplay(first)).toBe(false);
    expect((await shopper.basket()).json().products).toMatchObject([{ id: product, quantity: 3 }]);
    expect(await stockOf(shop, product)).toBe(9);
  });

  it('and another body is refused, and changes nothing', async () => {
    const product = await addProduct(shop);
    const shopper = await shopperWith(product);
    const first = await checkout(shopper, 'v2', 'other');
    for (const changes of [
      { email: 'else@example.com' },
      { fulfilment: 'all_or_nothing' },
      { expected_total: 1_000 },
    ]) {
      const other = await checkout(shopper, 'v2', 'other', changes);
      expect([other.statusCode, messagesOf(other)]).toEqual([422, [usedBefore]]);
      expect(isReplay(other)).toBe(false);
    }
    expect((await checkout(shopper, 'v2', 'other')).headers.location).toBe(first.headers.location);
    await allEnded(shop);
    expect(await soldUnits(shop, product)).toBe(1);
  });

  it('is the same whatever the order of its fields, and with the defaults written out', async () => {
    const shopper = await shopperWith(await addProduct(shop));
    const first = await checkout(shopper, 'v2', 'order');
    const { address, ...rest } = checkoutBody();
    const reversed = Object.fromEntries(Object.entries(address as object).reverse());
    const response = await shopper.request({
      method: 'POST',
      url: '/api/v2/shopping_basket/checkout',
      headers: { 'idempotency-key': '"order"' },
      payload: { fulfilment: 'partial', address: reversed, ...rest },
    });
    expect([response.statusCode, response.headers.location]).toEqual([202, first.headers.location]);
  });

  it('that was declined is declined again without another charge', async () => {
    const product = await addProduct(shop);
    const shopper = await shopperWith(product);
    const declined = { payment_token: 'tok_fail' };
    const first = await checkout(shopper, 'v1', 'declined', declined);
    const again = await checkout(shopper, 'v1', 'declined', declined);
    expect([first, again].map((response) => [response.statusCode, messagesOf(response), isReplay(response)])).toEqual([
      [402, ['Insufficient funds'], false],
      [402, ['Insufficient funds'], true],
    ]);
    expect(again.headers.location).toBe(first.headers.location);
    const attempts = await shop.query('SELECT FROM simulated_gateway.journal WHERE starts_with(key, $1)', [
      orderIdOf(first),
    ]);
    expect(attempts).toHaveLength(1);
    expect((await checkout(shopper, 'v1', 'new-try')).statusCode).toBe(201);
  });

  it('that was refused is not remembered: the same later may succeed', async () => {
    const product = await addProduct(shop, { stock: 1 });
    const [shopper, other] = [await shopperWith(product), await shopperWith(product)];
    await checkout(other, 'v1', 'takes-it');
    expect((await checkout(shopper, 'v2', 'short')).statusCode).toBe(422);
    expect((await checkout(shopper, 'v2', 'changed', { expected_total: 7 })).statusCode).toBe(409);
    expect(await keysOf(shopper)).toEqual([]);
    await receive(product, 5);
    const later = await checkout(shopper, 'v2', 'short');
    expect([later.statusCode, isReplay(later)]).toEqual([202, false]);
    expect(await keysOf(shopper)).toEqual(['short']);
  });

  it('is told apart from a second checkout while the first is live', async () => {
    const shopper = await shopperWith(await addProduct(shop));
    const [first, second] = [await checkout(shopper, 'v2', 'first'), await checkout(shopper, 'v2', 'second')];
    if (second.statusCode === 409) expect(messagesOf(second)).toEqual(['Checkout is already being processed']);
    else expect(second.statusCode).toBe(422);
    expect(await keysOf(shopper)).toEqual(['first']);
    expect((await checkout(shopper, 'v2', 'first')).headers.location).toBe(first.headers.location);
  });

  leavesNothingOver();
});

describe('an Idempotency-Key', () => {
  beforeAll(() => open('batched'));
  afterAll(close);

  it('may be used for something else after 24 hours, and not before', async () => {
    const product = await addProduct(shop);
    const shopper = await shopperWith(product);
    const first = await checkout(shopper, 'v1', 'key', { email: 'first@example.com' });
    await ageKeys(shopper, '23:59');
    await shopper.put(product, 2);
    expect((await checkout(shopper, 'v1', 'key')).statusCode).toBe(422);
    expect((await checkout(shopper, 'v1', 'key', { email: 'first@example.com' })).body).toBe(first.body);
    await ageKeys(shopper, '00:02');
    const second = await checkout(shopper, 'v1', 'key');
    expect([second.statusCode, isReplay(second)]).toEqual([201, false]);
    expect(orderIdOf(second)).not.toBe(orderIdOf(first));
    expect((await checkout(shopper, 'v1', 'key')).body).toBe(second.body);
    expect(await soldUnits(shop, product)).toBe(3);
  });

  it('is purged when it has expired', async () => {
    const [old, young] = [await shopperWith(await addProduct(shop)), await shopperWith(await addProduct(shop))];
    for (const shopper of [old, young]) await checkout(shopper, 'v1', 'key');
    await ageKeys(old, '24:01');
    await shop.query(
      `INSERT INTO idempotency_keys (basket_id, operation, key, request_digest, answer, created_at)
       SELECT gen_random_uuid(), 'test', n::text, '', '', now() - interval '2 days' FROM generate_series(1, 2500) n`,
    );
    expect(await purgeExpiredKeys(shop.resources.database)).toBe(2_501);
    expect([await keysOf(old), await keysOf(young)]).toEqual([[], ['key']]);
  });

  it('belongs to a basket and an operation: the same one elsewhere is another', async () => {
    const product = await addProduct(shop);
    const [one, other] = [await shopperWith(product), await shopperWith(product)];
    const answers = [await checkout(one, 'v1', 'key'), await checkout(other, 'v1', 'key', { email: 'o@example.com' })];
    await one.put(product, 1);
    answers.push(await checkout(one, 'v2', 'key'));
    expect(answers.map((answer) => [answer.statusCode, isReplay(answer)])).toEqual([
      [201, false],
      [201, false],
      [202, false],
    ]);
    expect(new Set(answers.map(orderIdOf)).size).toBe(3);
  });

  it('is ignored without a known basket', async () => {
    const nobody = new Shopper(shop.app);
    for (const token of [null, newId()]) {
      nobody.token = token;
      for (const changes of [{}, { email: 'else@example.com' }])
        expect(messagesOf(await checkout(nobody, 'v2', 'key', changes))).toEqual(['No items available in stock.']);
    }
  });

  const malformed: ReadonlyArray<[what: string, key: string]> = [
    ['is empty', ''],
    ['is an empty quoted string', '""'],
    ['is 10 KB long', 'k'.repeat(10_000)],
    ['has 256 characters', 'k'.repeat(256)],
    ['has 256 characters in quotes', `"${'k'.repeat(256)}"`],
    ['has a space', 'a b'],
    ['has a tab in quotes', '"a\tb"'],
    ['is not ASCII', 'clé'],
    ['is not closed', '"abc'],
    ['goes on after its quotes', '"abc"def'],
    ['is given twice', 'one, two'],
    ['has an escape that is none', '"a\\b"'],
  ];
  it.each(malformed)('that %s is refused before the body is looked at', async (_, key) => {
    const shopper = await shopperWith(await addProduct(shop));
    for (const version of ['v1', 'v2'] as const) {
      const response = await checkout(shopper, version, key, { email: 'none' });
      expect([response.statusCode, messagesOf(response)]).toEqual([
        400,
        ['Idempotency-Key must be given once, as 1 to 255 visible ASCII characters, bare or as a quoted string'],
      ]);
    }
    expect((await shopper.basket()).json().products).toHaveLength(1);
  });

  it.each([
    ['k'.repeat(255)],
    ['!#$%&()*+,-./:;<=>?@[]^_`{|}~'],
    ['"a\\"b\\\\c"'],
    ['8e03978e-40d5-43dd-bc93-6894a57f9324'],
  ])('may be %s', async (key) => {
    const shopper = await shopperWith(await addProduct(shop));
    const first = await checkout(shopper, 'v2', key);
    expect(first.statusCode).toBe(202);
    expect((await checkout(shopper, 'v2', key)).headers.location).toBe(first.headers.location);
  });

  it('of a sold and refunded order still shows what was sold', async () => {
    const product = await addProduct(shop);
    const shopper = await shopperWith(product);
    const sold = await checkout(shopper, 'v1', 'key');
    await shop.query(`INSERT INTO cancellations (order_id, restock, requested_by) VALUES ($1, false, 'test')`, [
      orderIdOf(sold),
    ]);
    await expectSoon(async () => (await shopper.order(orderIdOf(sold))).json().status).toBe('refunded');
    const replay = await checkout(shopper, 'v1', 'key');
    expect([replay.statusCode, replay.body, isReplay(replay)]).toEqual([201, sold.body, true]);
  });

  leavesNothingOver();
});

describe('a write to a basket with an Idempotency-Key', () => {
  beforeAll(() => open('batched'));
  afterAll(close);

  it.each(['v1', 'v2'] as const)('that is sent %s many times at once is done once', async (version) => {
    const product = await addProduct(shop, { stock: 100 });
    const shopper = await shopperWith(product);
    const responses = await Promise.all(
      Array.from({ length: twinCount }, () => untilDecided(() => put(shopper, product, 5, 'key', version))),
    );
    const answers = answered(responses);
    expect(new Set(answers.map((answer) => answer.statusCode))).toEqual(new Set([201]));
    expect(new Set(answers.map((answer) => answer.body)).size).toBe(1);
    expect(answers.filter((answer) => !isReplay(answer))).toHaveLength(1);
  });

  it('is answered as it was then, and does not undo what came after', async () => {
    const [product, other] = [await addProduct(shop), await addProduct(shop)];
    const shopper = await shopperWith(product);
    const first = await put(shopper, product, 5, 'key');
    await shopper.put(product, 2);
    await shopper.put(other, 1);
    await shop.query('UPDATE products SET price_cents = 77 WHERE id = $1', [product]);
    const again = await put(shopper, product, 5, '"key"');
    expect([again.statusCode, again.body, isReplay(again)]).toEqual([201, first.body, true]);
    expect((await shopper.basket()).json().products).toMatchObject([
      { id: product, quantity: 2 },
      { id: other, quantity: 1 },
    ]);
  });

  it('and another body is refused, and changes nothing', async () => {
    const [product, other] = [await addProduct(shop), await addProduct(shop)];
    const shopper = await shopperWith(product);
    await put(shopper, product, 5, 'key');
    for (const response of [await put(shopper, product, 6, 'key'), await put(shopper, other, 5, 'key')])
      expect([response.statusCode, messagesOf(response)]).toEqual([422, [usedBefore]]);
    expect((await shopper.basket()).json().products).toMatchObject([{ id: product, quantity: 5 }]);
  });

  it('that was refused is not remembered: the same later may succeed', async () => {
    const product = await addProduct(shop, { stock: 3 });
    const shopper = await shopperWith(product);
    expect((await put(shopper, product, 4, 'key')).statusCode).toBe(422);
    expect((await put(shopper, newId(), 4, 'unknown')).statusCode).toBe(404);
    expect(await keysOf(shopper)).toEqual([]);
    await receive(product, 5);
    const later = await put(shopper, product, 4, 'key');
    expect([later.statusCode, isReplay(later)]).toEqual([201, false]);
  });

  it('may have the key of a checkout, or of a write to another basket or by the other version', async () => {
    const product = await addProduct(shop);
    const [one, other] = [await shopperWith(product), await shopperWith(product)];
    await checkout(one, 'v1', 'key');
    const answers = [
      await put(one, product, 2, 'key'),
      await put(one, product, 3, 'key', 'v2'),
      await put(other, product, 4, 'key'),
    ];
    expect(answers.map((answer) => [answer.statusCode, answer.json().products[0].quantity, isReplay(answer)])).toEqual([
      [201, 2, false],
      [201, 3, false],
      [201, 4, false],
    ]);
  });

  it('may use it for something else after 24 hours', async () => {
    const product = await addProduct(shop);
    const shopper = await shopperWith(product);
    await put(shopper, product, 2, 'key');
    await ageKeys(shopper, '24:01');
    const other = await put(shopper, product, 3, 'key');
    expect([other.statusCode, isReplay(other)]).toEqual([201, false]);
    expect(isReplay(await put(shopper, product, 3, 'key'))).toBe(true);
  });

  it('makes a basket each time where none is known', async () => {
    const product = await addProduct(shop);
    const tokens = new Set<unknown>();
    for (const token of [null, null, newId()]) {
      const nobody = new Shopper(shop.app);
      nobody.token = token;
      const response = await put(nobody, product, 2, 'key');
      expect([response.statusCode, isReplay(response)]).toEqual([201, false]);
      tokens.add(response.headers['shopping-basket-id']);
      expect(await keysOf(nobody)).toEqual([]);
    }
    expect(tokens.size).toBe(3);
  });

  it('is refused with a key that is none, and the basket stays as it was', async () => {
    const product = await addProduct(shop);
    const shopper = await shopperWith(product);
    const before = (await shopper.basket()).body;
    for (const version of ['v1', 'v2'] as const)
      expect((await put(shopper, product, -1, '', version)).statusCode).toBe(400);
    expect((await shopper.basket()).body).toBe(before);
  });

  leavesNothingOver();
});

describe('while a request with an Idempotency-Key is under way', () => {
  beforeAll(() => open('batched'));
  afterAll(close);

  const requests = {
    checkout: (shopper: Shopper, _: string) => checkout(shopper, 'v2', 'key'),
    'write to the basket': (shopper: Shopper, product: string) => put(shopper, product, 3, 'key'),
  };
  it.each(Object.entries(requests))('its twin is told to come again, and is answered then: %s', async (_, send) => {
    const product = await addProduct(shop);
    const shopper = await shopperWith(product);
    const held = heldBasket(shopper.token);
    const twins = Array.from({ length: 2 }, () => () => send(shopper, product));
    const [first, twin] = (await releaseTogether(shop.url, held, 1, twins)) as [Response, Response];
    expect([twin.statusCode, messagesOf(twin), twin.headers['retry-after']]).toEqual([409, [underWay], '1']);
    const again = await send(shopper, product);
    expect([again.body, isReplay(again)]).toEqual([first.body, true]);
  });

  it('a V1 checkout waits with the first for the outcome', async () => {
    const shopper = await shopperWith(await addProduct(shop));
    const [first, twin] = await Promise.all([checkout(shopper, 'v1', 'key'), checkout(shopper, 'v1', 'key')]);
    expect([first.statusCode, twin.statusCode, twin.body]).toEqual([201, 201, first.body]);
    expect([first, twin].filter(isReplay)).toHaveLength(1);
  });

  leavesNothingOver();
});
