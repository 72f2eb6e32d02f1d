import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import type { ClientRecord } from './support/client-records.ts';
import { eventually } from './support/eventually.ts';
import { expectMostly } from './support/expect-mostly.ts';
import {
  expectTruth,
  type FaultStage,
  faultTimeoutMs,
  onFaultStage,
  onOwnServer,
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

const awayMs = 10_000;
const terminatingMs = 10_000;
/** Of the log, in one outage. All that polls fails about a hundred times in it. */
const mostLines = 30;
/** Connections for reading. */
const readerPlaces = 8;

describe(`a database that fails (FAULT_SEED=${seed})`, () => {
  it(
    'killed in mid-sale, again and again, loses nothing that a client was told, and the shop goes on by itself',
    () =>
      onOwnServer(async (stage, server) => {
        const shops = await Promise.all([stage.start('web'), stage.start('all')]);
        const sale = await openSale(stage, 'killed', shops);
        const { random, records, products } = sale;
        for (let kills = 0; kills < 3; kills++) {
          await untilMore(records, between(random, 50, 300));
          await sleep(between(random, 0, 300));
          await server.kill();
          await sleep(between(random, 0, 700));
          await server.start();
        }
        for (const shop of shops) await untilServed(shop, oneOf(random, products), records);
        await untilMore(records, 100);
        await sale.close();
        await expectTruth(stage, records);
        expect(await Promise.all(shops.map((shop) => shop.end('SIGTERM')))).toEqual([0, 0]);
      }),
    faultTimeoutMs,
  );

  it(
    'away for 10 s, makes every answer a prompt 503, and the shop is back soon after it, without a restart',
    () =>
      onOwnServer(async (stage, server) => {
        const shop = await stage.start('all');
        const sale = await openSale(stage, 'away', [shop]);
        const { random, records, products } = sale;
        await untilMore(records, between(random, 50, 200));
        await server.stop();
        const [goneAtMs, linesBefore] = [performance.now(), linesOf(shop)];
        const tookMs: number[] = [];
        while (performance.now() < goneAtMs + awayMs) {
          tookMs.push(...(await expectRefusal(shop)));
          await sleep(between(random, 50, 400));
        }
        const backAtMs = performance.now();
        expectMostly(tookMs, promptMs);
        expect(linesOf(shop) - linesBefore).toBeLessThan(mostLines);
        await server.start();
        await untilServed(shop, oneOf(random, products), records);
        expect((await probe(shop, '/ready')).status).toBe(200);
        await untilMore(records, 100);
        await sale.close();
        expectPromptRefusals(records.filter((each) => each.startedAtMs > goneAtMs && each.startedAtMs < backAtMs));
        await expectTruth(stage, records);
      }),
    faultTimeoutMs,
  );

  it(
    'that ends one connection after the other costs the pools none of their places',
    () =>
      onFaultStage(async (stage) => {
        const shop = await stage.start('all');
        const sale = await openSale(stage, 'terminated', [shop]);
        const { random, records, products } = sale;
        await untilMore(records, 50);
        for (const endMs = performance.now() + terminatingMs; performance.now() < endMs; ) {
          await terminateSome(stage, random);
          await sleep(between(random, 5, 150));
        }
        await untilServed(shop, oneOf(random, products), records);
        await untilMore(records, 100);
        await sale.close();
        await expectTruth(stage, records);
        await expectWholePool(stage, shop);
      }),
    faultTimeoutMs,
  );
});

function linesOf(shop: ShopProcess): number {
  return shop.errors().split('\n').length;
}

/** Returns how long each answer took. */
async function expectRefusal(shop: ShopProcess): Promise<number[]> {
  const answers = await Promise.all(['/up', '/ready', '/api/v2/products'].map((path) => probe(shop, path)));
  expect(answers.map((answer) => answer.status)).toEqual([200, 503, 503]);
  expect(answers.at(-1)?.retryAfter).toBe('1');
  return answers.map(({ tookMs }) => tookMs);
}

function expectPromptRefusals(records: readonly ClientRecord[]): void {
  const refused = records.filter((record) => record.status === 503);
  expect(refused.length).toBeGreaterThan(0);
  expectMostly(
    refused.map((record) => record.tookMs),
    promptMs,
  );
}

/** As an operator would, or a failing machine: one to three of the shop's connections, whatever they are at. */
async function terminateSome(stage: FaultStage, random: Random): Promise<void> {
  const rows = await stage.ledger.query<{ pid: number }>(
    `SELECT pid FROM pg_stat_activity
      WHERE datname = current_database() AND application_name LIKE 'scalecommerce %'
        AND application_name NOT LIKE 'scalecommerce test%' ORDER BY pid`,
  );
  const pids = Array.from({ length: between(random, 1, 3) }, () => oneOf(random, rows)?.pid ?? 0);
  await stage.ledger.query('SELECT pg_terminate_backend(pid) FROM unnest($1::integer[]) pid', [pids]);
}

/**
 * Expects as many readers as the pool has places to be let in together, and all to be served. A lock is waited for 1 s: on
 * a busy machine the first may have given up when the last comes, and then they do it again.
 */
async function expectWholePool(stage: FaultStage, shop: ShopProcess): Promise<void> {
  await eventually(async () => (await fillPool(stage, shop)).every(({ status }) => status === 200));
}

/** Sends readers who stand before a lock until the pool is full, and returns what they were answered. */
function fillPool(stage: FaultStage, shop: ShopProcess): Promise<Probe[]> {
  const waiting = `SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
                      AND application_name = 'scalecommerce reads'`;
  return onServer(stage.url, async (holder) => {
    await holder.query('BEGIN');
    await holder.query('LOCK TABLE products IN ACCESS EXCLUSIVE MODE');
    const reading = Array.from({ length: 2 * readerPlaces }, () => probe(shop, '/api/v2/products'));
    await eventually(async () => (await stage.ledger.query(waiting)).length === readerPlaces);
    await holder.query('ROLLBACK');
    return Promise.all(reading);
  });
}
