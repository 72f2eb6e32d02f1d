import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import type { ClientRecord } from './support/client-records.ts';
import { eventually } from './support/eventually.ts';
import { expectMostly } from './support/expect-mostly.ts';
import {
  behindProxy,
  expectTruth,
  type FaultStage,
  faultTimeoutMs,
  onFaultStage,
  openSale,
  type Probe,
  probe,
  promptMs,
  untilMore,
  untilServed,
} from './support/fault-stage.ts';
import { onServer } from './support/postgres.ts';
import type { ShopProcess } from './support/process.ts';
import { between, oneOf, type Random, seed } from './support/seed.ts';
import type { Hole } from './support/tcp-proxy.ts';

/** The readiness probe itself waits for 1 s. */
const probeMs = 3_000;
/** Of a request: 5 s in line for a batch, 3 s for a connection, 7 s for an answer; then a margin. */
const deadlineMs = 35_000;
/** A checkout of V1, once accepted, waits 25 s more for its outcome, and tells it so. */
const deadlineWithOutcomeMs = deadlineMs + 25_000;
const outcomes = [201, 402, 504];
/** Of a read on a connection that exists: 7 s for its answer; then a margin. */
const readMs = 25_000;
/** So long that even a busy machine has given up those 7 s by then. */
const swallowedMs = 12_000;
const catalogue = '/api/v2/products';
const heldMs = 6_000;
/** 3 s for a connection, 1 s for the lock; then a margin. */
const boundedWaitMs = 15_000;
/** Ten times as many as the pool has places, and more. */
const readers = 300;

describe(`connections to the database (FAULT_SEED=${seed})`, () => {
  it(
    'that the network swallows, all or some, are given up in time, and the shop is back when the network is',
    () =>
      behindProxy(async (stage, proxy) => {
        const shop = await stage.start('all', proxy.url);
        const sale = await openSale(stage, 'swallowed', [shop]);
        const { random, records, products } = sale;
        for (const { hole, forMs, ready, page } of holesOf(random)) {
          await untilMore(records, between(random, 50, 200));
          expect((await probe(shop, catalogue)).status).toBe(200);
          proxy.swallow(hole);
          const reading = probe(shop, catalogue);
          const probes: Probes[] = [];
          for (const endMs = performance.now() + forMs; performance.now() < endMs; ) {
            probes.push(await expectProbes(shop, ready));
            await sleep(between(random, 50, 400));
          }
          proxy.heal();
          expectPrompt(probes);
          const read = await reading;
          expect(page).toContain(read.status);
          expect(read.tookMs).toBeLessThan(readMs);
          await untilServed(shop, oneOf(random, products), records);
        }
        await untilMore(records, 100);
        await sale.close();
        expect((await probe(shop, '/ready')).status).toBe(200);
        expectDeadlines(records);
        await expectTruth(stage, records);
      }),
    faultTimeoutMs,
  );

  it(
    'that all wait for a lock keep ten times as many clients waiting for a bounded time, then for none',
    () =>
      onFaultStage(async (stage) => {
        const shop = await stage.start('all');
        const sale = await openSale(stage, 'exhausted', [shop], 50);
        const { random, records, products } = sale;
        const paths = products.map((id) => `/api/v2/products/${id}`);
        await untilMore(records, between(random, 50, 200));
        const answers = await whileLocked(stage, async (isLocked) => {
          const reading = Array.from({ length: readers }, () => readWhile(isLocked, shop, () => oneOf(random, paths)));
          await eventually(async () => (await probe(shop, '/ready')).status === 503);
          const probes: Probes[] = [];
          while (isLocked()) {
            probes.push(await expectProbes(shop, [503]));
            await sleep(between(random, 50, 200));
          }
          expectPrompt(probes);
          return async () => (await Promise.all(reading)).flat();
        });
        await sale.close();
        expect(answers.filter(({ status }) => status !== 200 && status !== 503)).toEqual([]);
        const refused = answers.filter(({ status }) => status === 503);
        expect(refused.length).toBeGreaterThan(readers / 2);
        expect(refused.filter(({ retryAfter }) => retryAfter !== '1')).toEqual([]);
        expect(Math.max(...answers.map(({ tookMs }) => tookMs))).toBeLessThan(boundedWaitMs);
        // Nobody stands in line any more: whoever comes now is served.
        const after = await Promise.all(paths.map((path) => probe(shop, path)));
        expect(after.map(({ status }) => status)).toEqual(after.map(() => 200));
        expect(Math.min(...after.map(({ tookMs }) => tookMs))).toBeLessThan(promptMs);
        expect((await probe(shop, '/ready')).status).toBe(200);
        await untilServed(shop, oneOf(random, products), records);
        await expectTruth(stage, records);
      }),
    faultTimeoutMs,
  );
});

/** `ready` is what the readiness probe may say meanwhile, `page` the answer to a request at its start. */
type Swallowing = Readonly<{ hole: Hole; forMs: number; ready: readonly number[]; page: readonly number[] }>;

/** All of it, longer than an answer is waited for; then one direction of some connections, old and new. */
function holesOf(random: Random): Swallowing[] {
  const share = between(random, 30, 70) / 100;
  const directions = [oneOf(random, ['toServer', 'toClient'] as const)];
  const isSwallowed = new Map<number, boolean>();
  const swallows = (connection: number): boolean => {
    const verdict = isSwallowed.get(connection) ?? random() < share;
    isSwallowed.set(connection, verdict);
    return verdict;
  };
  return [
    { hole: {}, forMs: between(random, swallowedMs, swallowedMs + 1_000), ready: [503], page: [503] },
    { hole: { directions, swallows }, forMs: between(random, 3_000, 6_000), ready: [200, 503], page: [200, 503] },
  ];
}

type Probes = Readonly<{ up: Probe; ready: Probe }>;

async function expectProbes(shop: ShopProcess, expectedReady: readonly number[]): Promise<Probes> {
  const [up, ready] = await Promise.all([probe(shop, '/up'), probe(shop, '/ready')]);
  expect(up.status).toBe(200);
  expect(expectedReady).toContain(ready.status);
  return { up, ready };
}

function expectPrompt(probes: readonly Probes[]): void {
  expectMostly(
    probes.map(({ up }) => up.tookMs),
    promptMs,
  );
  expectMostly(
    probes.map(({ ready }) => ready.tookMs),
    probeMs,
  );
}

function expectDeadlines(records: readonly ClientRecord[]): void {
  const longest = (of: readonly ClientRecord[]): number => Math.max(...of.map((record) => record.tookMs));
  const told = (record: ClientRecord): boolean => record.what === 'checkout' && outcomes.includes(record.status);
  expect(longest(records.filter((record) => !told(record)))).toBeLessThan(deadlineMs);
  expect(longest(records)).toBeLessThan(deadlineWithOutcomeMs);
}

/** Holds all that is for sale while `work` is done, then lets go of it and does what that returns. */
async function whileLocked<T>(
  stage: FaultStage,
  work: (isLocked: () => boolean) => Promise<() => Promise<T>>,
): Promise<T> {
  const endMs = performance.now() + heldMs;
  const finish = await onServer(stage.url, async (holder) => {
    await holder.query('BEGIN');
    await holder.query('LOCK TABLE products, stock, baskets IN ACCESS EXCLUSIVE MODE');
    return work(() => performance.now() < endMs);
  });
  return finish();
}

async function readWhile(isWanted: () => boolean, shop: ShopProcess, path: () => string): Promise<Probe[]> {
  const answers: Probe[] = [];
  while (isWanted()) answers.push(await probe(shop, path()));
  return answers;
}
