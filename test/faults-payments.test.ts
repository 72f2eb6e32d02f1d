import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { auditShop, violatedIn } from '../src/modules/audit/audit.service.ts';
import { openDatabase } from '../src/platform/db.ts';
import { startShopping } from './support/busy-shoppers.ts';
import type { ClientRecord } from './support/client-records.ts';
import { eventually } from './support/eventually.ts';
import { charges, type Ledger, stockOf } from './support/ledger.ts';
import { stateOf } from './support/order-facts.ts';
import {
  allEndedMs,
  endOf,
  expectTruth,
  onOrderStage,
  orderTestTimeoutMs,
  type PlacedOrder,
  placeOrder,
  stock,
  withEndsAsTold,
} from './support/recorded-orders.ts';
import { between, oneOf, type Random, randomOf, seed } from './support/seed.ts';
import { addProduct } from './support/shop.ts';
import { onStage, type Stage } from './support/stage.ts';

/** An acceptance that waits for nothing, on a busy machine. */
const promptMs = 2_000;
/** A call is given up after 8 s by a clock that need not be the database's. */
const givenUpMs = 7_500;

/** What `audit` counts, by name; expects no invariant to be violated. */
async function countsOf({ url }: Stage): Promise<Record<string, number>> {
  const db = openDatabase({ url, name: 'test audit', connections: 1, waiting: 1, onError: () => undefined });
  const findings = await auditShop(db, 10_000).finally(() => db.close());
  expect(violatedIn(findings)).toEqual([]);
  return Object.fromEntries(findings.map(({ name, count }) => [name, count]));
}

/** Until the holds of all open orders are over, by the database's clock. */
async function untilHoldsAreOver(ledger: Ledger): Promise<void> {
  const held = 'SELECT FROM order_states WHERE ended_at IS NULL AND hold_until > clock_timestamp()';
  await eventually(async () => (await ledger.query(held)).length === 0);
}

/** Tokens, and how an order with each has to end. */
type Plan = Readonly<Record<string, ClientRecord['end']>>;

type Placed = ReadonlyMap<string, readonly PlacedOrder[]>;

/** So many orders with each of the tokens, in an order of chance. */
async function placeAll(
  address: string,
  records: ClientRecord[],
  wish: Readonly<{ product: string; plan: Plan; each: number; random: Random }>,
): Promise<Placed> {
  const { product, plan, each, random } = wish;
  const left = Object.entries(plan).flatMap((item) => Array.from({ length: each }, () => item));
  const placed: Array<[string, PlacedOrder]> = [];
  while (left.length > 0)
    for (const [paymentToken, end] of left.splice(between(random, 0, left.length - 1), 1))
      placed.push([paymentToken, await placeOrder(address, records, { product, paymentToken, end })]);
  const grouped = [...Map.groupBy(placed, ([token]) => token)];
  return new Map(grouped.map(([token, orders]) => [token, orders.map(([, order]) => order)]));
}

/** Expects these orders to end as planned; those that fail, since their holds were over. */
async function expectEnds(placed: Placed, plan: Plan, tokens: readonly string[]): Promise<void> {
  for (const token of tokens)
    for (const order of placed.get(token) ?? []) {
      const status = plan[token];
      const error = status === 'failed' ? { code: 'hold_expired' } : null;
      expect(await endOf(order), token).toMatchObject({ status, error });
    }
}

/** Expects that orders with these tokens stayed open for as long as a call is waited for, and as they were held. */
async function expectWaitedFor(ledger: Ledger, tokens: readonly string[], placed: Placed): Promise<void> {
  const endedEarly = await ledger.query(
    `SELECT order_id FROM order_states JOIN orders ON orders.id = order_id
      WHERE order_id = ANY ($1::uuid[]) AND ended_at < orders.created_at + interval '1 ms' * $2`,
    [tokens.flatMap((token) => placed.get(token) ?? []).map(({ orderId }) => orderId), givenUpMs],
  );
  expect(endedEarly).toEqual([]);
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;
}

/** Tokens whose payments end well, sooner or later. */
const allSold: Plan = {
  tok_lost_answer: 'completed',
  tok_lost_request: 'completed',
  tok_late_request: 'completed',
  tok_late_capture: 'completed',
  tok_reset: 'completed',
  tok_error: 'completed',
  tok_rate_limited: 'completed',
  tok_success: 'completed',
};

/** The same where a hold is shorter than the time after which a call is given up. */
const allAtEndOfHold: Plan = {
  tok_lost_answer: 'failed',
  tok_lost_request: 'failed',
  tok_late_request: 'failed',
  tok_late_capture: 'failed',
  tok_authorize_unreachable: 'failed',
  tok_unreachable: 'failed',
  tok_reset: 'completed',
};

/** Expects orders that the gateway gives no answer for, long after their holds, to be counted but not complained of. */
async function expectOpenAndCounted(stage: Stage, orders: readonly PlacedOrder[]): Promise<void> {
  await eventually(async () => (await countsOf(stage)).unanswered_orders === orders.length);
  await stage.ledger.query(
    `UPDATE order_states SET hold_until = hold_until - interval '2 minutes' WHERE ended_at IS NULL`,
  );
  expect(await countsOf(stage)).toMatchObject({ unanswered_orders: orders.length, parked_orders: 0 });
  for (const { orderId } of orders) expect(await stateOf(stage.ledger, orderId)).toBe('pending');
}

// By chance means: by the seed and the orders' ids, which are new in every run. The rates are what can be repeated.
describe.concurrent(`the gateway fails (FAULT_SEED=${seed})`, () => {
  it(
    'a call whose outcome is unknown is repeated under its key: everything is sold, and charged once',
    () =>
      onOrderStage('unknown', async (stage) => {
        const { ledger, product, random, records } = stage;
        const shop = await stage.start();
        const placed = await placeAll(shop.address, records, { product, plan: allSold, each: 2, random });
        // Held while nobody knows, and kept once it is known.
        const count = 2 * Object.keys(allSold).length;
        expect(await stockOf(ledger, product)).toBe(stock - count);
        await expectTruth(stage, records);
        await expectWaitedFor(
          ledger,
          ['tok_lost_answer', 'tok_lost_request', 'tok_late_request', 'tok_late_capture'],
          placed,
        );
        expect(await charges(ledger, product)).toEqual(Array.from({ length: count }, () => 1_000));
        expect(await stockOf(ledger, product)).toBe(stock - count);
      }),
    orderTestTimeoutMs,
  );

  it(
    'a hold that ends while the outcome is unknown gives its stock back once the gateway has closed the payment, not before',
    () =>
      onOrderStage('hold', async (stage) => {
        const { ledger, product, random, records } = stage;
        const shop = await stage.start({ HOLD_TTL_S: '5' });
        const placed = await placeAll(shop.address, records, { product, plan: allAtEndOfHold, each: 2, random });
        const tokens = Object.keys(allAtEndOfHold);
        await untilHoldsAreOver(ledger);
        // Whatever has ended by now, stock and orders agree.
        await countsOf(stage);
        await expectEnds(
          placed,
          allAtEndOfHold,
          tokens.filter((token) => token !== 'tok_unreachable'),
        );
        await expectOpenAndCounted(stage, placed.get('tok_unreachable') ?? []);
        expect(await stockOf(ledger, product)).toBe(stock - 4);
        // Only a connection that was reset is known to be broken at once.
        await expectWaitedFor(
          ledger,
          tokens.filter((token) => token !== 'tok_unreachable' && token !== 'tok_reset'),
          placed,
        );

        // The gateway has heard nothing of these so far: to it, they may as well come with another token.
        await ledger.query(
          `UPDATE order_states SET payment_token = 'tok_success' WHERE payment_token = 'tok_unreachable'`,
        );
        await expectEnds(placed, allAtEndOfHold, ['tok_unreachable']);
        await expectTruth(stage, records);
        expect(await stockOf(ledger, product)).toBe(stock - 2);
      }),
    orderTestTimeoutMs,
  );

  it(
    'so slow that no answer comes in time, it delays no acceptance; holds stay until it answers again, and end then',
    () =>
      onOrderStage('slow', async (stage) => {
        const { ledger, product, random, records } = stage;
        const holds = { HOLD_TTL_S: '6' };
        const [slow, quick] = await Promise.all([
          stage.start({ ...holds, SIMULATED_GATEWAY_LATENCY_MS: '30000' }),
          stage.start(holds),
        ]);
        const [delayed, paid]: [PlacedOrder[], PlacedOrder[]] = [[], []];
        for (let count = 0; count < 12; count++) {
          const quantity = between(random, 1, 3);
          delayed.push(await placeOrder(slow.address, records, { product, quantity, end: 'failed' }));
          paid.push(await placeOrder(quick.address, records, { product, quantity }));
        }
        const acceptedInMs = median(delayed.map((order) => order.acceptedInMs));
        expect(acceptedInMs).toBeLessThan(10 * median(paid.map((order) => order.acceptedInMs)) + 100);
        for (const order of paid) expect(await endOf(order)).toMatchObject({ status: 'completed' });
        const held = await stockOf(ledger, product);
        await untilHoldsAreOver(ledger);
        await eventually(async () => (await countsOf(stage)).unanswered_orders === delayed.length);
        expect(await stockOf(ledger, product)).toBe(held);

        expect(await slow.end('SIGTERM')).toBe(0);
        for (const order of delayed)
          expect(await endOf(order, quick.address)).toMatchObject({
            status: 'failed',
            error: { code: 'hold_expired' },
          });
        await expectTruth(stage, records);
        expect(await stockOf(ledger, product)).toBe(stock - (stock - held) / 2);
      }),
    orderTestTimeoutMs,
  );

  it(
    'in bursts of errors, refusals for too many calls and broken connections, it stops no sale and delays no acceptance',
    () =>
      onStage(async (stage) => {
        const random = randomOf('bursts');
        const products = await Promise.all([1, 2].map(() => addProduct(stage.ledger, { stock: 1_000_000 })));
        const shop = await stage.start({
          SIMULATED_GATEWAY_FAULTS: 'error=0.1,rate_limited=0.07,reset=0.1',
          SIMULATED_GATEWAY_SEED: String(seed % 2 ** 31),
        });
        const records: ClientRecord[] = [];
        const stopShopping = startShopping({ shops: [shop], products, count: 8, random, records });
        await eventually(() => records.filter(isCheckout).length >= 150, allEndedMs);
        await stopShopping();
        const accepted = records.filter((record) => record.what === 'checkout' && record.status === 202);
        expect(median(accepted.map((record) => record.tookMs))).toBeLessThan(promptMs);
        // One of V1 that is hit again and again may be told that it is not over yet.
        expect(records.filter((record) => ![201, 202, 402, 504].includes(record.status))).toEqual([]);
        await expectTruth(stage, records);
      }),
    orderTestTimeoutMs,
  );

  it(
    'answers lost, late and broken by chance at the end of a hold: of capture and expiry exactly one wins, and the books agree',
    () =>
      onOrderStage('chance', async (stage) => {
        const { ledger, product, random, records } = stage;
        const shop = await stage.start({
          HOLD_TTL_S: '2',
          SIMULATED_GATEWAY_LATENCY_MS: '500',
          SIMULATED_GATEWAY_FAULTS: 'lost_answer=0.08,lost_request=0.03,late_request=0.03,reset=0.2,error=0.1',
          SIMULATED_GATEWAY_SEED: String(seed % 2 ** 31),
        });
        const placed: PlacedOrder[] = [];
        while (placed.length < 60) {
          const paymentToken = oneOf(random, ['tok_success', 'tok_success', 'tok_success', 'tok_slow']);
          placed.push(await placeOrder(shop.address, records, { product, paymentToken }));
          await sleep(between(random, 0, 20));
        }
        const told = await withEndsAsTold(records, placed);
        const sold = told.filter((record) => isCheckout(record) && record.end === 'completed').length;
        expect(sold).toBeGreaterThan(0);
        expect(sold).toBeLessThan(placed.length);
        await expectTruth(stage, told);
        expect(await charges(ledger, product)).toEqual(Array.from({ length: sold }, () => 1_000));
        expect(await stockOf(ledger, product)).toBe(stock - sold);
      }),
    orderTestTimeoutMs,
  );

  it(
    'answers that nobody can read park an order with the reason, others are paid, and at its end its hold is closed',
    () =>
      onOrderStage('poison', async (stage) => {
        const { ledger, product, random, records } = stage;
        const shop = await stage.start({ HOLD_TTL_S: '10' });
        const plan = { tok_broken_answer: 'failed', tok_success: 'completed', tok_fail: 'failed' } as const;
        const placed = await placeAll(shop.address, records, { product, plan, each: 4, random });
        await expectEnds(placed, plan, ['tok_success']);
        for (const order of placed.get('tok_fail') ?? [])
          expect(await endOf(order)).toMatchObject({ status: 'failed' });
        await eventually(async () => (await countsOf(stage)).parked_orders === 4);
        const reasons = await ledger.query('SELECT DISTINCT parked_reason FROM order_states WHERE ended_at IS NULL');
        expect(reasons).toEqual([{ parked_reason: 'The gateway answered with something that cannot be read' }]);
        expect(await stockOf(ledger, product)).toBe(stock - 8);

        await untilHoldsAreOver(ledger);
        // As if they had been parked for as long as one is left alone.
        await ledger.query(
          `UPDATE order_states SET parked_at = parked_at - interval '1 minute' WHERE ended_at IS NULL`,
        );
        await expectEnds(placed, plan, ['tok_broken_answer']);
        await expectTruth(stage, records);
        expect(await stockOf(ledger, product)).toBe(stock - 4);
      }),
    orderTestTimeoutMs,
  );
});

function isCheckout(record: ClientRecord): boolean {
  return record.what === 'checkout' && record.outcome === 'ok';
}
