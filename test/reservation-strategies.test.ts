import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { expectNothingLeftOver } from './support/invariants.ts';
import { allEnded, charges, soldUnits, stockOf } from './support/ledger.ts';
import { untilDecided } from './support/race.ts';
import { addProduct, endedOrder, openTestShop, orderIdOf, Shopper, type TestShop } from './support/shop.ts';

describe.each(['atomic', 'pessimistic', 'batched'])('reserving stock by the strategy %s', (strategy) => {
  let shop: TestShop;
  beforeAll(async () => {
    shop = await openTestShop({ RESERVATION_STRATEGY: strategy });
  });
  afterAll(() => shop.close());

  const shopperWith = async (...lines: ReadonlyArray<[product: string, quantity: number]>): Promise<Shopper> => {
    const shopper = new Shopper(shop.app);
    for (const [product, quantity] of lines) expect((await shopper.put(product, quantity)).statusCode).toBe(201);
    return shopper;
  };

  it('sells each unit once in a stampede, and to as many as there are units', async () => {
    const product = await addProduct(shop, { stock: 7 });
    const buyers = await Promise.all(Array.from({ length: 60 }, () => shopperWith([product, 1])));
    const answers = await Promise.all(buyers.map((buyer) => untilDecided(() => buyer.checkout('v2'))));
    expect(answers.filter((answer) => answer.statusCode === 202)).toHaveLength(7);
    expect(answers.filter((answer) => answer.statusCode === 422)).toHaveLength(53);
    await allEnded(shop);
    expect([await soldUnits(shop, product), await stockOf(shop, product)]).toEqual([7, 0]);
    expect(await charges(shop, product)).toEqual(Array(7).fill(1_000));
  });

  it('lets baskets that hold the same products in another order pass each other', async () => {
    const [one, other] = [await addProduct(shop, { stock: 500 }), await addProduct(shop, { stock: 500 })];
    const buyers = await Promise.all(
      Array.from({ length: 60 }, (_, index) =>
        index % 2 === 0 ? shopperWith([one, 1], [other, 2]) : shopperWith([other, 2], [one, 1]),
      ),
    );
    const answers = await Promise.all(buyers.map((buyer) => untilDecided(() => buyer.checkout('v2'))));
    expect(answers.map((answer) => answer.statusCode)).toEqual(answers.map(() => 202));
    await allEnded(shop);
    expect([await stockOf(shop, one), await stockOf(shop, other)]).toEqual([440, 380]);
  });

  it('leaves short lines out, unless all or nothing is wanted', async () => {
    const [short, there] = [await addProduct(shop, { stock: 3 }), await addProduct(shop, { stock: 3 })];
    const shopper = await shopperWith([short, 3], [there, 2]);
    await (await shopperWith([short, 1])).checkout('v1');
    expect((await shopper.checkout('v2', { fulfilment: 'all_or_nothing' })).json().error.messages).toEqual([
      'Quantity exceeds available stock.',
    ]);
    expect([await stockOf(shop, short), await stockOf(shop, there)]).toEqual([2, 3]);
    const order = await endedOrder(shopper, orderIdOf(await shopper.checkout('v2')));
    expect(order).toMatchObject({ order: { order_products: [{ id: there, quantity: 2 }] } });
    expect([await stockOf(shop, short), await stockOf(shop, there)]).toEqual([2, 1]);
  });

  it('refuses a total that has changed and a second checkout in flight', async () => {
    const product = await addProduct(shop);
    const shopper = await shopperWith([product, 1]);
    expect((await shopper.checkout('v2', { expected_total: 1 })).statusCode).toBe(409);
    const answers = await Promise.all(Array.from({ length: 10 }, () => untilDecided(() => shopper.checkout('v2'))));
    expect(answers.filter((answer) => answer.statusCode === 202)).toHaveLength(1);
    for (const answer of answers) expect([202, 409, 422]).toContain(answer.statusCode);
    await allEnded(shop);
    expect(await stockOf(shop, product)).toBe(9);
  });

  it('gives everything back when the payment is declined', async () => {
    const product = await addProduct(shop, { stock: 20 });
    const buyers = await Promise.all(Array.from({ length: 20 }, () => shopperWith([product, 1])));
    const answers = await Promise.all(
      buyers.map((buyer) => untilDecided(() => buyer.checkout('v1', { payment_token: 'tok_fail' }))),
    );
    expect(answers.map((answer) => answer.statusCode)).toEqual(answers.map(() => 402));
    expect(await stockOf(shop, product)).toBe(20);
    for (const buyer of buyers) expect((await buyer.basket()).json().products).toMatchObject([{ id: product }]);
  });

  it('leaves every invariant whole', async () => {
    await expectNothingLeftOver(shop.url);
  });
});
