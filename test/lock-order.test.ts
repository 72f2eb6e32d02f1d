import pg from 'pg';
import { describe, expect, it } from 'vitest';
import { auditShop, violatedIn } from '../src/modules/audit/audit.service.ts';
import { importCatalog } from '../src/modules/catalog/import.service.ts';
import { claimFreeOrders, parkWornOutOrders, readOwnedOrders } from '../src/modules/checkout/claim.sql.ts';
import { startOrderWorker } from '../src/modules/checkout/order-worker.ts';
import { endPayment } from '../src/modules/checkout/pay.ts';
import { type Settlement, settleOrders } from '../src/modules/checkout/settle.ts';
import { readWork, type Work } from '../src/modules/checkout/work.ts';
import { changeStock } from '../src/modules/inventory/stock.service.ts';
import type { PaymentGateway } from '../src/modules/payments/payments.service.ts';
import type { Database } from '../src/platform/db.ts';
import { countDeadlocks, noticeDeadlocksSoon } from './support/deadlocks.ts';
import { expectNothingLeftOver } from './support/invariants.ts';
import { allEnded, movedUnits, soldUnits, stockOf } from './support/ledger.ts';
import { type Held, heldBasket, heldStock, untilDecided } from './support/race.ts';
import { between, oneOf, type Random, randomOf, seed } from './support/seed.ts';
import { addProduct, endedOrder, openTestShop, orderIdOf, Shopper, type TestShop } from './support/shop.ts';
import { onSteppedShop, openPatient, type SteppedShop } from './support/stepped-shop.ts';
import { crossOnce, type Step, stepThrough } from './support/steps.ts';

const long = 120_000;
const strategies = ['batched', 'atomic', 'pessimistic'] as const;

describe('the counter of deadlocks', () => {
  it('shows two sessions that lock stock in opposite order, and nobody else', async () => {
    const deadlocks = await onSteppedShop({}, async ({ shop }) => {
      const [low, high] = await addTwoProducts(shop);
      const sessions = [new pg.Client({ connectionString: shop.url }), new pg.Client({ connectionString: shop.url })];
      const [one, other] = sessions as [pg.Client, pg.Client];
      const lock = (client: pg.Client, product: string): Promise<unknown> =>
        client.query('SELECT FROM stock WHERE product_id = $1 FOR NO KEY UPDATE', [product]);
      for (const client of sessions) {
        await client.connect();
        await client.query('BEGIN');
      }
      await lock(one, low);
      await lock(other, high);
      const crossing = await Promise.allSettled([lock(one, high), lock(other, low)]);
      const failed = crossing.filter((each) => each.status === 'rejected');
      expect(failed.map(({ reason }) => reason.code)).toEqual(['40P01']);
      for (const client of sessions) await client.end();
    });
    expect(deadlocks).toBe(1);
  });
});

const kinds = ['add', 'accept', 'complete', 'fail', 'expire', 'claim', 'stock', 'import'] as const;
type Kind = (typeof kinds)[number];
type Ending = 'complete' | 'fail' | 'expire';
const endings: readonly Ending[] = ['complete', 'fail', 'expire'];

/** Something that was done to the line of the first product in `shopper`'s basket. */
type Effect = Readonly<{ kind: 'add' | 'accept' | Ending; shopper: Shopper; quantity: number }>;
type Payment = Readonly<{ shopper: Shopper; settlement: Settlement }>;

/** What a round plays with: two products, in the order of their locks, and baskets that hold them both ways round. */
type Scene = Readonly<{
  stepped: SteppedShop;
  random: Random;
  products: readonly [string, string];
  /** Not checked out yet. */
  open: Shopper;
  /** Ended at the gateway, not settled yet. */
  payments: Readonly<Record<Ending, readonly Payment[]>>;
}>;

const first = { open: 2, ordered: 1 };

describe(`operations that meet at a lock (FAULT_SEED=${seed})`, () => {
  const allPairs = kinds.flatMap((one) => kinds.map((other) => [one, other]));

  it(
    'end in every order of two of them, and nothing is lost or doubled',
    async () => {
      const deadlocks = await onSteppedShop({}, async (stepped) => {
        for (const pair of allPairs) await playRound(stepped, pair, randomOf(`pair ${pair}`));
        await expectNothingLeftOver(stepped.shop.url);
      });
      expect(deadlocks).toBe(0);
    },
    long,
  );

  it.each(strategies)(
    'end in many orders of three of them, and nothing is lost or doubled: %s',
    async (strategy) => {
      const deadlocks = await onSteppedShop({ RESERVATION_STRATEGY: strategy }, async (stepped) => {
        const random = randomOf(`triples ${strategy}`);
        for (let round = 0; round < 40; round++) {
          const triple = [oneOf(random, kinds), oneOf(random, kinds), oneOf(random, kinds)];
          await playRound(stepped, triple, random);
        }
        await expectNothingLeftOver(stepped.shop.url);
      });
      expect(deadlocks).toBe(0);
    },
    long,
  );

  it('end also when orders are parked that their worker, without its lease, goes on with', async () => {
    const deadlocks = await onSteppedShop({}, async (stepped) => {
      const { shop, database } = stepped;
      const products = await addTwoProducts(shop);
      const payments = [await payFor(stepped, products, 'complete'), await payFor(stepped, products, 'complete')];
      const [low, high] = payments.map(({ settlement }) => settlement.work.orderId).sort();
      // A statement without an order of its own comes to them as the table or an index keeps them: the other way round.
      for (const [minutes, id] of [high, low].entries())
        await shop.query(
          `UPDATE order_states SET takeovers = 6, hold_until = now() + ($2 + 1) * interval '1 minute' WHERE order_id = $1`,
          [String(id), minutes],
        );
      const held = { lock: 'SELECT FROM order_states WHERE order_id = $1 FOR NO KEY UPDATE', values: [low] };
      const settlements = payments.map(({ settlement }) => settlement);
      await stepThrough<unknown>(shop.url, held, [
        () => database.transaction((tx) => settleOrders(tx, settlements)),
        () => parkWornOutOrders(database),
      ]);
      await expectSound(shop, 'parked');
    });
    expect(deadlocks).toBe(0);
  });
});

/** Steps `round` through a lock that `random` picks, and checks what came of it. */
async function playRound(stepped: SteppedShop, round: readonly Kind[], random: Random): Promise<void> {
  const scene = await setScene(stepped, round, random);
  const held = pickHeld(scene);
  const operations = round.map((kind) => operationOf(scene, kind));
  const steps = await stepThrough(stepped.shop.url, held, operations);
  const about = `${round} at ${held.lock}`;
  await expectOneByOne(scene, steps, about);
  await expectSound(stepped.shop, about);
  await settleTheRest(stepped);
}

async function setScene(stepped: SteppedShop, round: readonly Kind[], random: Random): Promise<Scene> {
  const products = await addTwoProducts(stepped.shop);
  const open = await shopperWith(stepped, products.toReversed(), first.open);
  const paymentsOf = async (ending: Ending): Promise<Payment[]> => {
    const isWanted = round.includes(ending) || random() < 0.2;
    const orders = isWanted ? [products, products.toReversed()] : [];
    return Promise.all(orders.map((lines) => payFor(stepped, lines, ending)));
  };
  const [complete = [], fail = [], expire = []] = await Promise.all(endings.map(paymentsOf));
  return { stepped, random, products, open, payments: { complete, fail, expire } };
}

async function addTwoProducts(shop: TestShop): Promise<[string, string]> {
  const [low = '', high = ''] = (
    await Promise.all([addProduct(shop, { stock: 100 }), addProduct(shop, { stock: 100 })])
  ).sort();
  return [low, high];
}

async function shopperWith({ app }: SteppedShop, products: readonly string[], quantity: number): Promise<Shopper> {
  const shopper = new Shopper(app);
  for (const product of products) expect((await shopper.put(product, quantity)).statusCode).toBe(201);
  return shopper;
}

/** An order whose payment has ended, as its worker knows and the database does not yet. */
async function payFor(stepped: SteppedShop, products: readonly string[], ending: Ending): Promise<Payment> {
  const { shop, database, zombie: owner } = stepped;
  const shopper = await shopperWith(stepped, products, first.ordered);
  const token = ending === 'fail' ? 'tok_fail' : 'tok_success';
  const orderId = orderIdOf(await shopper.checkout('v2', { payment_token: token }));
  if (ending === 'expire')
    await shop.query(`UPDATE order_states SET hold_until = now() - interval '1 second' WHERE order_id = $1`, [orderId]);
  const work = (await readWork(database, orderId, owner)) as Work;
  const outcome = await endPayment(shop.resources.gateway, work, () => undefined);
  return { shopper, settlement: { owner, work, outcome } };
}

/** A row that at least some of the operations need. */
function pickHeld({ random, products, open, payments }: Scene): Held {
  const payment = oneOf(random, [null, ...Object.values(payments).flat()]);
  const rows: Held[] = [
    heldStock([products[0]]),
    heldStock([products[1]]),
    heldBasket((payment?.shopper ?? open).token),
    { lock: 'SELECT FROM products WHERE id = $1 FOR NO KEY UPDATE', values: [products[0]] },
  ];
  if (payment)
    rows.push({
      lock: 'SELECT FROM order_states WHERE order_id = $1 FOR NO KEY UPDATE',
      values: [payment.settlement.work.orderId],
    });
  return oneOf(random, rows);
}

function operationOf(scene: Scene, kind: Kind): () => Promise<readonly Effect[]> {
  if (kind === 'add') return add(scene);
  if (kind === 'accept') return () => accept(scene);
  if (kind === 'claim') return () => claim(scene);
  if (kind === 'stock') return () => editStock(scene);
  if (kind === 'import') return () => importProducts(scene.stepped.database, scene.products.toReversed(), scene.random);
  return () => settle(scene, kind);
}

/** To a basket that is being sold, or whose order is being ended. */
function add({ random, products, open, payments }: Scene): () => Promise<readonly Effect[]> {
  const shopper = oneOf(random, [
    open,
    open,
    ...Object.values(payments)
      .flat()
      .map((payment) => payment.shopper),
  ]);
  const quantity = between(random, 5, 9);
  return async () => {
    expect((await shopper.put(products[0], quantity)).statusCode).toBe(201);
    return [{ kind: 'add', shopper, quantity }];
  };
}

async function accept({ open: shopper }: Scene): Promise<readonly Effect[]> {
  const { statusCode } = await shopper.checkout('v2');
  // The basket may be the subject of another checkout, and then empty or busy.
  expect([202, 409, 422]).toContain(statusCode);
  return statusCode === 202 ? [{ kind: 'accept', shopper, quantity: 0 }] : [];
}

async function settle({ stepped, payments }: Scene, kind: Ending): Promise<readonly Effect[]> {
  const events = await stepped.database.transaction((tx) =>
    settleOrders(
      tx,
      payments[kind].map(({ settlement }) => settlement),
    ),
  );
  return payments[kind].flatMap(({ shopper }, index) =>
    events[index] ? [{ kind, shopper, quantity: first.ordered }] : [],
  );
}

async function claim({ stepped }: Scene): Promise<readonly Effect[]> {
  await claimFreeOrders(stepped.database, stepped.heir, 500);
  return [];
}

async function editStock({ stepped, products, random }: Scene): Promise<readonly Effect[]> {
  const wish = { kind: oneOf(random, ['set', 'add'] as const), units: between(random, 50, 150) };
  const answer = await changeStock(stepped.database, `SKU-${oneOf(random, products)}`, wish, {
    who: 'test',
    why: 'test',
  });
  expect(answer.ok).toBe(true);
  return [];
}

async function importProducts(db: Database, products: readonly string[], random: Random): Promise<readonly Effect[]> {
  const lines = products.map((id) => {
    const line = { sku: `SKU-${id}`, name: 'Lamp', description: 'It shines', currency: 'USD' };
    return JSON.stringify({ ...line, price_cents: between(random, 1, 1_000), stock: between(random, 50, 150) });
  });
  async function* chunks(): AsyncGenerator<Buffer> {
    yield Buffer.from(lines.join('\n'));
  }
  const ignore = (): void => undefined;
  const signal = new AbortController().signal;
  const options = {
    currency: 'USD',
    withStock: true,
    onBadLine: ignore,
    onProgress: ignore,
    onWaiting: ignore,
    signal,
  };
  expect((await importCatalog(db, { name: 'test.ndjson', chunks: chunks() }, options)).bad).toBe(0);
  return [];
}

/** Expects each basket to be as if its operations had come one by one, in an order that agrees with the clock. */
async function expectOneByOne(scene: Scene, steps: readonly Step<readonly Effect[]>[], about: string): Promise<void> {
  const payments = Object.values(scene.payments).flat();
  for (const shopper of [scene.open, ...payments.map((payment) => payment.shopper)]) {
    const effects = steps.flatMap((step) =>
      step.result.filter((effect) => effect.shopper === shopper).map((result) => ({ ...step, result })),
    );
    const before = shopper === scene.open ? { line: first.open, sold: 0 } : { line: 0, sold: first.ordered };
    const possible = ordersOf(effects).map((order) => order.reduce(after, before));
    expect(possible, about).toContainEqual(await lineOf(scene, shopper));
  }
}

type Line = Readonly<{ line: number; sold: number }>;

function after({ line, sold }: Line, { result: { kind, quantity } }: Step<Effect>): Line {
  if (kind === 'add') return { line: quantity, sold };
  if (kind === 'accept') return { line: 0, sold: line };
  return kind === 'complete' ? { line, sold } : { line: line + sold, sold: 0 };
}

/** All orders in which nothing comes after what was begun only when it was over. */
function ordersOf<T>(steps: readonly Step<T>[]): Step<T>[][] {
  if (steps.length === 0) return [[]];
  return steps.flatMap((next) => {
    const rest = steps.filter((step) => step !== next);
    if (rest.some((step) => step.endedAtMs < next.startedAtMs)) return [];
    return ordersOf(rest).map((order) => [next, ...order]);
  });
}

/** The first product in the basket, and in its orders that have not failed. */
async function lineOf({ stepped, products }: Scene, { token }: Shopper): Promise<Line | undefined> {
  const [row] = await stepped.shop.query<Line>(
    `SELECT coalesce((SELECT quantity FROM basket_lines l WHERE l.basket_id = b.id AND l.product_id = $2), 0) AS line,
            (SELECT coalesce(sum(l.quantity), 0)::integer
               FROM orders o JOIN order_states s ON s.order_id = o.id JOIN order_lines l ON l.order_id = o.id
              WHERE o.basket_id = b.id AND l.product_id = $2 AND s.state <> 'failed') AS sold
       FROM baskets b WHERE b.token = $1`,
    [token, products[0]],
  );
  return row;
}

async function expectSound(shop: TestShop, about: string): Promise<void> {
  expect(violatedIn(await auditShop(shop.resources.database, 10_000)), about).toEqual([]);
}

/** As the heir of a worker that crashed would do. */
async function settleTheRest({ shop, database, heir }: SteppedShop): Promise<void> {
  await claimFreeOrders(database, heir, 500);
  for (const orderId of await readOwnedOrders(database, heir)) {
    const work = (await readWork(database, orderId, heir)) as Work;
    const outcome = await endPayment(shop.resources.gateway, work, () => undefined);
    expect(await database.transaction((tx) => settleOrders(tx, [{ owner: heir, work, outcome }]))).not.toContain(null);
  }
}

describe(`baskets (A,B) against (B,A) (FAULT_SEED=${seed})`, () => {
  it.each(strategies)(
    'are sold a thousand times, beside edits and imports, and deadlock nobody: %s',
    async (strategy) => {
      const shop = await openTestShop({ RESERVATION_STRATEGY: strategy });
      try {
        await noticeDeadlocksSoon(shop.url);
        const random = randomOf(`stampede ${strategy}`);
        const products = await Promise.all([addProduct(shop, { stock: 500 }), addProduct(shop, { stock: 500 })]);
        const statuses = await whileEdited(shop, products, random, () => buyInWaves(shop, products, random));
        await allEnded(shop);

        expect(new Set(statuses).difference(new Set([202, 422]))).toEqual(new Set());
        for (const product of products) {
          const sold = await soldUnits(shop, product);
          expect(sold).toBeGreaterThan(0);
          expect(await stockOf(shop, product)).toBe((await movedUnits(shop, product)) - sold);
        }
        await expectNothingLeftOver(shop.url);
        expect(await countDeadlocks(shop.url)).toBe(0);
      } finally {
        await shop.close();
      }
    },
    long,
  );
});

/** Lets operators edit the stock and import files for as long as `sell` takes. */
async function whileEdited<T>(
  shop: TestShop,
  products: readonly string[],
  random: Random,
  sell: () => Promise<T>,
): Promise<T> {
  const operator = openPatient(shop.url);
  let isOpen = true;
  const editing = (async () => {
    while (isOpen) await changeOne(operator, products, random);
  })();
  const sold = await sell().finally(() => {
    isOpen = false;
  });
  await editing.finally(() => operator.close());
  return sold;
}

/** A thousand checkouts, a hundred at a time; returns their statuses. */
async function buyInWaves(shop: TestShop, products: readonly string[], random: Random): Promise<number[]> {
  const statuses: number[] = [];
  for (let wave = 0; wave < 10; wave++) {
    const buyers = Array.from({ length: 100 }, (_, index) => buyBoth(shop, products, index, random));
    statuses.push(...(await Promise.all(buyers)));
  }
  return statuses;
}

async function changeOne(db: Database, products: readonly string[], random: Random): Promise<readonly Effect[]> {
  if (random() < 0.5) return importProducts(db, random() < 0.5 ? products : products.toReversed(), random);
  const wish = { kind: 'set', units: between(random, 0, 200) } as const;
  expect((await changeStock(db, `SKU-${oneOf(random, products)}`, wish, { who: 'test', why: 'test' })).ok).toBe(true);
  return [];
}

/** Returns the status of the checkout; 422 as well when the basket could not be filled, for want of stock. */
async function buyBoth(shop: TestShop, products: readonly string[], index: number, random: Random): Promise<number> {
  const shopper = new Shopper(shop.app);
  for (const product of index % 2 === 0 ? products : products.toReversed()) {
    const quantity = between(random, 1, 2);
    const { statusCode } = await untilDecided(() => shopper.put(product, quantity));
    expect([201, 422]).toContain(statusCode);
  }
  const token = random() < 0.3 ? 'tok_fail' : 'tok_success';
  return (await untilDecided(() => shopper.checkout('v2', { payment_token: token }))).statusCode;
}

/** Tables whose writes are broken up: of a basket, by a checkout, by its settlement, by an operator. */
const brokenTables = ['basket_lines', 'orders', 'events', 'stock_movements'];
const timesBroken = 2;

describe('a transaction that the database breaks up', () => {
  it.each(['40001', '40P01'])('for %s is repeated inside, and no call to the gateway with it', async (sqlState) => {
    await onSteppedShop({}, async (stepped) => {
      const { shop, database } = stepped;
      const product = await addProduct(shop, { stock: 10 });
      await breakUp(shop, sqlState);
      const counted = countCalls(shop.resources.gateway);
      const paid = await shopperWith(stepped, [product], 2);
      const declined = await shopperWith(stepped, [product], 1);
      const paidId = orderIdOf(await paid.checkout('v2'));
      const declinedId = orderIdOf(await declined.checkout('v2', { payment_token: 'tok_fail' }));
      const stop = await startWorking(stepped, counted.gateway);
      expect((await endedOrder(paid, paidId)).status).toBe('completed');
      expect((await endedOrder(declined, declinedId)).status).toBe('failed');
      await stop();
      expect(counted.calls).toEqual({ authorize: 2, capture: 1 });
      const edit = { who: 'test', why: 'test' };
      expect((await changeStock(database, `SKU-${product}`, { kind: 'add', units: 5 }, edit)).ok).toBe(true);
      for (const table of brokenTables) expect(await timesWritten(shop, table), table).toBeGreaterThan(timesBroken);
      expect(await stockOf(shop, product)).toBe(10 - 2 + 5);
      await expectNothingLeftOver(shop.url);
    });
  });

  it.each(strategies)(
    'because somebody else locked stock in the wrong order, accepts its order once: %s',
    async (strategy) => {
      const deadlocks = await onSteppedShop({ RESERVATION_STRATEGY: strategy }, async (stepped) => {
        const products = await addThreeProducts(stepped.shop);
        const shopper = await shopperWith(stepped, products.toReversed(), 1);
        const answer = await crossOnce(stepped.shop.url, stockRow(products), () => shopper.checkout('v2'));
        expect(answer.statusCode).toBe(202);
        expect((await shopper.basket()).json().products).toEqual([]);
        for (const product of products) expect(await stockOf(stepped.shop, product)).toBe(9);
        await settleTheRest(stepped);
        await expectNothingLeftOver(stepped.shop.url);
      });
      expect(deadlocks).toBeGreaterThan(0);
    },
  );

  it('because somebody else locked stock in the wrong order, settles its order without asking the gateway again', async () => {
    const deadlocks = await onSteppedShop({}, async (stepped) => {
      const products = await addThreeProducts(stepped.shop);
      const shopper = await shopperWith(stepped, products, 1);
      const orderId = orderIdOf(await shopper.checkout('v2', { payment_token: 'tok_fail' }));
      const counted = countCalls(stepped.shop.resources.gateway);
      let stop = async (): Promise<void> => undefined;
      await crossOnce(stepped.shop.url, stockRow(products), async () => {
        stop = await startWorking(stepped, counted.gateway);
        expect((await endedOrder(shopper, orderId)).status).toBe('failed');
      });
      await stop();
      expect(counted.calls).toEqual({ authorize: 1 });
      for (const product of products) expect(await stockOf(stepped.shop, product)).toBe(10);
      await expectNothingLeftOver(stepped.shop.url);
    });
    expect(deadlocks).toBeGreaterThan(0);
  });

  it('because somebody else locked stock in the wrong order, imports its file once', async () => {
    const deadlocks = await onSteppedShop({}, async ({ shop, database }) => {
      const products = await addThreeProducts(shop);
      const random = randomOf('crossed import');
      await crossOnce(shop.url, stockRow(products), () => importProducts(database, products, random));
      for (const product of products) expect(await stockOf(shop, product)).toBe(await movedUnits(shop, product));
      await expectNothingLeftOver(shop.url);
    });
    expect(deadlocks).toBeGreaterThan(0);
  });
});

/** The next writes of each of the tables fail with `sqlState`, some times. What a sequence has counted is not undone. */
async function breakUp({ query }: TestShop, sqlState: string): Promise<void> {
  await query(
    `CREATE FUNCTION break_up() RETURNS trigger LANGUAGE plpgsql AS $$
     BEGIN
       IF nextval('written_' || TG_TABLE_NAME) <= ${timesBroken} THEN
         RAISE EXCEPTION 'broken up by a test' USING ERRCODE = '${sqlState}';
       END IF;
       RETURN NEW;
     END $$`,
  );
  for (const table of brokenTables) {
    await query(`CREATE SEQUENCE written_${table}`);
    await query(`CREATE TRIGGER break_up BEFORE INSERT ON ${table} FOR EACH ROW EXECUTE FUNCTION break_up()`);
  }
}

async function timesWritten({ query }: TestShop, table: string): Promise<number> {
  const [row] = await query<{ last_value: number }>(`SELECT last_value FROM written_${table}`);
  return row?.last_value ?? 0;
}

type Calls = Partial<Record<keyof PaymentGateway, number>>;

function countCalls(gateway: PaymentGateway): { gateway: PaymentGateway; calls: Calls } {
  const calls: Calls = {};
  const counted = new Proxy(gateway, {
    get: (target, name: keyof PaymentGateway) => {
      const call = target[name] as (request: unknown) => unknown;
      return (request: unknown) => {
        calls[name] = (calls[name] ?? 0) + 1;
        return call.call(target, request);
      };
    },
  });
  return { gateway: counted, calls };
}

/** A worker that waits for locks as long as the test holds them. */
async function startWorking({ shop, database }: SteppedShop, gateway: PaymentGateway): Promise<() => Promise<void>> {
  const { notifications, onError } = shop.resources;
  const worker = await startOrderWorker({ database, gateway, notifications, pollMs: 20, onError });
  return () => worker.stop();
}

async function addThreeProducts(shop: TestShop): Promise<string[]> {
  return (await Promise.all([1, 2, 3].map(() => addProduct(shop, { stock: 10 })))).sort();
}

function stockRow(products: readonly string[]): (index: 0 | 1 | 2) => Held {
  return (index) => heldStock(products.slice(index, index + 1));
}
