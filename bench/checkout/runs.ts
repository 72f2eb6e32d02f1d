import asStarted from '../../bin/node-options-of-start.json' with { type: 'json' };
import type { Database } from '../../src/platform/db.ts';
import { type Child, startChild } from './child.ts';
import { type CpuTimes, cpuTimes } from './cpu.ts';
import type { DirectAnswer, DirectSetup, LoadAnswer, LoadQuestion, ServerSetup } from './messages.ts';
import { awaitEnds, fillBaskets, type Outcome, readClock, readOutcome, type Shelf } from './shop.ts';

export type Bench = Readonly<{
  database: Database;
  databaseUrl: string;
  /** The process id of the database server. */
  postmaster: number;
  isQuick: boolean;
  /** Of the process that is measured. */
  nodeOptions: readonly string[];
  /** Takes every raw figure. */
  record: (raw: Record<string, unknown>) => void;
}>;

/** A shop that answers on a port, and a crowd. */
export type Shop = Readonly<{ server: Child; load: Child; port: number; journals: boolean }>;

export type Visit = Readonly<{
  name: string;
  shelf: Shelf;
  orders: number;
  connections: number;
  perSecond?: number;
  isJourney?: boolean;
  /** Of baskets that are filled already. */
  tokens?: readonly string[];
}>;

/** `completed` and `accepted` in orders a second. */
export type Rates = Readonly<{
  completed: number;
  accepted: number;
  latencyMs: LoadAnswer['latencyMs'];
  isClean: boolean;
}>;

/** The first thousands of orders find everything cold: code that is not compiled yet, connections to be opened. */
const warmUpOrders = 20_000;

const asConfigured = { journals: true, fanOut: 'postgres', role: 'all' } as const;

/** Runs `work` with a shop that is warm; what `setup` does not say is as with nothing configured. */
export async function withShop<T>(
  bench: Bench,
  setup: Partial<Omit<ServerSetup, 'databaseUrl'>>,
  shelf: Shelf,
  work: (shop: Shop) => Promise<T>,
): Promise<T> {
  const server = await startChild('checkout-server.ts', [...asStarted, ...bench.nodeOptions]);
  const load = await startChild('checkout-load.ts', ['--max-semi-space-size=64']);
  try {
    const full: ServerSetup = { databaseUrl: bench.databaseUrl, ...asConfigured, ...setup };
    const { port } = await server.ask<{ port: number }>(full);
    const shop = { server, load, port, journals: full.journals };
    await visit(bench, shop, { name: 'warm-up', shelf, orders: scaled(bench, warmUpOrders), connections: 200 });
    return await work(shop);
  } finally {
    await load.close();
    await server.close();
  }
}

/** Sends a crowd to the shop and waits until all of its orders have ended. */
export async function visit(bench: Bench, shop: Shop, about: Visit): Promise<Rates> {
  const { database } = bench;
  const { name, shelf, orders, connections, perSecond = null, isJourney = false } = about;
  const tokens = about.tokens ?? (isJourney ? Array(orders).fill('') : await fillBaskets(database, shelf, orders));
  const journeyProductId = isJourney ? (shelf.productIds[0] ?? null) : null;
  const began = await readClock(database);
  const before = cpuTimes(shop.server.pid, bench.postmaster);
  const question: LoadQuestion = { port: shop.port, connections, perSecond, journeyProductId, tokens };
  const load = await shop.load.ask<LoadAnswer>(question);
  await awaitEnds(database);
  const after = cpuTimes(shop.server.pid, bench.postmaster);
  const cpu = cpuPerOrder(before, after, orders, load.cpuSeconds);
  const outcome = await readOutcome(database, began);
  checkJournal(shop, outcome);
  const accepted = load.answersByStatus['202'] ?? 0;
  const rates = {
    completed: outcome.completed / (isJourney ? Math.max(load.seconds, outcome.seconds) : outcome.seconds),
    accepted: accepted / load.seconds,
    latencyMs: load.latencyMs,
    isClean: accepted === orders && outcome.completed === orders,
  };
  bench.record({
    name,
    products: shelf.productIds.length,
    orders,
    connections,
    perSecond,
    ...rates,
    load,
    outcome,
    cpu,
  });
  return rates;
}

/** Runs `work` with a process beside `shop` that serves the same database and does no worker's work. */
export async function withNeighbour<T>(
  bench: Bench,
  work: (neighbour: Pick<Shop, 'server' | 'port'>) => Promise<T>,
): Promise<T> {
  const server = await startChild('checkout-server.ts', [...asStarted, ...bench.nodeOptions]);
  try {
    const full: ServerSetup = { databaseUrl: bench.databaseUrl, ...asConfigured, role: 'web' };
    const { port } = await server.ask<{ port: number }>(full);
    return await work({ server, port });
  } finally {
    await server.close();
  }
}

/** Runs `work` with checkouts that are called directly, in a process of their own. */
export async function withDirect<T>(
  bench: Bench,
  setup: Omit<DirectSetup, 'databaseUrl'>,
  work: (direct: Child) => Promise<T>,
): Promise<T> {
  const direct = await startChild('checkout-direct.ts', [...asStarted, ...bench.nodeOptions]);
  try {
    await direct.ask({ databaseUrl: bench.databaseUrl, ...setup });
    return await work(direct);
  } finally {
    await direct.close();
  }
}

/** Calls so many checkouts directly; the rates of those that are only accepted count to their last answer. */
export async function callDirectly(
  bench: Bench,
  direct: Child,
  about: Readonly<{ name: string; shelf: Shelf; orders: number; callers: number; works: boolean }>,
): Promise<Rates> {
  const { name, shelf, orders, callers, works } = about;
  const tokens = await fillBaskets(bench.database, shelf, orders);
  const began = await readClock(bench.database);
  const before = cpuTimes(direct.pid, bench.postmaster);
  const answer = await direct.ask<DirectAnswer>({ tokens, callers });
  if (works) await awaitEnds(bench.database);
  const cpu = cpuPerOrder(before, cpuTimes(direct.pid, bench.postmaster), orders, 0);
  const outcome = works ? await readOutcome(bench.database, began) : null;
  const rates = {
    completed: outcome ? outcome.completed / outcome.seconds : 0,
    accepted: answer.accepted / answer.seconds,
    latencyMs: answer.latencyMs,
    isClean: answer.accepted === orders,
  };
  bench.record({ name, products: shelf.productIds.length, orders, callers, ...rates, answer, outcome, cpu });
  return rates;
}

/** A number of orders for a run; a quick one has a fifth. */
export function scaled({ isQuick }: Bench, orders: number): number {
  return isQuick ? orders / 5 : orders;
}

/** The machine is noisy: one run proves little. A quick benchmark makes one all the same. */
export async function repeated<T>({ isQuick }: Bench, times: number, run: () => Promise<T>): Promise<T[]> {
  const results: T[] = [];
  for (let done = 0; done < (isQuick ? 1 : times); done++) results.push(await run());
  return results;
}

/** A figure that was got without the gateway's book would be worth nothing. */
function checkJournal({ journals }: Shop, { completed, unrecorded }: Outcome): void {
  if (journals && unrecorded > 0)
    throw new Error(`Not measured: the simulated gateway has no record of ${unrecorded} of ${completed} captures`);
}

/** Microseconds of processor time for each order: where it goes is what limits the rate. */
function cpuPerOrder(before: CpuTimes, after: CpuTimes, orders: number, loadSeconds: number): object | null {
  if (!before || !after) return null;
  const each = (seconds: number): number => Math.round((seconds * 1e6) / orders);
  const node = after.node - before.node;
  const postgres = after.postgres - before.postgres;
  const machine = after.machine - before.machine;
  return {
    nodeUs: each(node),
    postgresUs: each(postgres),
    loadUs: each(loadSeconds),
    othersUs: each(machine - node - postgres - loadSeconds),
  };
}
