import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { buildApp } from '../app.ts';
import { drainOf } from '../http/drain.ts';
import { originCheck } from '../http/origins.ts';
import type { OrderDesk } from '../modules/checkout/checkout.service.ts';
import { attachCable } from '../modules/notifications/cable.socket.ts';
import { sql } from '../platform/db.ts';
import type { Resources } from '../resources.ts';
import { localAddress } from './address.ts';

export type WebServer = Readonly<{
  /** The base of every address that it answers. */
  address: string;
  /** Answers probes with "do not send more", after `DRAIN_DELAY_S` takes no more connections, tells sockets to come back elsewhere, and ends what is in flight. */
  close: () => Promise<void>;
}>;

const anything = sql('serve.anything', 'SELECT 1');
const probeTimeoutMs = 1_000;
/** Above the 25 s for which a synchronous checkout waits. */
const closeDeadlineMs = 30_000;

/** Starts to listen as the configuration says. Rejects with EADDRINUSE when the port is taken. */
export async function serve(resources: Resources, worker: OrderDesk | null): Promise<WebServer> {
  const { config, notifications, onError, allowedOrigins } = resources;
  let isDraining = false;
  const app = await buildApp({
    resources,
    worker,
    findObstacle: async () => (isDraining ? 'The process is shutting down' : findDatabaseObstacle(resources)),
  });
  const drain = drainOf(app);
  const epoch = resources.shop.streamEpoch;
  const cable = attachCable(app.server, {
    notifications,
    epoch,
    isAllowedOrigin: originCheck(allowedOrigins),
    onError,
  });
  await app.listen({ host: config.HOST, port: config.PORT });
  return {
    address: localAddress(config.HOST, (app.server.address() as AddressInfo).port),
    close: async () => {
      isDraining = true;
      await sleep(config.DRAIN_DELAY_S * 1_000);
      await Promise.all([cable.close(), drain.close(closeDeadlineMs)]);
    },
  };
}

/** By way of every pool that requests wait for: one without a free connection answers nobody. */
async function findDatabaseObstacle({ database, batchDatabase, reader }: Resources): Promise<string | null> {
  const late = new Promise<string>((resolve) =>
    setTimeout(resolve, probeTimeoutMs, 'The database does not answer in time').unref(),
  );
  const answered = Promise.all([database, batchDatabase, reader].map((pool) => pool.query(anything))).then(
    () => null,
    () => 'The database cannot be reached',
  );
  return Promise.race([answered, late]);
}
