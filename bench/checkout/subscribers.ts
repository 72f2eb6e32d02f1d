import { readFileSync } from 'node:fs';
import { startChild } from './child.ts';
import { type Figure, median } from './figures.ts';
import { type Arrivals, type Latency, latencyOf, type Memory } from './messages.ts';
import { type Bench, type Rates, repeated, type Shop, scaled, visit, withNeighbour, withShop } from './runs.ts';
import { emptyShop, fillBaskets, fillShelf, readClock, readEventTimes, type Shelf } from './shop.ts';

const subscribers = 10_000;
const crowd = 1_000;
/** Well within what the machine can sell, so that it is the way of the outcomes that is measured. */
const calmPerSecond = 2_000;

type Place = Pick<Shop, 'server' | 'port'>;
type Delivery = Readonly<{ latencyMs: Latency; bytesPerSocket: number; rates: Rates }>;

/** How soon subscribers are told, what their sockets cost, and what events cost those who check out. */
export async function measureSubscribers(bench: Bench): Promise<Figure[]> {
  checkFileLimit(scaled(bench, subscribers));
  return [...(await measureDeliveries(bench)), await compareFanOuts(bench)];
}

/** Node has raised the soft limit to the hard one already, which it cannot pass. */
function checkFileLimit(sockets: number): void {
  const limits = readFileSync('/proc/self/limits', 'utf8');
  const most = Number(/^Max open files\s+(\d+)/m.exec(limits)?.[1] ?? Number.POSITIVE_INFINITY);
  if (most < sockets + 2 * crowd)
    throw new Error(`Not measured: ${sockets} sockets need more than ${most} open files. Raise the limit (ulimit -Hn)`);
}

async function measureDeliveries(bench: Bench): Promise<Figure[]> {
  const measured = { ...bench, nodeOptions: [...bench.nodeOptions, '--expose-gc'] };
  const shelf = await freshShelf(bench);
  return withShop(measured, {}, shelf, async (shop) => {
    const calm = await deliver(bench, shop, shop, { name: 'subscribers', shelf, perSecond: calmPerSecond });
    const rush = await deliver(bench, shop, shop, { name: 'subscribers in a rush', shelf });
    const afar = await withNeighbour(measured, (neighbour) =>
      deliver(bench, shop, neighbour, { name: 'subscribers of another process', shelf, perSecond: calmPerSecond }),
    );
    return [
      latencyFigure(`outcomes to ${scaled(bench, subscribers)} sockets at ${calmPerSecond} orders/s, p99`, calm),
      // What the process is too busy for waits, whatever it is: nothing to be reached, but to be known.
      withoutGoal(latencyFigure('the same in a closed loop, as fast as the shop sells, p99', rush)),
      latencyFigure(`the same in another process than the shop's, ${calmPerSecond} orders/s, p99`, afar),
      {
        name: 'memory of a process that does nothing else, per subscribed socket',
        // A process that has served a crowd before has taken that memory already.
        measured: afar.bytesPerSocket / 1_024,
        unit: 'KB',
        beside: "resident memory; the system's own buffers are not in it",
      },
    ];
  });
}

function latencyFigure(name: string, { latencyMs, rates }: Delivery): Figure {
  const { p50, p99, max } = latencyMs;
  const beside = `p50 ${p50} ms, p99 ${p99} ms, max ${max} ms; completed ${Math.round(rates.completed)}/s`;
  return { name, goal: { below: 250 }, measured: rates.isClean ? p99 : Number.POSITIVE_INFINITY, unit: 'ms', beside };
}

function withoutGoal({ goal: _, ...figure }: Figure): Figure {
  return figure;
}

/** Lets so many subscribe at `place`, each to a basket of its own, and then sells all of those baskets at `shop`. */
async function deliver(
  bench: Bench,
  shop: Shop,
  place: Place,
  about: Readonly<{ name: string; shelf: Shelf; perSecond?: number }>,
): Promise<Delivery> {
  const { database } = bench;
  const orders = scaled(bench, subscribers);
  const tokens = await fillBaskets(database, about.shelf, orders);
  const audience = await startChild('subscribers.ts');
  try {
    const before = await readMemory(place);
    await audience.ask({ port: place.port, tokens });
    const bytesPerSocket = ((await readMemory(place)) - before) / orders;
    const began = await readClock(database);
    const rates = await visit(bench, shop, { ...about, orders, connections: crowd, tokens });
    const { arrivals } = await audience.ask<Arrivals>({ messages: orders });
    const writtenAt = await readEventTimes(database, began);
    const latencyMs = latencyOf(arrivals.map(([id, atMs]) => atMs - (writtenAt.get(id) ?? Number.NaN)));
    bench.record({ name: `${about.name}: from commit to delivery`, ...rates, latencyMs, bytesPerSocket });
    return { latencyMs, bytesPerSocket, rates };
  } finally {
    await audience.close();
  }
}

async function readMemory({ server }: Place): Promise<number> {
  const { rssBytes } = await server.ask<Memory>({ asksForMemory: true });
  return rssBytes;
}

/** Two shops, which take turns: what publishing costs them is what events cost beyond their rows. */
async function compareFanOuts(bench: Bench): Promise<Figure> {
  const shelf = await freshShelf(bench);
  const about = { shelf, orders: scaled(bench, 20_000), connections: crowd };
  const runs: { told: Rates[]; untold: Rates[] } = { told: [], untold: [] };
  await withShop(bench, { fanOut: 'postgres' }, shelf, (telling) =>
    withShop(bench, { fanOut: 'in_process' }, shelf, (silent) =>
      repeated(bench, 3, async () => {
        runs.told.push(await visit(bench, telling, { ...about, name: 'hot, events published' }));
        runs.untold.push(await visit(bench, silent, { ...about, name: 'hot, events not published' }));
      }),
    ),
  );
  const [told, untold] = [runs.told, runs.untold].map((rates) => median(rates.map(({ completed }) => completed))) as [
    number,
    number,
  ];
  return {
    name: 'completed over HTTP, EVENT_FAN_OUT=postgres / in_process',
    goal: { atLeast: 0.9 },
    measured: told / untold,
    unit: '',
    beside: `${Math.round(told)}/s / ${Math.round(untold)}/s`,
  };
}

async function freshShelf({ database }: Bench): Promise<Shelf> {
  await emptyShop(database);
  return fillShelf(database, 1);
}
