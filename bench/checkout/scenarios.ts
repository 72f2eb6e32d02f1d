import { type Figure, median } from './figures.ts';
import {
  type Bench,
  callDirectly,
  type Rates,
  repeated,
  type Shop,
  scaled,
  visit,
  withDirect,
  withShop,
} from './runs.ts';
import { emptyShop, fillShelf, type Shelf } from './shop.ts';
import { measureSubscribers } from './subscribers.ts';

export type Scenario = Readonly<{
  name: string;
  about: string;
  run: (bench: Bench) => Promise<Figure[]>;
}>;

const crowd = 1_000;
const manyProducts = 10_000;
const poolSizes = [2, 4, 8, 16, 32];

/** In the order in which they are run. */
export const scenarios: readonly Scenario[] = [
  { name: 'acceptance', about: 'acceptance called directly: in batches, and one by one', run: compareAcceptance },
  { name: 'http', about: 'completed orders over HTTP: one hot product, many, and without HTTP', run: compareOverHttp },
  { name: 'open-loop', about: 'a fixed rate of checkouts, whatever the answers', run: measureOpenLoop },
  { name: 'journeys', about: 'a new basket, a line, a checkout', run: measureJourneys },
  { name: 'journal', about: "without the gateway's journal", run: measureWithoutJournal },
  { name: 'subscribers', about: 'outcomes to 10,000 sockets, and what events cost', run: measureSubscribers },
];

async function compareAcceptance(bench: Bench): Promise<Figure[]> {
  const { shelf } = await freshShop(bench, 1);
  const batched = await accept(bench, { strategy: 'batched', connections: 2, callers: crowd, orders: 25_000, shelf });
  const onePerSize: { connections: number; rate: number }[] = [];
  for (const connections of poolSizes) {
    // More callers than connections would only wait for one: it is at its best like this.
    const sizes = { connections, callers: 2 * connections, orders: 1_000 };
    onePerSize.push({ connections, rate: await accept(bench, { strategy: 'pessimistic', ...sizes, shelf }) });
  }
  const best = onePerSize.toSorted((a, b) => b.rate - a.rate)[0] ?? { connections: 0, rate: Number.NaN };
  return [
    {
      name: 'acceptance of one hot product, batched / pessimistic',
      goal: { atLeast: 10 },
      measured: batched / best.rate,
      unit: '',
      beside: `${perSecond(batched)} / ${perSecond(best.rate)} (best of ${poolSizes.join(', ')} connections: ${best.connections})`,
    },
  ];
}

type Acceptance = Readonly<{
  strategy: 'batched' | 'pessimistic';
  connections: number;
  callers: number;
  orders: number;
  shelf: Shelf;
}>;

function accept(bench: Bench, { strategy, connections, callers, orders, shelf }: Acceptance): Promise<number> {
  return withDirect(bench, { strategy, connections, works: false }, async (direct) => {
    const about = { shelf, callers, works: false };
    await callDirectly(bench, direct, { ...about, name: 'warm-up', orders: scaled(bench, orders / 5) });
    const name = `accept, ${strategy}, ${connections} connections`;
    const rates = await repeated(bench, 2, () =>
      callDirectly(bench, direct, { ...about, name, orders: scaled(bench, orders) }),
    );
    return median(rates.map((rate) => rate.accepted));
  });
}

async function compareOverHttp(bench: Bench): Promise<Figure[]> {
  const { shelf: hot, many } = await freshShop(bench, 1, manyProducts);
  const orders = scaled(bench, 20_000);
  const hotRuns: Rates[] = [];
  const spreadRuns: Rates[] = [];
  await withShop(bench, { journals: true }, hot, (shop) =>
    repeated(bench, 3, async () => {
      hotRuns.push(await visit(bench, shop, { name: 'hot', shelf: hot, orders, connections: crowd }));
      spreadRuns.push(await visit(bench, shop, { name: 'spread', shelf: many, orders, connections: crowd }));
    }),
  );
  const directRuns = await withDirect(bench, { strategy: 'batched', connections: 2, works: true }, async (direct) => {
    const about = { shelf: hot, callers: crowd, works: true };
    await callDirectly(bench, direct, { ...about, name: 'warm-up', orders: scaled(bench, 5_000) });
    return repeated(bench, 3, () => callDirectly(bench, direct, { ...about, name: 'direct', orders }));
  });
  return httpFigures(completedOf(hotRuns), completedOf(spreadRuns), completedOf(directRuns));
}

function httpFigures(hot: number, spread: number, direct: number): Figure[] {
  return [
    {
      name: `completed over HTTP, one hot product, ${crowd} connections`,
      goal: { atLeast: 10_000 },
      measured: hot,
      unit: '/s',
      beside: '',
    },
    {
      name: `completed over HTTP, hot / spread over ${manyProducts} products`,
      goal: { atLeast: 0.9 },
      measured: hot / spread,
      unit: '',
      beside: `${perSecond(hot)} / ${perSecond(spread)}`,
    },
    {
      name: 'completed over HTTP / the same statements called directly',
      goal: { atLeast: 0.4 },
      measured: hot / direct,
      unit: '',
      beside: `${perSecond(hot)} / ${perSecond(direct)}`,
    },
  ];
}

async function measureOpenLoop(bench: Bench): Promise<Figure[]> {
  const { shelf } = await freshShop(bench, 1);
  const about = { name: 'open loop', shelf, orders: scaled(bench, 50_000), connections: 2 * crowd, perSecond: 7_000 };
  const rates = await withShop(bench, { journals: true }, shelf, (shop) => visit(bench, shop, about));
  const { p50, p99, max } = rates.latencyMs;
  return [
    {
      name: 'p99 of the 202 at an open-loop 7,000/s, from the intended send time',
      goal: { below: 120 },
      // A request that was turned away was not answered in time.
      measured: rates.isClean ? p99 : Number.POSITIVE_INFINITY,
      unit: 'ms',
      beside: `p50 ${p50} ms, p99 ${p99} ms, max ${max} ms; completed ${perSecond(rates.completed)}${rates.isClean ? '' : '; not all were accepted'}`,
    },
  ];
}

async function measureJourneys(bench: Bench): Promise<Figure[]> {
  const { shelf } = await freshShop(bench, 1);
  const about = { name: 'journeys', shelf, orders: scaled(bench, 10_000), connections: crowd, isJourney: true };
  const rates = await withShop(bench, { journals: true }, shelf, async (shop) => {
    await visit(bench, shop, { ...about, name: 'warm-up', orders: scaled(bench, 3_000) });
    return repeated(bench, 2, () => visit(bench, shop, about));
  });
  return [
    {
      name: 'full journeys: new basket, one line, checkout, completed',
      goal: { atLeast: 4_000 },
      measured: completedOf(rates),
      unit: '/s',
      beside: '',
    },
  ];
}

async function measureWithoutJournal(bench: Bench): Promise<Figure[]> {
  const { shelf } = await freshShop(bench, 1);
  const about = { shelf, orders: scaled(bench, 20_000), connections: crowd };
  const both: [number[], number[]] = [[], []];
  for (const [index, journals] of [true, false].entries()) {
    const name = journals ? 'with journal' : 'without journal';
    const measure = (shop: Shop): Promise<Rates> => visit(bench, shop, { ...about, name });
    const rates = await withShop(bench, { journals }, shelf, (shop) => repeated(bench, 2, () => measure(shop)));
    both[index]?.push(completedOf(rates));
  }
  const [with_, without] = both.map(median) as [number, number];
  return [
    {
      name: "completed over HTTP, with / without the gateway's journal",
      measured: with_ / without,
      unit: '',
      beside: `${perSecond(with_)} / ${perSecond(without)}`,
    },
  ];
}

async function freshShop(bench: Bench, products: number, more = 1): Promise<{ shelf: Shelf; many: Shelf }> {
  await emptyShop(bench.database);
  return { shelf: await fillShelf(bench.database, products), many: await fillShelf(bench.database, more) };
}

function completedOf(runs: readonly Rates[]): number {
  return median(runs.map((run) => run.completed));
}

function perSecond(rate: number): string {
  return `${Math.round(rate).toLocaleString('en')}/s`;
}
