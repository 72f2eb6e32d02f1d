import { expect } from 'vitest';
import { migrate } from '../../src/platform/migrate.ts';
import { startShopping } from './busy-shoppers.ts';
import { type ClientRecord, expectAgreement, recorded } from './client-records.ts';
import { eventually } from './eventually.ts';
import { expectNothingLeftOver } from './invariants.ts';
import { allEnded, type Ledger, openLedger } from './ledger.ts';
import { createTestDatabase, type TestDatabase } from './postgres.ts';
import { openPrivatePostgres, type PrivatePostgres } from './private-postgres.ts';
import { RemoteShopper, type ShopProcess, startProcess } from './process.ts';
import { type Random, randomOf } from './seed.ts';
import { addProduct } from './shop.ts';
import { openTcpProxy, type TcpProxy } from './tcp-proxy.ts';

/** An answer that waits for nothing, on a busy machine. */
export const promptMs = 2_000;
/** After a fault has ended; the promise is 5 s. */
const backAfterMs = 20_000;
/** A lease that was lost in the outage ends after 10 s, and a payment has a deadline of its own. */
const allEndedMs = 120_000;
/** Of a test, most of whose time is for a busy machine. */
export const faultTimeoutMs = 360_000;
const quotedErrors = 5_000;

/** Where a fault test plays: a shop in processes of its own, on a database of its own. */
export type FaultStage = Readonly<{
  /** Of the database, past every fault but its own. */
  url: string;
  ledger: Ledger;
  /** Starts a part of the shop, on the way to the database that `url` names. */
  start(role: 'all' | 'web' | 'worker', url?: string): Promise<ShopProcess>;
}>;

/** Gives `play` a database, and ends whatever was started on it. */
export async function onFaultStage(play: (stage: FaultStage) => Promise<void>): Promise<void> {
  await on(await createTestDatabase(), play);
}

/** On a server of its own, which can be taken away. */
export async function onOwnServer(play: (stage: FaultStage, server: PrivatePostgres) => Promise<void>): Promise<void> {
  const server = await openPrivatePostgres();
  await on({ url: server.url, drop: () => server.close() }, async (stage) => {
    await migrate(stage.url);
    await play(stage, server);
  });
}

/** With a way to the database that can be blocked. */
export async function behindProxy(play: (stage: FaultStage, proxy: TcpProxy) => Promise<void>): Promise<void> {
  const database = await createTestDatabase();
  const proxy = await openTcpProxy(database.url);
  await on(database, (stage) => play(stage, proxy)).finally(() => proxy.close());
}

async function on(database: TestDatabase, play: (stage: FaultStage) => Promise<void>): Promise<void> {
  const ledger = openLedger(database.url);
  const processes: ShopProcess[] = [];
  const start: FaultStage['start'] = async (role, url = database.url) => {
    const started = await startProcess(url, { ROLE: role });
    processes.push(started);
    return started;
  };
  try {
    await play({ url: database.url, ledger, start });
  } catch (error) {
    for (const { pid, errors } of processes) process.stderr.write(`${pid}: ${errors().slice(-quotedErrors)}\n`);
    throw error;
  } finally {
    await Promise.all(processes.map((each) => each.end('SIGKILL')));
    await ledger.close();
    await database.drop();
  }
}

/** A crowd that buys, and goes on buying whatever fails. */
export type Sale = Readonly<{
  random: Random;
  /** Where it is put down what each was told. */
  records: ClientRecord[];
  /** Of which there is more than a crowd buys. */
  products: readonly string[];
  /** Lets them finish what they have begun and go. */
  close(): Promise<void>;
}>;

/** Lets a crowd of `count` buy at `shops`, by chance as the seed and `name` say. */
export async function openSale(
  stage: FaultStage,
  name: string,
  shops: readonly ShopProcess[],
  count = 24,
): Promise<Sale> {
  const random = randomOf(name);
  const records: ClientRecord[] = [];
  const products = await Promise.all([1, 2, 3].map(() => addProduct(stage.ledger, { stock: 1_000_000 })));
  return { random, records, products, close: startShopping({ shops, products, count, random, records }) };
}

/** What a client may be told while something fails: done, not done, not known. */
const honest = [201, 202, 402, 409, 500, 503, 504];

/** Expects the clients to have been told nothing but the truth, and all that was begun to have ended. */
export async function expectTruth(stage: FaultStage, records: readonly ClientRecord[]): Promise<void> {
  expect(records.filter((record) => !honest.includes(record.status))).toEqual([]);
  await allEnded(stage.ledger, allEndedMs);
  await expectAgreement(stage.ledger, records);
  await expectNothingLeftOver(stage.url);
}

export type Probe = Readonly<{ status: number; retryAfter: string | null; tookMs: number }>;

/** Asks for a page. */
export async function probe(shop: ShopProcess, path: string): Promise<Probe> {
  const startMs = performance.now();
  const response = await fetch(shop.address + path);
  await response.arrayBuffer();
  const { status, headers } = response;
  return { status, retryAfter: headers.get('retry-after'), tookMs: performance.now() - startMs };
}

/** Until a shopper is served again: from an empty basket to an order that was paid. */
export async function untilServed(shop: ShopProcess, product: string, records: ClientRecord[]): Promise<void> {
  const buys = async (): Promise<boolean> => {
    const shopper = new RemoteShopper(shop.address);
    const about = { end: 'completed', token: () => shopper.token } as const;
    const put = await recorded(records, { ...about, what: 'put' }, () => shopper.put(product, 1));
    if (put.outcome !== 'ok') return false;
    const checkout = () => shopper.checkout('v1');
    return (await recorded(records, { ...about, what: 'checkout' }, checkout)).status === 201;
  };
  await eventually(buys, backAfterMs);
}

/** Until clients have been served so many times more. */
export async function untilMore(records: readonly ClientRecord[], times: number): Promise<void> {
  const served = (): number => records.filter((record) => record.outcome === 'ok').length;
  const enough = served() + times;
  await eventually(() => served() >= enough);
}
