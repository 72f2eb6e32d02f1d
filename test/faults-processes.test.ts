import { setTimeout as sleep } from 'node:timers/promises';
import type { Client } from 'pg';
import { describe, expect, it } from 'vitest';
import { startShopping } from './support/busy-shoppers.ts';
import { type ClientRecord, recorded } from './support/client-records.ts';
import { eventually } from './support/eventually.ts';
import { charges, type Ledger, stockOf } from './support/ledger.ts';
import { everything, journalOf, openOrdersOf, wholeJournal } from './support/order-facts.ts';
import { onServer } from './support/postgres.ts';
import { RemoteShopper, type ShopProcess } from './support/process.ts';
import {
  allEndedMs,
  endOf,
  expectTruth,
  type OrderStage,
  onOrderStage,
  orderTestTimeoutMs,
  type PlacedOrder,
  placeOrder,
  stock,
  withEndsAsTold,
} from './support/recorded-orders.ts';
import { between, type Random, randomOf, seed } from './support/seed.ts';
import { addProduct } from './support/shop.ts';
import { onStage, type Stage } from './support/stage.ts';

/** The promise is 15 s: a lease is lost 10 s after it was last renewed. The rest is for a busy machine. */
const takeOverMs = 30_000;
/** The promise is 2 s: 1 s for the database to end the transaction; the rest is for a busy machine. */
const othersWaitMs = 10_000;

/** Orders that come one after the other, `gapMs` apart at most, for so long as `isOpen`. */
async function placeOneByOne(
  address: string,
  records: ClientRecord[],
  wish: Readonly<{ product: string; count: number; gapMs: number; random: Random }>,
): Promise<PlacedOrder[]> {
  const placed: PlacedOrder[] = [];
  for (let count = 0; count < wish.count; count++) {
    const [order] = await Promise.all([
      placeOrder(address, records, { product: wish.product }),
      sleep(between(wish.random, 0, wish.gapMs)),
    ]);
    placed.push(order);
  }
  return placed;
}

/** How many calls to the gateway have taken effect for each of the orders. */
async function callsFor(ledger: Ledger, orderIds: readonly string[]): Promise<number[]> {
  return (await Promise.all(orderIds.map((id) => journalOf(ledger, id)))).map((calls) => calls.length);
}

/** Kills a worker, and expects all that it had in hand to be taken over in time. Returns what that was. */
async function killAndWait({ ledger }: Stage, worker: ShopProcess, before: () => void): Promise<string[]> {
  await worker.end('SIGKILL');
  const killedAtMs = performance.now();
  before();
  const inHand = await openOrdersOf(ledger, worker);
  await eventually(async () => (await openOrdersOf(ledger, worker)).length === 0, allEndedMs);
  expect(performance.now() - killedAtMs).toBeLessThan(takeOverMs);
  return inHand;
}

describe.concurrent(`a worker fails (FAULT_SEED=${seed})`, () => {
  it(
    'killed before and after calls to the gateway, and its heir killed, too, it leaves orders that are charged once each',
    () =>
      onOrderStage('kill', async (stage) => {
        const { ledger, product, random, records } = stage;
        const slow = { ROLE: 'worker', SIMULATED_GATEWAY_LATENCY_MS: '2000' };
        const [web, first, second] = await Promise.all([
          stage.start({ ROLE: 'web' }),
          stage.start(slow),
          stage.start(slow),
        ]);
        // It is to inherit, not to share.
        second.signal('SIGSTOP');
        const placed = await placeOneByOne(web.address, records, { product, count: 24, gapMs: 300, random });
        const left = await killAndWait(stage, first, () => second.signal('SIGCONT'));
        const calls = await callsFor(ledger, left);
        process.stderr.write(`Killed with so many calls made for its orders: ${calls}\n`);
        expect(new Set(calls).size).toBeGreaterThan(1);

        const third = await stage.start({ ROLE: 'worker' });
        await sleep(between(random, 0, 1_000));
        await killAndWait(stage, second, () => undefined);
        await expectTruth(stage, records);
        expect(await charges(ledger, product)).toEqual(placed.map(() => 1_000));
        expect(await third.end('SIGTERM')).toBe(0);
      }),
    orderTestTimeoutMs,
  );

  it(
    'stopped for longer than its lease and its orders’ holds, it changes nothing when it comes back, not at the gateway either',
    () =>
      onOrderStage('zombie', async (stage) => {
        const { ledger, product, records } = stage;
        const { zombie, placed } = await stopMidway(stage);
        await stage.start({ ROLE: 'worker' });
        const told = await withEndsAsTold(records, placed);
        expect(new Set(ends(told))).toEqual(new Set(['completed', 'failed']));
        await expectTruth(stage, told);
        const before = [await everything(ledger), await wholeJournal(ledger)];

        const [now] = await ledger.query<{ at: Date }>('SELECT clock_timestamp() AS at');
        zombie.signal('SIGCONT');
        // Half-way through a payment it would capture next; requests that it had sent arrive only now.
        await eventually(() => /The lease was lost before a call|The gateway did not answer/.test(zombie.errors()));
        await eventually(() => hasCalledGatewaySince(ledger, now?.at.toISOString() ?? ''));
        expect(await zombie.end('SIGTERM')).toBe(0);
        expect([await everything(ledger), await wholeJournal(ledger)]).toEqual(before);
        expect(await stockOf(ledger, product)).toBe(stock - ends(told).filter((end) => end === 'completed').length);
      }),
    orderTestTimeoutMs,
  );

  it(
    'back while its heir closes payments whose holds are over: of capture and void exactly one wins, and the books agree',
    () =>
      onOrderStage('race', async (stage) => {
        const { ledger, product, random, records } = stage;
        const { zombie, placed } = await stopMidway(stage);
        const heir = await stage.start({ ROLE: 'worker', SIMULATED_GATEWAY_LATENCY_MS: '2000' });
        await eventually(async () => (await openOrdersOf(ledger, heir)).length > 0, allEndedMs);
        // The heir's requests arrive after 1 s.
        await sleep(between(random, 850, 1_050));
        zombie.signal('SIGCONT');
        const told = await withEndsAsTold(records, placed);
        const sold = ends(told).filter((end) => end === 'completed').length;
        process.stderr.write(`Sold in the race: ${sold} of ${placed.length}\n`);
        await expectTruth(stage, told);
        expect(await charges(ledger, product)).toHaveLength(sold);
        expect(await stockOf(ledger, product)).toBe(stock - sold);
      }),
    orderTestTimeoutMs,
  );

  it(
    'crashed by one order again and again, it gets that order alone, then never again; the others end',
    () =>
      onOrderStage('crash', async (stage) => {
        const { ledger, product, random, records } = stage;
        const web = await stage.start({ ROLE: 'web' });
        const endless = { product, paymentToken: 'tok_authorize_unreachable', end: 'failed' } as const;
        const poison = await placeOrder(web.address, records, endless);
        // In hand for longer than the poison leaves a worker, it shares its fate at first.
        const slow = await placeOrder(web.address, records, { product, paymentToken: 'tok_slow' });
        let kills = 0;
        for (;;) {
          const quick = await placeOneByOne(web.address, records, { product, count: 2, gapMs: 50, random });
          const worker = await stage.start({ ROLE: 'worker' });
          const seen = await eventually(() => standingOf(ledger, poison.orderId, worker));
          if (seen === 'parked') break;
          await expectAloneIfSuspect(ledger, poison.orderId, worker);
          for (const order of quick) expect(await endOf(order)).toMatchObject({ status: 'completed' });
          await worker.end('SIGKILL');
          kills++;
          // As if another one had crashed on each, twice on the way: every start of a process takes its time.
          await ledger.query('UPDATE order_states SET takeovers = takeovers + 1 WHERE takeovers IN (1, 4)');
          // As if its lease had run out.
          await ledger.query('UPDATE workers SET leased_until = clock_timestamp() WHERE pid = $1', [worker.pid]);
        }
        expect(kills).toBe(5);
        const [parked] = await ledger.query('SELECT parked_reason FROM order_states WHERE order_id = $1', [
          poison.orderId,
        ]);
        expect(parked).toEqual({ parked_reason: 'Taken over 6 times from workers that had crashed' });
        expect(await endOf(slow)).toMatchObject({ status: 'completed' });
        expect(await stockOf(ledger, product)).toBe(stock - ends(records).length);

        // As if its hold were over, and it had been left alone for as long as one is.
        await ledger.query(
          `UPDATE order_states SET hold_until = clock_timestamp(), parked_at = parked_at - interval '1 minute'
            WHERE ended_at IS NULL`,
        );
        expect(await endOf(poison)).toMatchObject({ status: 'failed', error: { code: 'hold_expired' } });
        await expectTruth(stage, records);
      }),
    orderTestTimeoutMs,
  );
});

/** How an order stands: parked, or this worker's; null: neither yet. */
async function standingOf(ledger: Ledger, orderId: string, worker: ShopProcess): Promise<'parked' | 'owned' | null> {
  const parked = await ledger.query('SELECT FROM order_states WHERE order_id = $1 AND parked_at IS NOT NULL', [
    orderId,
  ]);
  if (parked.length > 0) return 'parked';
  return (await openOrdersOf(ledger, worker)).includes(orderId) ? 'owned' : null;
}

/** Expects a worker to have no second order that workers have crashed on, if it has this one for that reason. */
async function expectAloneIfSuspect(ledger: Ledger, orderId: string, worker: ShopProcess): Promise<void> {
  const inHand = await ledger.query<{ order_id: string; takeovers: number }>(
    'SELECT order_id, takeovers FROM order_states WHERE order_id = ANY ($1::uuid[])',
    [await openOrdersOf(ledger, worker)],
  );
  // One becomes suspect by its third takeover, and was not yet when it was claimed for that.
  const suspects = inHand.filter((order) => order.takeovers > 3).map((order) => order.order_id);
  expect(suspects).toEqual(suspects.length > 0 ? [orderId] : []);
}

type Midway = Readonly<{ zombie: ShopProcess; placed: readonly PlacedOrder[] }>;

/** Stops a worker while the payments of its orders are at every stage; by the end of its lease, all holds are over. */
async function stopMidway(stage: OrderStage): Promise<Midway> {
  const { product, random, records } = stage;
  const [web, zombie] = await Promise.all([
    stage.start({ ROLE: 'web', HOLD_TTL_S: '6' }),
    stage.start({ ROLE: 'worker', SIMULATED_GATEWAY_LATENCY_MS: '4000' }),
  ]);
  // A payment takes 8 s; its calls take effect after 2 s and 6 s.
  const placed = await placeOneByOne(web.address, records, { product, count: 26, gapMs: 500, random });
  const [first] = placed;
  await eventually(async () => (await journalOf(stage.ledger, first?.orderId ?? '')).includes('capture'));
  zombie.signal('SIGSTOP');
  const open = await openOrdersOf(stage.ledger, zombie);
  expect(new Set(await callsFor(stage.ledger, open)).size).toBeGreaterThan(1);
  return { zombie, placed };
}

/** Since then, by the database's clock. */
async function hasCalledGatewaySince(ledger: Ledger, at: string): Promise<boolean> {
  const calls = await ledger.query(
    `SELECT FROM pg_stat_activity
      WHERE datname = current_database() AND application_name = 'scalecommerce simulated gateway'
        AND state = 'idle' AND query_start > $1::timestamptz`,
    [at],
  );
  return calls.length > 0;
}

function ends(records: readonly ClientRecord[]): Array<ClientRecord['end']> {
  return records.filter((record) => record.what === 'checkout').map((record) => record.end);
}

describe.concurrent(`a process fails (FAULT_SEED=${seed})`, () => {
  it(
    'stopped between lock and COMMIT, it keeps nobody from buying',
    () =>
      onOrderStage('stalled', async (stage) => {
        const { product, records } = stage;
        const [stalled, other] = await Promise.all([stage.start({ ROLE: 'web' }), stage.start({ ROLE: 'all' })]);
        const { answer } = await stopInTransaction(stage, stalled, product, records);
        const stoppedAtMs = performance.now();
        for (let count = 0; count < 3; count++)
          expect(await endOf(await placeOrder(other.address, records, { product }))).toMatchObject({
            status: 'completed',
          });
        expect(performance.now() - stoppedAtMs).toBeLessThan(othersWaitMs);
        stalled.signal('SIGCONT');
        expect([202, 503]).toContain((await answer).status);
        await placeOrder(stalled.address, records, { product });
        await expectTruth(stage, records);
      }),
    orderTestTimeoutMs,
  );

  it(
    'ends with a last word and status 1 on a rejection that nobody listens to; the next one ends what it had in hand',
    () =>
      onOrderStage('unheard', async (stage) => {
        const { ledger, product, random, records } = stage;
        const first = await stage.start({
          NODE_OPTIONS: `--import=${new URL('support/reject-on-signal.ts', import.meta.url)}`,
          SIMULATED_GATEWAY_LATENCY_MS: '2000',
        });
        const placed = await placeOneByOne(first.address, records, { product, count: 10, gapMs: 300, random });
        expect(await first.end('SIGUSR2')).toBe(1);
        const lines = first.errors().trim().split('\n');
        expect(JSON.parse(lines.at(-1) ?? '')).toMatchObject({
          level: 60,
          msg: 'Ended by an error that nobody caught: Nobody listens to this',
        });
        const second = await stage.start();
        for (const order of placed) expect(await endOf(order, second.address)).toMatchObject({ status: 'completed' });
        await expectTruth(stage, records);
        expect(await charges(ledger, product)).toHaveLength(placed.length);
      }),
    orderTestTimeoutMs,
  );

  it(
    'serves with a heap of 64 MB',
    () =>
      onStage(async (stage) => {
        const products = await Promise.all([1, 2, 3].map(() => addProduct(stage.ledger, { stock: 1_000_000 })));
        const shop = await stage.start({ NODE_OPTIONS: '--max-old-space-size=64' });
        const records: ClientRecord[] = [];
        const random = randomOf('heap');
        const stopShopping = startShopping({ shops: [shop], products, count: 16, random, records });
        await eventually(() => ends(records).length >= 250, allEndedMs);
        await stopShopping();
        expect(records.filter((record) => ![201, 202, 402].includes(record.status))).toEqual([]);
        await expectTruth(stage, records);
        expect(await shop.end('SIGTERM')).toBe(0);
      }),
    orderTestTimeoutMs,
  );
});

type Stopped = Readonly<{ answer: Promise<ClientRecord> }>;

/** Stops a process that has locked the stock of `product` for a checkout, whose answer is still to come. */
async function stopInTransaction(
  stage: Stage,
  shop: ShopProcess,
  product: string,
  records: ClientRecord[],
): Promise<Stopped> {
  for (;;) {
    const buyer = new RemoteShopper(shop.address);
    const about = { end: 'completed', token: () => buyer.token } as const;
    await recorded(records, { ...about, what: 'put' }, () => buyer.put(product, 1));
    const stopped = await onServer(stage.url, async (holder) => {
      await holder.query('BEGIN');
      await holder.query('SELECT FROM stock WHERE product_id = $1 FOR NO KEY UPDATE', [product]);
      const answer = recorded(records, { ...about, what: 'checkout' }, () => buyer.checkout('v2'));
      const pid = await eventually(() => waiterFor(holder));
      shop.signal('SIGSTOP');
      await holder.query('ROLLBACK');
      return { answer, isInTransaction: await eventually(() => isInTransaction(stage.ledger, pid)) };
    });
    if (stopped.isInTransaction === 'yes') return stopped;
    // On a busy machine it may have given up waiting just before: then the next one.
    shop.signal('SIGCONT');
    await stopped.answer;
  }
}

/** The backend that waits for a lock, once there is one. */
async function waiterFor(holder: Client): Promise<number | undefined> {
  const { rows } = await holder.query<{ pid: number }>(
    `SELECT pid FROM pg_stat_activity
      WHERE datname = current_database() AND application_name = 'scalecommerce batches' AND wait_event_type = 'Lock'`,
  );
  return rows[0]?.pid;
}

/** Whether a backend that waited for a lock has it, and waits for its process now. */
async function isInTransaction(ledger: Ledger, pid: number): Promise<'yes' | 'no' | null> {
  const [row] = await ledger.query<{ state: string }>('SELECT state FROM pg_stat_activity WHERE pid = $1', [pid]);
  if (row?.state === 'active') return null;
  return row?.state === 'idle in transaction' ? 'yes' : 'no';
}
