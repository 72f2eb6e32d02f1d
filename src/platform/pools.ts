import type pg from 'pg';

/** All connections of one name: how many there may be, are, and stand idle, and the requests that wait for one. */
export type PoolStats = Readonly<{ name: string; most: number; open: number; idle: number; waiting: number }>;

const poolsOfProcess = new Map<pg.Pool, string>();

/** Counts a pool among the process's. Returns how to take it out again. */
export function countPool(pool: pg.Pool, name: string): () => void {
  poolsOfProcess.set(pool, name);
  return () => void poolsOfProcess.delete(pool);
}

/** The pools of this process as they are now, by their names. */
export function poolStats(): PoolStats[] {
  const byName = Map.groupBy(poolsOfProcess, ([, name]) => name);
  return [...byName].map(([name, entries]) => {
    const pools = entries.map(([pool]) => pool);
    const sum = (of: (pool: pg.Pool) => number): number => pools.reduce((total, pool) => total + of(pool), 0);
    return {
      name,
      most: sum((pool) => pool.options.max),
      open: sum((pool) => pool.totalCount),
      idle: sum((pool) => pool.idleCount),
      waiting: sum((pool) => pool.waitingCount),
    };
  });
}
