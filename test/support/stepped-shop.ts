import type { FastifyInstance } from 'fastify';
import { buildApp } from '../../src/app.ts';
import type { Owner } from '../../src/modules/checkout/lease.sql.ts';
import { registerWorker } from '../../src/modules/checkout/lease.sql.ts';
import { type Database, openDatabase } from '../../src/platform/db.ts';
import { newId } from '../../src/shared/ids.ts';
import { countDeadlocks, noticeDeadlocksSoon } from './deadlocks.ts';
import { openTestShop, type TestShop } from './shop.ts';

/** A shop that can be stepped: no worker but the test, and nobody gives up on a lock while it steps. */
export type SteppedShop = Readonly<{
  shop: TestShop;
  app: FastifyInstance;
  /** As the engine's, with more patience. */
  database: Database;
  /** Orders are accepted under it. It has lost its lease, and goes on like a process that does not know it yet. */
  zombie: Owner;
  /** Its lease lasts. */
  heir: Owner;
}>;

const patienceMs = 4_000;

/** Lets `play` step a shop of its own, and returns how many deadlocks there were. */
export async function onSteppedShop(
  environment: Record<string, string>,
  play: (stepped: SteppedShop) => Promise<void>,
): Promise<number> {
  const shop = await openTestShop({ ROLE: 'web', ...environment });
  try {
    await noticeDeadlocksSoon(shop.url);
    const database = openPatient(shop.url);
    const resources = { ...shop.resources, database, batchDatabase: database };
    const zombie = await register(database, 0);
    const heir = await register(database, 3_600);
    const worker = { owner: () => zombie, handOver: () => undefined };
    const app = await buildApp({ resources, worker, findObstacle: async () => null });
    await app.ready();
    try {
      await play({ shop, app, database, zombie, heir });
    } finally {
      await app.close();
      await database.close();
    }
    return await countDeadlocks(shop.url);
  } finally {
    await shop.close();
  }
}

/** A pool whose transactions wait for a lock until the test lets go of it. */
export function openPatient(url: string): Database {
  const onError = (): void => undefined;
  return openDatabase({ url, name: 'stepped', connections: 12, waiting: 5_000, lockTimeoutMs: patienceMs, onError });
}

async function register(database: Database, leaseSeconds: number): Promise<Owner> {
  const workerId = newId();
  return { workerId, epoch: await registerWorker(database, { id: workerId, leaseSeconds, host: 'test', pid: 1 }) };
}
