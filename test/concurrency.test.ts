import type { LightMyRequestResponse as Response } from 'fastify';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startWorker, type Worker } from '../src/worker.ts';
import { eventually } from './support/eventually.ts';
import { expectSoon } from './support/expect-soon.ts';
import { expectNothingLeftOver } from './support/invariants.ts';
import { allEnded, charges, movedUnits, soldUnits, stockOf } from './support/ledger.ts';
import { onServer } from './support/postgres.ts';
import { heldBasket, heldStock, releaseInOrder, releaseTogether, untilDecided } from './support/race.ts';
import { addProduct, endedOrder, openTestShop, orderIdOf, Shopper, type TestShop } from './support/shop.ts';

/** As many transactions as the engine has connections for. */
const atOnce = 12;
const isAccepted = (response: Response): boolean => response.statusCode === 201 || response.statusCode === 202;
const versionOf = (index: number): 'v1' | 'v2' => (index % 2 === 0 ? 'v1' : 'v2');

let shop: TestShop;

// One transaction per order, so that as many as the engine has connections stand before the same row; batches have a
// suite of their own.
describe('a stampede', () => {
  beforeAll(async () => {
    shop = await openWarmShop({ RESERVATION_STRATEGY: 'atomic' });
  });
  afterAll(() => shop.close());

  it('of 200 buyers for 1 unit sells it once and tells the others at once', async () => {
    const product = await addProduct(shop, { stock: 1 });
    const buyers = await shoppersWith(200, () => [[product, 1]]);
    const answers = await releaseTogether(
      shop.url,
      heldStock([product]),
      atOnce,
      buyers.map((buyer, index) => () => untilDecided(() => buyer.checkout(versionOf(index)))),
    );
    const sold = answers.filter(isAccepted);
    const refused = answers.filter((answer) => !isAccepted(answer));
    expect(sold).toHaveLength(1);
    expect(refused).toHaveLength(199);
    for (const answer of refused) expect(refusalOf(answer)).toEqual([422, 'No items available in stock.']);
    await allEnded(shop);
    expect([await soldUnits(shop, product), await stockOf(shop, product)]).toEqual([1, 0]);
    expect(await charges(shop, product)).toEqual([1_000]);
    for (const buyer of buyers)
      expect(await linesOf(buyer)).toEqual(buyer === winnerOf(buyers, answers) ? {} : { [product]: 1 });
    await expectNothingLeftOver(shop.url);
  });

  it('for more than there is refuses nobody whom the stock would have covered', async () => {
    const product = await addProduct(shop, { stock: 50 });
    const wishes = Array.from({ length: 60 }, (_, index) => 1 + (index % 4));
    const buyers = await shoppersWith(wishes.length, (index) => [[product, wishes[index] ?? 0]]);
    const answers = await releaseTogether(
      shop.url,
      heldStock([product]),
      atOnce,
      buyers.map((buyer, index) => () => untilDecided(() => buyer.checkout(versionOf(index)))),
    );
    await allEnded(shop);
    const served = wishes.filter((_, index) => answers[index] && isAccepted(answers[index]));
    const refused = wishes.filter((_, index) => answers[index] && !isAccepted(answers[index]));
    const left = await stockOf(shop, product);
    expect(sum(served)).toBe(50 - left);
    expect(await soldUnits(shop, product)).toBe(50 - left);
    expect(Math.min(...refused)).toBeGreaterThan(left);
    await expectNothingLeftOver(shop.url);
  });

  it('of 50 checkouts of one basket accepts and charges one', async () => {
    const product = await addProduct(shop, { stock: 100, priceCents: 700 });
    const [shopper] = await shoppersWith(1, () => [[product, 2]]);
    const answers = await releaseTogether(
      shop.url,
      heldBasket(String(shopper?.token)),
      atOnce,
      Array.from(
        { length: 50 },
        (_, index) => () => untilDecided(() => (shopper as Shopper).checkout(versionOf(index))),
      ),
    );
    await allEnded(shop);
    const refused = answers.filter((answer) => !isAccepted(answer));
    expect(refused).toHaveLength(49);
    for (const answer of refused)
      expect([
        [409, 'Checkout is already being processed'],
        [422, 'No items available in stock.'],
      ]).toContainEqual(refusalOf(answer));
    expect([await soldUnits(shop, product), await stockOf(shop, product)]).toEqual([2, 98]);
    expect(await charges(shop, product)).toEqual([1_400]);
    await expectNothingLeftOver(shop.url);
  });

  it('of baskets (A,B) against (B,A) deadlocks nobody and sells to the last unit', async () => {
    const [a, b] = [await addProduct(shop, { stock: 250 }), await addProduct(shop, { stock: 180 })];
    const buyers = await shoppersWith(300, crossed([a, 1], [b, 1]));
    const answers: Response[] = [];
    for (const wave of chunksOf(2 * atOnce, buyers)) {
      const checkouts = wave.map((buyer, index) => () => untilDecided(() => buyer.checkout(versionOf(index))));
      answers.push(...(await releaseTogether(shop.url, heldStock([a, b]), atOnce, checkouts)));
    }
    await allEnded(shop);
    expect(answers.filter(isAccepted)).toHaveLength(250);
    for (const answer of answers.filter((each) => !isAccepted(each)))
      expect(refusalOf(answer)).toEqual([422, 'No items available in stock.']);
    expect([await soldUnits(shop, a), await stockOf(shop, a)]).toEqual([250, 0]);
    expect([await soldUnits(shop, b), await stockOf(shop, b)]).toEqual([180, 0]);
    await expectNothingLeftOver(shop.url);
  });

  it('of declined and paid checkouts, (A,B) against (B,A), gives back what was not sold', async () => {
    const [a, b] = [await addProduct(shop, { stock: 1_000 }), await addProduct(shop, { stock: 1_000 })];
    const buyers = await shoppersWith(90, crossed([a, 2], [b, 3]));
    const isDeclined = (index: number): boolean => index % 3 === 0;
    const answers = await releaseTogether(
      shop.url,
      heldStock([a, b]),
      atOnce,
      buyers.map(
        (buyer, index) => () =>
          untilDecided(() => buyer.checkout('v1', isDeclined(index) ? { payment_token: 'tok_fail' } : {})),
      ),
    );
    expect(answers.map((answer) => answer.statusCode)).toEqual(
      buyers.map((_, index) => (isDeclined(index) ? 402 : 201)),
    );
    expect([await stockOf(shop, a), await stockOf(shop, b)]).toEqual([1_000 - 120, 1_000 - 180]);
    for (const [index, buyer] of buyers.entries())
      expect(await linesOf(buyer)).toEqual(isDeclined(index) ? { [a]: 2, [b]: 3 } : {});
    await expectNothingLeftOver(shop.url);
  });

  it('goes on exactly while an operator sets the stock', async () => {
    const product = await addProduct(shop, { stock: 5 });
    const buyers = await shoppersWith(150, (index) => [[product, 1 + (index % 3)]]);
    let isOpen = true;
    const setting = setStockUntil(() => !isOpen, product, [40, 0, 7, 90, 3, 25]);
    const answers = await Promise.all(
      buyers.map((buyer, index) =>
        untilDecided(() =>
          buyer.checkout(versionOf(index), { payment_token: index % 4 === 0 ? 'tok_fail' : 'tok_success' }),
        ),
      ),
    );
    isOpen = false;
    const timesSet = await setting;
    await allEnded(shop);
    expect(new Set(answers.map((answer) => answer.statusCode)).difference(new Set([201, 202, 402, 422]))).toEqual(
      new Set(),
    );
    expect(timesSet).toBeGreaterThan(5);
    expect(await stockOf(shop, product)).toBe((await movedUnits(shop, product)) - (await soldUnits(shop, product)));
    await expectNothingLeftOver(shop.url);
  });
});

describe('a basket that is written to while it is checked out', () => {
  beforeAll(async () => {
    shop = await openWarmShop();
  });
  afterAll(() => shop.close());

  const writes = ['change', 'remove', 'add'] as const;
  type Operation = (typeof writes)[number] | 'checkout';
  type Round = Readonly<{ shopper: Shopper; changed: string; removed: string; added: string; settled: string }>;

  const prepare = async (): Promise<Round> => {
    const [changed = '', removed = '', added = '', settled = ''] = await Promise.all(
      [1, 2, 3, 4].map(() => addProduct(shop, { stock: 10 })),
    );
    const [shopper = new Shopper(shop.app)] = await shoppersWith(1, () => [
      [changed, 2],
      [removed, 1],
      [settled, 1],
      // Answered before the checkout is sent: sold at this quantity, whatever follows.
      [settled, 3],
    ]);
    return { shopper, changed, removed, added, settled };
  };

  const run = (round: Round, operation: Operation): Promise<Response> => {
    const { shopper } = round;
    if (operation === 'checkout') return shopper.checkout('v2');
    if (operation === 'change') return shopper.put(round.changed, 5);
    if (operation === 'remove') return shopper.put(round.removed, 0);
    return shopper.put(round.added, 1);
  };

  /** What was sold and what stays in the basket, when `before` came before the checkout and the rest after it. */
  const outcomeOf = (round: Round, before: ReadonlySet<Operation>): { sold: Lines; kept: Lines } => ({
    sold: {
      [round.settled]: 3,
      [round.changed]: before.has('change') ? 5 : 2,
      ...(before.has('remove') ? {} : { [round.removed]: 1 }),
      ...(before.has('add') ? { [round.added]: 1 } : {}),
    },
    kept: {
      ...(before.has('change') ? {} : { [round.changed]: 5 }),
      ...(before.has('add') ? {} : { [round.added]: 1 }),
    },
  });

  const rotations: Operation[][] = [
    ['checkout', 'change', 'remove', 'add'],
    ['change', 'checkout', 'remove', 'add'],
    ['remove', 'add', 'checkout', 'change'],
    ['add', 'change', 'remove', 'checkout'],
  ];

  // Checkouts and changes wait in lines of their own: which comes first is open, but the changes keep their order.
  it.each(rotations)('sells what stood in it at one moment: %s, %s, %s, %s', async (...operations) => {
    const round = await prepare();
    const answers = await releaseTogether(
      shop.url,
      heldBasket(round.shopper.token),
      1,
      operations.map((operation) => () => run(round, operation)),
    );
    expect(answers.map((answer) => isAccepted(answer))).toEqual([true, true, true, true]);
    const order = await endedOrder(round.shopper, orderIdOf(answers[operations.indexOf('checkout')] as Response));
    const found = { sold: soldLines(order), kept: await linesOf(round.shopper) };
    const changes = operations.filter((operation) => operation !== 'checkout');
    const possible = [0, 1, 2, 3].map((count) => outcomeOf(round, new Set(changes.slice(0, count))));
    expect(possible).toContainEqual(found);
    await expectNothingLeftOver(shop.url);
  });

  it('loses nothing in a storm: each line is in the order or in the basket', async () => {
    const rounds = await Promise.all(Array.from({ length: 24 }, prepare));
    await Promise.all(
      rounds.map(async (round, index) => {
        const operations = rotations[index % rotations.length] ?? [];
        const answers = await Promise.all(operations.map((operation) => run(round, operation)));
        expect(answers.map((answer) => isAccepted(answer))).toEqual([true, true, true, true]);
        const order = await endedOrder(round.shopper, orderIdOf(answers[operations.indexOf('checkout')] as Response));
        const sold = soldLines(order);
        const before = new Set<Operation>();
        if (sold[round.changed] === 5) before.add('change');
        if (sold[round.removed] === undefined) before.add('remove');
        if (sold[round.added] === 1) before.add('add');
        expect({ sold, kept: await linesOf(round.shopper) }).toEqual(outcomeOf(round, before));
      }),
    );
    await expectNothingLeftOver(shop.url);
  });

  it('sells the last quantity of a row of changes that were answered', async () => {
    const product = await addProduct(shop, { stock: 1_000 });
    const shopper = new Shopper(shop.app);
    await shopper.put(product, 1);
    let answered = 1;
    let isOver = false;
    const changing = (async () => {
      for (let quantity = 2; !isOver; quantity++) {
        await shopper.put(product, quantity);
        answered = quantity;
      }
      return answered;
    })();
    await expectSoon(() => answered).toBeGreaterThan(5);
    const leastSold = answered;
    const response = await shopper.checkout('v2');
    const answeredByThen = answered;
    isOver = true;
    const last = await changing;
    const { [product]: sold = 0 } = soldLines(await endedOrder(shopper, orderIdOf(response)));
    expect(sold).toBeGreaterThanOrEqual(leastSold);
    // One change may have been made but not answered yet.
    expect(sold).toBeLessThanOrEqual(answeredByThen + 1);
    expect(await linesOf(shopper)).toEqual(sold === last ? {} : { [product]: last });
    await expectNothingLeftOver(shop.url);
  });
});

describe('a declined checkout', () => {
  let worker: Worker;

  beforeAll(async () => {
    shop = await openWarmShop({ ROLE: 'web' });
  });
  afterAll(() => shop.close());

  /** Nobody works on the order until {@link decline}: there is all the time to do something in between. */
  const acceptDeclined = async (shopper: Shopper): Promise<string> => {
    const response = await shopper.checkout('v2', { payment_token: 'tok_fail' });
    expect(response.statusCode).toBe(202);
    return orderIdOf(response);
  };
  const decline = async (shopper: Shopper, orderId: string): Promise<void> => {
    worker = await startWorker(shop.resources, 'worker');
    const order = await endedOrder(shopper, orderId);
    await worker.stop();
    expect(order).toMatchObject({
      status: 'failed',
      error: { code: 'payment_required', message: 'Insufficient funds' },
    });
  };

  it('adds its lines to what was put in since, up to the caps, and leaves archived products out', async () => {
    const [plain, many, limited, archived, untouched] = [
      await addProduct(shop, { stock: 10 }),
      await addProduct(shop, { stock: 20_000 }),
      await addProduct(shop, { stock: 10, maxPerOrder: 5 }),
      await addProduct(shop, { stock: 10 }),
      await addProduct(shop, { stock: 10 }),
    ];
    const [shopper = new Shopper(shop.app)] = await shoppersWith(1, () => [
      [plain, 6],
      [many, 6_000],
      [limited, 3],
      [archived, 2],
      [untouched, 1],
    ]);
    const orderId = await acceptDeclined(shopper);
    expect(await linesOf(shopper)).toEqual({});
    await shopper.put(limited, 4);
    await shopper.put(many, 7_000);
    await shopper.put(plain, 4);
    await shop.query('UPDATE products SET archived_at = clock_timestamp() WHERE id = $1', [archived]);
    await decline(shopper, orderId);
    // Ten of the ten that there are: lines come back without a look at the stock.
    expect(await linesOf(shopper)).toEqual({ [plain]: 10, [many]: 10_000, [limited]: 5, [untouched]: 1 });
    expect(await orderOfLines(shopper)).toEqual([plain, many, limited, untouched]);
    expect([await stockOf(shop, plain), await stockOf(shop, archived)]).toEqual([10, 10]);
    await expectNothingLeftOver(shop.url);
  });

  it('brings no more than 100 lines back into a basket, the first first', async () => {
    const products: string[] = [];
    for (let number = 0; number < 130; number++) products.push(await addProduct(shop, { stock: 5 }));
    const [ordered, since] = [products.slice(0, 60), products.slice(60)];
    const shopper = new Shopper(shop.app);
    for (const product of ordered) await shopper.put(product, 1);
    const orderId = await acceptDeclined(shopper);
    for (const product of since) await shopper.put(product, 1);
    // The last of the order is in the basket again: it is added up, and takes no place of its own.
    const last = ordered.at(-1) ?? '';
    await shopper.put(last, 1);
    await decline(shopper, orderId);
    const back = ordered.slice(0, 29);
    expect(await orderOfLines(shopper)).toEqual([...back, last, ...since]);
    expect((await linesOf(shopper))[last]).toBe(2);
    expect(refusalOf(await shopper.put(ordered[40], 1))).toEqual([422, 'Basket is full']);
    await expectNothingLeftOver(shop.url);
  });

  it.each([true, false])(
    'and a change of the same line keep their order (the change first: %s)',
    async (changeFirst) => {
      // Who gives up the lock for a moment, to wait for it anew, may be overtaken: then the same with another basket.
      await eventually(async () => {
        const product = await addProduct(shop, { stock: 10 });
        const [shopper = new Shopper(shop.app)] = await shoppersWith(1, () => [[product, 2]]);
        const orderId = await acceptDeclined(shopper);
        const change = (): Promise<unknown> => shopper.put(product, 3);
        const settle = (): Promise<unknown> => decline(shopper, orderId);
        await releaseInOrder(shop.url, heldBasket(shopper.token), changeFirst ? [change, settle] : [settle, change]);
        const { [product]: quantity } = await linesOf(shopper);
        expect([3, 5]).toContain(quantity);
        await expectNothingLeftOver(shop.url);
        return quantity === (changeFirst ? 5 : 3);
      });
    },
  );

  it('can be checked out again, and again, and pays once', async () => {
    const product = await addProduct(shop, { stock: 3, priceCents: 250 });
    const [shopper = new Shopper(shop.app)] = await shoppersWith(1, () => [[product, 3]]);
    for (let times = 0; times < 2; times++) await decline(shopper, await acceptDeclined(shopper));
    worker = await startWorker(shop.resources, 'worker');
    expect((await shopper.checkout('v1')).statusCode).toBe(201);
    await worker.stop();
    expect([await soldUnits(shop, product), await stockOf(shop, product)]).toEqual([3, 0]);
    expect(await charges(shop, product)).toEqual([750]);
    await expectNothingLeftOver(shop.url);
  });
});

/** A shop whose connections are open already: opening one takes longer than a lock is waited for, on a busy machine. */
async function openWarmShop(environment: Record<string, string> = {}): Promise<TestShop> {
  const opened = await openTestShop(environment);
  const looks = Array.from({ length: atOnce }, () => opened.query('SELECT pg_sleep(0.05)'));
  await Promise.all(looks);
  return opened;
}

type Lines = Record<string, number>;
type Wish = [product: string, quantity: number];

/** As many shoppers, each with a basket of its own that holds what `wishes` says. */
async function shoppersWith(number: number, wishes: (index: number) => Wish[]): Promise<Shopper[]> {
  const shoppers = Array.from({ length: number }, () => new Shopper(shop.app));
  for (const some of chunksOf(50, [...shoppers.entries()]))
    await Promise.all(
      some.map(async ([index, shopper]) => {
        for (const [product, quantity] of wishes(index))
          expect((await shopper.put(product, quantity)).statusCode).toBe(201);
      }),
    );
  return shoppers;
}

/** Every other basket holds them the other way round. */
function crossed(one: Wish, other: Wish): (index: number) => Wish[] {
  return (index) => (index % 2 === 0 ? [one, other] : [other, one]);
}

function chunksOf<T>(size: number, items: readonly T[]): T[][] {
  return Array.from({ length: Math.ceil(items.length / size) }, (_, n) => items.slice(n * size, (n + 1) * size));
}

function winnerOf(buyers: readonly Shopper[], answers: readonly Response[]): Shopper | undefined {
  return buyers[answers.findIndex(isAccepted)];
}

function refusalOf(response: Response): [status: number, message: string] {
  return [response.statusCode, response.json().error?.messages?.[0]];
}

async function linesOf(shopper: Shopper): Promise<Lines> {
  const { products } = (await shopper.basket()).json();
  return Object.fromEntries(products.map((line: { id: string; quantity: number }) => [line.id, line.quantity]));
}

async function orderOfLines(shopper: Shopper): Promise<string[]> {
  return (await shopper.basket()).json().products.map((line: { id: string }) => line.id);
}

function soldLines(status: Record<string, unknown>): Lines {
  const { order_products } = status.order as { order_products: Array<{ id: string; quantity: number }> };
  return Object.fromEntries(order_products.map((line) => [line.id, line.quantity]));
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}

/** Sets the stock to one level after another, as an operator does: the row locked, the difference booked. */
function setStockUntil(isOver: () => boolean, product: string, levels: readonly number[]): Promise<number> {
  return onServer(shop.url, async (operator) => {
    let times = 0;
    for (; !isOver() || times < levels.length; times++) {
      await operator.query('BEGIN');
      await operator.query('SELECT FROM stock WHERE product_id = $1 FOR NO KEY UPDATE', [product]);
      await operator.query(
        `INSERT INTO stock_movements (product_id, delta, kind, who, why)
         SELECT product_id, $2::integer - sellable, 'adjusted', 'operator', 'count' FROM stock WHERE product_id = $1`,
        [product, levels[times % levels.length]],
      );
      await operator.query('UPDATE stock SET sellable = $2 WHERE product_id = $1', [
        product,
        levels[times % levels.length],
      ]);
      await operator.query('COMMIT');
    }
    return times;
  });
}
