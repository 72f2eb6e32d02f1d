import { afterAll, beforeAll, expect, test } from 'vitest';
import { type ImportReport, importCatalog } from '../src/modules/catalog/import.service.ts';
import { type Database, openDatabase } from '../src/platform/db.ts';
import { expectNothingLeftOver } from './support/invariants.ts';
import { allEnded, charges, movedUnits, soldUnits, stockOf } from './support/ledger.ts';
import { addProduct, openTestShop, Shopper, type TestShop } from './support/shop.ts';
import { onSteppedShop } from './support/stepped-shop.ts';
import { stepThrough } from './support/steps.ts';

type Figures = Readonly<{ stock: number; priceCents: number }>;

let shop: TestShop;

beforeAll(async () => {
  shop = await openTestShop();
});

afterAll(() => shop.close());

/** Imports a line for each product, as the command does with --stock: on a connection of its own. */
async function importStock(products: readonly string[], figures: Figures): Promise<ImportReport> {
  const db = openDatabase({ url: shop.url, name: 'import', connections: 1, waiting: 1, onError: () => undefined });
  const lines = products.map((id) => ({ ...figures, sku: `SKU-${id}`, name: 'Lamp' }));
  const report = await importLines(db, lines, true);
  await db.close();
  return report;
}

type Line = Figures & Readonly<{ sku: string; name: string }>;

function importLines(db: Database, lines: readonly Line[], withStock: boolean): Promise<ImportReport> {
  const texts = lines.map(({ priceCents, ...line }) =>
    JSON.stringify({ ...line, price_cents: priceCents, description: `About the ${line.name}`, currency: 'USD' }),
  );
  async function* chunks(): AsyncGenerator<Buffer> {
    yield Buffer.from(texts.join('\n'));
  }
  return importCatalog(
    db,
    { name: 'stock.ndjson', chunks: chunks() },
    {
      currency: 'USD',
      withStock,
      onBadLine: () => undefined,
      onProgress: () => undefined,
      onWaiting: () => undefined,
      signal: new AbortController().signal,
    },
  );
}

/** Shoppers with one unit of each product in their baskets. */
function filledBaskets(count: number, products: readonly string[]): Promise<Shopper[]> {
  return Promise.all(
    Array.from({ length: count }, async () => {
      const shopper = new Shopper(shop.app);
      for (const product of products) expect((await shopper.put(product, 1)).statusCode).toBe(201);
      return shopper;
    }),
  );
}

test('stock set again and again during a sale stays exact, and every checkout goes through', async () => {
  const products = await Promise.all([1, 2, 3].map(() => addProduct(shop, { stock: 1_000 })));
  const shoppers = await filledBaskets(150, products);
  const orderOf = [products, products.toReversed()];
  let isOver = false;
  const importing = (async () => {
    let imports = 0;
    for (; !isOver || imports < 5; imports++)
      await importStock(orderOf[imports % 2] ?? [], { stock: 500 + imports, priceCents: 1_000 + imports });
    return imports;
  })();
  const answers = await Promise.all(shoppers.map((shopper) => shopper.checkout('v1')));
  isOver = true;
  const imports = await importing;
  await allEnded(shop);

  expect(answers.map((answer) => answer.statusCode)).toEqual(answers.map(() => 201));
  for (const product of products) {
    expect(await soldUnits(shop, product)).toBe(150);
    expect(await stockOf(shop, product)).toBe((await movedUnits(shop, product)) - 150);
    // What was sold after the last import is missing from its figure, and nothing else.
    expect(await stockOf(shop, product)).toBeGreaterThanOrEqual(500 + imports - 1 - 150);
  }
  expect((await importStock(products, { stock: 42, priceCents: 1 })).changed).toBe(3);
  for (const product of products) expect(await stockOf(shop, product)).toBe(42);
  await expectNothingLeftOver(shop.url);
});

test('stock that comes in during a stampede is sold to the last unit and no further', async () => {
  const product = await addProduct(shop, { stock: 20 });
  const shoppers = await filledBaskets(120, [product]);
  const [answers] = await Promise.all([
    Promise.all(shoppers.map((shopper) => shopper.checkout('v1'))),
    importStock([product], { stock: 50, priceCents: 1_000 }),
  ]);
  const refused = shoppers.filter((_, at) => answers[at]?.statusCode === 422);
  const second = await Promise.all(refused.map((shopper) => shopper.checkout('v1')));
  await allEnded(shop);

  const moved = await movedUnits(shop, product);
  const paid = [...answers, ...second].filter((answer) => answer.statusCode === 201);
  expect(moved).toBeGreaterThanOrEqual(50);
  expect(moved).toBeLessThanOrEqual(70);
  expect(paid).toHaveLength(moved);
  expect(await soldUnits(shop, product)).toBe(moved);
  expect(await charges(shop, product)).toHaveLength(moved);
  expect(await stockOf(shop, product)).toBe(0);
  await expectNothingLeftOver(shop.url);
});

test.each([
  ['without', false],
  ['with', true],
])('what comes %s its stock in the middle of a checkout is sold as it was before', async (_, withStock) => {
  const deadlocks = await onSteppedShop({}, async (stepped) => {
    const product = await addProduct(stepped.shop, { name: 'Lamp', description: 'It shines', priceCents: 1_000 });
    const shopper = new Shopper(stepped.app);
    await shopper.put(product, 1);
    // The checkout stands here with its prices read, and nothing written.
    const beforeOrders = { lock: 'LOCK TABLE orders IN SHARE MODE', values: [] };
    const line = { sku: `SKU-${product}`, name: 'Lantern', priceCents: 2_000, stock: 10 };
    await stepThrough<unknown>(stepped.shop.url, beforeOrders, [
      () => shopper.checkout('v2'),
      () => importLines(stepped.database, [line], withStock),
    ]);
    const sold = 'SELECT name, description, unit_price FROM order_lines';
    expect(await stepped.shop.query(sold)).toEqual([{ name: 'Lamp', description: 'It shines', unit_price: 1_000 }]);
    const now = 'SELECT name, description, price_cents FROM products';
    expect(await stepped.shop.query(now)).toEqual([
      { name: 'Lantern', description: 'About the Lantern', price_cents: 2_000 },
    ]);
  });
  expect(deadlocks).toBe(0);
});
