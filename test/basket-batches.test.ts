import { type AddressInfo, connect } from 'node:net';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Baskets, getBasket, openBaskets, setQuantity } from '../src/modules/basket/basket.service.ts';
import { coalescerStats } from '../src/platform/coalescer.ts';
import { CommitUnknown, type Database } from '../src/platform/db.ts';
import { Unavailable } from '../src/shared/refusal.ts';
import { expectSoon } from './support/expect-soon.ts';
import { addProduct, openTestShop, Shopper, type TestShop } from './support/shop.ts';

/** Nobody else is to wait longer than 1 s; the rest is for a busy machine. Those who need the row are patient for 5 s. */
const soonMs = 4_000;

let shop: TestShop;
beforeAll(async () => {
  shop = await openTestShop();
});
afterAll(() => shop.close());

async function shopperWith(product: string): Promise<Shopper> {
  const shopper = new Shopper(shop.app);
  expect((await shopper.put(product, 1)).statusCode).toBe(201);
  return shopper;
}

/** Runs `work` while another session holds what `lock` locks, until its end or until it calls `release`. */
async function whileHeld(
  lock: string,
  value: string | null,
  work: (release: () => Promise<unknown>) => Promise<void>,
): Promise<void> {
  const holder = new pg.Client({ connectionString: shop.url });
  await holder.connect();
  await holder.query('BEGIN');
  await holder.query(lock, [value]);
  try {
    await work(() => holder.query('COMMIT'));
  } finally {
    await holder.end();
  }
}

/** Expects each of `requests`, sent one after the other and all at once, to be answered soon. */
async function expectSoonServed(shoppers: readonly Shopper[], product: string): Promise<void> {
  for (const quantity of [2, 3, 4]) {
    const startMs = performance.now();
    const answers = await Promise.all(shoppers.map((shopper) => shopper.put(product, quantity)));
    expect(performance.now() - startMs).toBeLessThan(soonMs);
    expect(answers.map((answer) => answer.statusCode)).toEqual(answers.map(() => 201));
  }
}

const quantities = async (shopper: Shopper): Promise<Array<[string, number]>> =>
  (await shopper.basket()).json().products.map((line: { id: string; quantity: number }) => [line.id, line.quantity]);

describe('a row that somebody holds for long', () => {
  it('when it is a basket, holds up the writes to that basket only, which keep their order', async () => {
    const product = await addProduct(shop);
    const held = await shopperWith(product);
    const others = await Promise.all(Array.from({ length: 20 }, () => shopperWith(product)));
    await whileHeld('SELECT FROM baskets WHERE token = $1 FOR UPDATE', held.token, async (release) => {
      const late = [2, 3, 4, 5].map((quantity) => held.put(product, quantity));
      await expectSoonServed(others, product);
      late.push(...[6, 7].map((quantity) => held.put(product, quantity)));
      await release();
      const answers = await Promise.all(late);
      expect(answers.map((answer) => [answer.statusCode, answer.json().products?.[0].quantity])).toEqual(
        [2, 3, 4, 5, 6, 7].map((quantity) => [201, quantity]),
      );
    });
    expect(await quantities(held)).toEqual([[product, 7]]);
  });

  it('when it is a product, holds up who wants it only, and later writes to their baskets stay behind', async () => {
    const [held, free] = [await addProduct(shop), await addProduct(shop)];
    const waiting = await shopperWith(free);
    const others = await Promise.all(Array.from({ length: 20 }, () => shopperWith(free)));
    await whileHeld('SELECT FROM products WHERE id = $1 FOR UPDATE', held, async (release) => {
      const late = [waiting.put(held, 1)];
      await expectSoonServed(others, free);
      late.push(waiting.put(free, 5), waiting.put(held, 0), waiting.put(free, 6));
      const made = new Shopper(shop.app).put(held, 1);
      await expectSoonServed(others, free);
      await release();
      expect((await Promise.all([...late, made])).map((answer) => answer.statusCode)).toEqual(Array(5).fill(201));
      const shown = (await Promise.all(late)).map((answer) => answer.json().products.length);
      expect(shown).toEqual([2, 2, 1, 1]);
    });
    expect(await quantities(waiting)).toEqual([[free, 6]]);
  });

  it('when it is the stock of a product, holds up no write at all', async () => {
    const product = await addProduct(shop);
    const others = await Promise.all(Array.from({ length: 5 }, () => shopperWith(product)));
    await whileHeld('SELECT FROM stock WHERE product_id = $1 FOR UPDATE', product, () =>
      expectSoonServed(others, product),
    );
  });
});

describe('writes that leave together', () => {
  it('to one basket are made in the order of their arrival', async () => {
    const product = await addProduct(shop, { stock: 100 });
    const shopper = await shopperWith(product);
    const answers = await Promise.all(Array.from({ length: 50 }, (_, index) => shopper.put(product, index + 1)));
    expect(answers.map((answer) => answer.json().products[0].quantity)).toEqual(answers.map((_, index) => index + 1));
  });

  it('past the 64 that may wait for one basket are answered 429, and those before are made', async () => {
    const product = await addProduct(shop, { stock: 1_000 });
    const shopper = await shopperWith(product);
    const answers = await Promise.all(Array.from({ length: 200 }, (_, index) => shopper.put(product, index + 1)));
    const made = answers.filter((answer) => answer.statusCode === 201);
    const turnedAway = answers.filter((answer) => answer.statusCode !== 201);
    expect(made.length).toBeGreaterThanOrEqual(65);
    for (const answer of turnedAway) {
      expect([answer.statusCode, answer.headers['retry-after']]).toEqual([429, '1']);
      expect(answer.json()).toEqual({
        error: { code: 429, messages: ['Too many changes to this basket are waiting'] },
      });
    }
    expect(turnedAway.length).toBeGreaterThan(0);
  });

  it('make as many baskets as there are shoppers without one, and refuse who must be refused', async () => {
    const [product, scarce] = [await addProduct(shop, { stock: 100 }), await addProduct(shop, { stock: 1 })];
    const shoppers = Array.from({ length: 30 }, () => new Shopper(shop.app));
    const answers = await Promise.all(
      shoppers.map((shopper, index) => shopper.put(index % 3 === 0 ? scarce : product, 2)),
    );
    expect(answers.map((answer) => answer.statusCode)).toEqual(
      answers.map((_, index) => (index % 3 === 0 ? 422 : 201)),
    );
    expect(new Set(shoppers.map((shopper) => shopper.token)).size).toBe(21);
    for (const [index, shopper] of shoppers.entries())
      expect(await quantities(shopper)).toEqual(index % 3 === 0 ? [] : [[product, 2]]);
  });
});

describe('a batch', () => {
  type Loss = 'after' | 'before' | 'away' | null;

  /** Baskets over a database whose next transactions end like `losses`: without an answer to COMMIT, made or not, or at once. */
  function basketsWith(losses: Loss[], onSplit: () => void = () => undefined): Baskets {
    const { database, batchDatabase, reader } = shop.resources;
    const transaction: Database['transaction'] = async (work) => {
      const loss = losses.shift() ?? null;
      if (loss === 'away') throw new Unavailable('No database');
      const result = loss === 'before' ? null : await batchDatabase.transaction(work);
      if (result === null || loss === 'after') throw new CommitUnknown(new Error('Connection lost'));
      return result;
    };
    return openBaskets({
      database,
      batchDatabase: { ...batchDatabase, transaction },
      reader,
      currency: 'USD',
      onSplit,
    });
  }

  it.each<Loss[][]>([[['after']], [['before']], [['after', 'away', 'after', 'away']], [['before', 'after']]])(
    'whose COMMIT was lost (%j) is made once, and its members are told so',
    async (losses) => {
      const [product, last] = [await addProduct(shop), await addProduct(shop, { stock: 3 })];
      const shopper = await shopperWith(product);
      const baskets = basketsWith([...losses]);
      const made = await setQuantity(baskets, null, product, 4);
      const token = made.ok ? made.value.newToken : null;
      expect(made).toMatchObject({ ok: true, value: { basket: { products: [{ id: product, quantity: 4 }] } } });
      const changed = await setQuantity(basketsWith([...losses]), shopper.token, last, 3);
      expect(changed).toMatchObject({
        ok: true,
        value: { newToken: null, basket: { products: [{}, { quantity: 3 }] } },
      });
      const removed = await setQuantity(basketsWith([...losses]), shopper.token, product, 0);
      expect(removed).toMatchObject({ ok: true, value: { basket: { products: [{ id: last }] } } });
      expect((await getBasket(baskets, token)).products).toMatchObject([{ id: product, quantity: 4 }]);
      const rows = await shop.query('SELECT FROM basket_lines WHERE product_id = $1', [product]);
      expect(rows).toHaveLength(1);
    },
  );

  it('that was made although its COMMIT was lost is told so, were the stock gone by then', async () => {
    const product = await addProduct(shop, { stock: 3 });
    const shopper = await shopperWith(product);
    const { batchDatabase, ...rest } = shop.resources;
    let calls = 0;
    const transaction: Database['transaction'] = async (work) => {
      const result = await batchDatabase.transaction(work);
      if (calls++ > 0) return result;
      await shop.query('UPDATE stock SET sellable = 0 WHERE product_id = $1', [product]);
      throw new CommitUnknown(new Error('Connection lost'));
    };
    const baskets = openBaskets({
      database: rest.database,
      batchDatabase: { ...batchDatabase, transaction },
      reader: rest.reader,
      currency: 'USD',
      onSplit: () => undefined,
    });
    expect(await setQuantity(baskets, shopper.token, product, 3)).toMatchObject({ ok: true });
    expect(await quantities(shopper)).toEqual([[product, 3]]);
  });

  it('with a member whose data the database refuses serves all the others', async () => {
    const product = await addProduct(shop, { stock: 100_000 });
    const shoppers = await Promise.all(Array.from({ length: 12 }, () => shopperWith(product)));
    let splits = 0;
    const baskets = basketsWith([], () => void splits++);
    const outcomes = await Promise.allSettled(
      // What no route lets through.
      shoppers.map((shopper, index) => setQuantity(baskets, shopper.token, product, index === 7 ? 10_001 : index + 1)),
    );
    expect(outcomes.map(({ status }) => status)).toEqual(
      shoppers.map((_, index) => (index === 7 ? 'rejected' : 'fulfilled')),
    );
    expect(splits).toBeGreaterThan(0);
    for (const [index, shopper] of shoppers.entries())
      expect(await quantities(shopper)).toEqual([[product, index === 7 ? 1 : index + 1]]);
  });
});

it('a write whose client has gone before its turn came is not made', async () => {
  const product = await addProduct(shop);
  const shopper = await shopperWith(product);
  await shop.app.listen({ port: 0, host: '127.0.0.1' });
  const { port } = shop.app.server.address() as AddressInfo;
  const aside = () => coalescerStats().find(({ name }) => name === 'basket writes, aside');
  const goneBefore = aside()?.turnedAway.gone ?? 0;
  await whileHeld('SELECT FROM baskets WHERE token = $1 FOR UPDATE', shopper.token, async (release) => {
    const first = shopper.put(product, 2);
    await expectSoon(() => aside()?.inFlight).toBe(1);
    const body = JSON.stringify({ product: { product_id: product, quantity: 3 } });
    const socket = connect(port, '127.0.0.1').on('error', () => undefined);
    socket.write(
      `POST /api/v1/shopping_basket/products HTTP/1.1\r\nHost: shop\r\nAuthorization: Bearer ${shopper.token}\r\n` +
        `Content-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
    );
    await expectSoon(() => aside()?.waiting).toBe(1);
    socket.destroy();
    await expectSoon(() => aside()?.turnedAway.gone).toBe(goneBefore + 1);
    await release();
    expect((await first).statusCode).toBe(201);
  });
  expect(await quantities(shopper)).toEqual([[product, 2]]);
});

describe('reads that leave together', () => {
  it('give each shopper the basket of their own, as it is after all writes that were answered', async () => {
    const product = await addProduct(shop, { stock: 1_000 });
    const shoppers = await Promise.all(Array.from({ length: 20 }, () => shopperWith(product)));
    for (let round = 1; round <= 5; round++) {
      const seen = await Promise.all(
        shoppers.map(async (shopper, index) => {
          await shopper.put(product, round * 20 + index);
          return Promise.all([quantities(shopper), quantities(shopper)]);
        }),
      );
      const expected = shoppers.map((_, index) => [[product, round * 20 + index]]);
      expect(seen).toEqual(expected.map((lines) => [lines, lines]));
    }
  });
});
