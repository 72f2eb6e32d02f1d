import { userInfo } from 'node:os';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { type Ended, runCommand } from './support/command.ts';
import { expectNothingLeftOver } from './support/invariants.ts';
import { allEnded, movedUnits, soldUnits, stockOf } from './support/ledger.ts';
import { addProduct, openTestShop, type ProductOptions, Shopper, type TestShop } from './support/shop.ts';

// Some commands one after the other, each a process of its own, on a busy machine.
vi.setConfig({ testTimeout: 120_000 });

type Movement = Readonly<{ delta: number; kind: string; who: string; why: string }>;

let shop: TestShop;

const stock = (...args: readonly (string | number)[]): Promise<Ended> =>
  runCommand(['stock', ...args.map(String)], { DATABASE_URL: shop.url });

/** A product whose SKU is short enough to be read in a table. */
async function addNamed(sku: string, options: ProductOptions = {}): Promise<string> {
  const id = await addProduct(shop, options);
  await shop.query('UPDATE products SET sku = $2 WHERE id = $1', [id, sku]);
  return id;
}

function movements(product: string): Promise<Movement[]> {
  const columns = 'SELECT delta, kind, who, why FROM stock_movements';
  return shop.query<Movement>(`${columns} WHERE product_id = $1 AND who <> 'test' ORDER BY id`, [product]);
}

/** An accepted order for `quantity` whose payment waits for somebody to work on it. */
async function holdUnits(product: string, quantity: number): Promise<void> {
  const shopper = new Shopper(shop.app);
  expect((await shopper.put(product, quantity)).statusCode).toBe(201);
  expect((await shopper.checkout('v2')).statusCode).toBe(202);
}

function table(...lines: string[]): Ended {
  return { status: 0, stdout: `${lines.join('\n')}\n`, stderr: '' };
}

describe('stock', () => {
  beforeAll(async () => {
    shop = await openTestShop();
  });
  afterAll(() => shop.close());

  test('helps with its commands', async () => {
    expect((await stock('--help')).stdout).toMatch(/^ {2}set .*^ {2}add .*^ {2}show /ms);
    expect((await stock('add', '--help')).stdout).toContain('Usage: scalecommerce stock add [options] <PRODUCT> <N>');
  });

  test('set makes so many units sellable and books the difference as an adjustment of who asked for it', async () => {
    const product = await addNamed('SET', { stock: 12 });
    expect(await stock('set', 'SET', 30)).toEqual(table('SKU  before  held  after', 'SET      12     0     30'));
    expect(await stock('set', 'SET', 7, '--by', 'ann', '--why', 'count of May')).toMatchObject({ status: 0 });
    expect(await stockOf(shop, product)).toBe(7);
    expect(await movements(product)).toEqual([
      { delta: 18, kind: 'adjusted', who: userInfo().username, why: 'scalecommerce stock set' },
      { delta: -23, kind: 'adjusted', who: 'ann', why: 'count of May' },
    ]);
  });

  test('takes the id of a product for its name, which the API shows, but a SKU first', async () => {
    const product = await addNamed('BY-ID', { stock: 12 });
    expect(await stock('set', product, 30)).toEqual(table('SKU    before  held  after', 'BY-ID      12     0     30'));
    expect(await stock('add', product.toUpperCase(), 1)).toMatchObject({ status: 0 });
    expect((await stock('show', product)).stdout).toMatch(/^BY-ID +31 /m);
    const other = await addNamed(product, { stock: 5 });
    expect(await stock('set', product, 6)).toMatchObject({ status: 0 });
    expect([await stockOf(shop, product), await stockOf(shop, other)]).toEqual([31, 6]);
  });

  test('set to what is there books nothing', async () => {
    const product = await addNamed('SAME', { stock: 5 });
    expect(await stock('set', 'SAME', 5)).toEqual(table('SKU   before  held  after', 'SAME       5     0      5'));
    expect(await movements(product)).toEqual([]);
  });

  test('add books what comes as received and what goes as an adjustment', async () => {
    const product = await addNamed('ADD', { stock: 1 });
    expect(await stock('add', 'ADD', 5)).toEqual(table('SKU  before  held  after', 'ADD       1     0      6'));
    expect(await stock('add', 'ADD', -2)).toEqual(table('SKU  before  held  after', 'ADD       6     0      4'));
    expect(await stock('add', '--why', 'broken', 'ADD', '--', -1)).toMatchObject({ status: 0 });
    expect((await movements(product)).map(({ delta, kind, why }) => [delta, kind, why])).toEqual([
      [5, 'received', 'scalecommerce stock add'],
      [-2, 'adjusted', 'scalecommerce stock add'],
      [-1, 'adjusted', 'broken'],
    ]);
    expect(await stockOf(shop, product)).toBe(3);
  });

  test('of an archived product can be changed, and it is said that it is not on sale', async () => {
    const product = await addNamed('OLD', { stock: 2 });
    await shop.query('UPDATE products SET archived_at = now() WHERE id = $1', [product]);
    const note = 'The product is archived: none of it is on sale.';
    expect(await stock('set', 'OLD', 0)).toEqual(table('SKU  before  held  after', 'OLD       2     0      0', note));
    expect((await stock('show', 'OLD')).stdout).toContain(note);
  });

  test('is not changed beyond what there can be, and that is said in one line', async () => {
    const product = await addNamed('FEW', { stock: 3 });
    const refusals = [
      [await stock('set', 'NONE', 5), 'No product has the SKU or the id "NONE".'],
      [await stock('add', 'FEW', -4), 'FEW has 3 units for sale: 4 cannot be taken out.'],
      [await stock('add', 'FEW', 1_000_000_000), 'FEW would have 1000000003 units, more than 1000000000.'],
    ] as const;
    for (const [ended, reason] of refusals)
      expect(ended).toEqual({ status: 1, stdout: '', stderr: `scalecommerce: ${reason} Nothing was changed.\n` });
    expect(await stockOf(shop, product)).toBe(3);
    expect(await movements(product)).toEqual([]);
  });

  test('show fails in one line without such a product', async () => {
    const stderr = 'scalecommerce: No product has the SKU or the id "NONE".\n';
    expect(await stock('show', 'NONE')).toEqual({ status: 1, stdout: '', stderr });
  });

  test.each([
    [['set', 'A'], "missing required argument 'N'"],
    [['set', 'A', '-1'], "N must be a whole number from 0 to 1000000000, not '-1'."],
    [['add', 'A', '1.5'], "N must be a whole number from -1000000000 to 1000000000, not '1.5'."],
    [
      ['add', 'A', '1', '--by', ' '],
      "option '--by <NAME>' argument ' ' is invalid. It must have 1 to 200 characters, no control characters.",
    ],
    [['ad', 'A', '1'], "unknown command 'ad' (Did you mean add?)"],
  ])('refuses %j in one line', async (args, reason) => {
    expect(await stock(...args)).toEqual({ status: 2, stdout: '', stderr: `scalecommerce: ${reason}\n` });
  });

  test('that somebody keeps locked is left as it is, and that is said', async () => {
    const product = await addNamed('LOCKED', { stock: 3 });
    const holder = new pg.Client({ connectionString: shop.url });
    await holder.connect();
    await holder.query('BEGIN');
    await holder.query('SELECT FROM stock WHERE product_id = $1 FOR NO KEY UPDATE', [product]);
    const { status, stderr } = await stock('set', 'LOCKED', 9);
    await holder.end();
    expect(status).toBe(1);
    expect(stderr).toBe(
      'scalecommerce: Somebody else keeps the stock of LOCKED locked, longer than a sale does. Nothing was changed; try again soon.\n',
    );
    expect(await stockOf(shop, product)).toBe(3);
  });
});

describe('stock of a shop without a worker', () => {
  beforeAll(async () => {
    shop = await openTestShop({ ROLE: 'web' });
  });
  afterAll(() => shop.close());

  test('units of open orders are shown as held, and are not for sale', async () => {
    const product = await addNamed('HELD', { stock: 10 });
    await holdUnits(product, 3);
    await holdUnits(product, 1);
    expect(await stock('set', 'HELD', 20)).toEqual(table('SKU   before  held  after', 'HELD       6     4     20'));
    expect(await stock('add', 'HELD', -21)).toMatchObject({
      status: 1,
      stderr:
        'scalecommerce: HELD has 20 units for sale (4 more are held by open orders): 21 cannot be taken out. Nothing was changed.\n',
    });
    const shown = [
      'SKU   sellable  held  sold  received  adjusted  returned',
      'HELD        20     4     0        10        14         0',
    ];
    expect(await stock('show', 'HELD')).toEqual(table(...shown));
  });
});

describe('a stampede', () => {
  beforeAll(async () => {
    shop = await openTestShop();
  });
  afterAll(() => shop.close());

  test('goes on while operators set and add to the stock, and stays exact', async () => {
    const product = await addNamed('RACE', { stock: 20 });
    const shoppers = await Promise.all(
      Array.from({ length: 300 }, async (_, index) => {
        const shopper = new Shopper(shop.app);
        expect((await shopper.put(product, 1 + (index % 3))).statusCode).toBe(201);
        return shopper;
      }),
    );
    const operators = Promise.all([
      ...[60, 0, 90].map((units) => stock('set', 'RACE', units)),
      ...[25, 40, 5].map((units) => stock('add', 'RACE', units)),
    ]);
    let isOver = false;
    const sale = (async () => {
      const statuses: number[] = [];
      for (let round = 0; !isOver || round < 1; round++) {
        const checkouts = shoppers.map((shopper, index) =>
          shopper.checkout('v1', index % 4 === 0 ? { payment_token: 'tok_fail' } : {}),
        );
        statuses.push(...(await Promise.all(checkouts)).map((answer) => answer.statusCode));
      }
      return statuses;
    })();
    const changes = await operators;
    isOver = true;
    const statuses = new Set(await sale);
    await allEnded(shop);

    expect(changes.map(({ status, stderr }) => [status, stderr])).toEqual(changes.map(() => [0, '']));
    expect(statuses.difference(new Set([201, 402, 422]))).toEqual(new Set());
    // Each table is what happened under the lock: the differences are what the book has.
    const [set, added] = [changes.slice(0, 3), changes.slice(3)].map((some) => some.map(changeIn));
    expect(set?.map(({ after }) => after)).toEqual([60, 0, 90]);
    expect(added?.map(({ before, after }) => after - before)).toEqual([25, 40, 5]);
    const differences = [...(set ?? []), ...(added ?? [])].map(({ before, after }) => after - before);
    expect((await movements(product)).map(({ delta }) => delta).sort()).toEqual(
      differences.filter((delta) => delta !== 0).sort(),
    );
    expect(await soldUnits(shop, product)).toBeGreaterThan(0);
    expect(await stockOf(shop, product)).toBe((await movedUnits(shop, product)) - (await soldUnits(shop, product)));
    await expectNothingLeftOver(shop.url);
  });
});

function changeIn({ stdout }: Ended): { before: number; after: number } {
  const [, before, , after] = stdout.split('\n')[1]?.split(/ +/) ?? [];
  return { before: Number(before), after: Number(after) };
}
