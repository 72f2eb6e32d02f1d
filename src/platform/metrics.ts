import { collectDefaultMetrics, Registry } from '@prometheus-io/client';
import { coalescerStats } from './coalescer.ts';
import { type Family, textOf } from './exposition.ts';
import { poolStats } from './pools.ts';

/** Gives families as they are now; none where they are not known. */
export type Collector = () => Promise<readonly Family[]> | readonly Family[];

/**
 * Starts to measure the process itself (event loop, memory, collection of garbage), and returns what gives all metrics in
 * Prometheus' text format: those of the process, of its lines and pools, and of `collectors`.
 */
export function openMetrics(collectors: readonly Collector[]): () => Promise<string> {
  const register = new Registry();
  collectDefaultMetrics({ register });
  return async () => {
    const families = await Promise.all([lineFamilies, poolFamilies, ...collectors].map((collect) => collect()));
    return textOf(families.flat()) + (await register.metrics());
  };
}

function lineFamilies(): Family[] {
  const lines = coalescerStats();
  const of = <Value>(read: (line: (typeof lines)[number]) => Value) =>
    lines.map((line) => [{ line: line.name }, read(line)] as const);
  const turnedAway = lines.flatMap(({ name, turnedAway }) =>
    Object.entries(turnedAway).map(([why, count]) => [{ line: name, why }, count] as const),
  );
  const family = <Rest>(name: string, help: string, rest: Rest) => ({
    name: `scalecommerce_line_${name}`,
    help,
    ...rest,
  });
  return [
    family('waiting', 'Requests that wait for a batch.', { type: 'gauge', series: of((line) => line.waiting) }),
    family('batches_in_flight', 'Batches under way.', { type: 'gauge', series: of((line) => line.inFlight) }),
    family('served_total', 'Requests that got an answer from a batch.', {
      type: 'counter',
      series: of((line) => line.served),
    }),
    family('turned_away_total', 'Requests that found a line full, waited too long, or whose sender went away.', {
      type: 'counter',
      series: turnedAway,
    }),
    family('splits_total', 'Batches that were split for the sake of one member: each is a gap in validation.', {
      type: 'counter',
      series: of((line) => line.splits),
    }),
    family('batch_size', 'Requests in a batch.', { type: 'histogram', series: of((line) => line.batchSize) }),
    family('wait_seconds', 'How long requests waited until their batch left.', {
      type: 'histogram',
      series: of((line) => line.waitSeconds),
    }),
  ];
}

function poolFamilies(): Family[] {
  const pools = poolStats();
  const of = (read: (pool: (typeof pools)[number]) => number) =>
    pools.map((pool) => [{ pool: pool.name }, read(pool)] as const);
  const gauge = (name: string, help: string, series: ReturnType<typeof of>) =>
    ({ name: `scalecommerce_pool_${name}`, help, type: 'gauge', series }) as const;
  return [
    gauge(
      'connections_max',
      'Connections to the database that there may be.',
      of((pool) => pool.most),
    ),
    gauge(
      'connections',
      'Connections to the database that are open.',
      of((pool) => pool.open),
    ),
    gauge(
      'connections_idle',
      'Of the open connections, those that nobody uses.',
      of((pool) => pool.idle),
    ),
    gauge(
      'waiting',
      'Requests that wait for a connection.',
      of((pool) => pool.waiting),
    ),
  ];
}
