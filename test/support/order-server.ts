import { buildApp } from '../../src/app.ts';
import { drainOf } from '../../src/http/drain.ts';
import type { Reader, Statement, Value } from '../../src/platform/db.ts';
import type { TestShop } from './shop.ts';

/** The application of a shop on a port of its own. */
export type OrderServer = Readonly<{
  address: string;
  port: number;
  /** Connections that are open. */
  connections(): Promise<number>;
  /** Ends what is under way, as at the end of a process. */
  stop(): Promise<void>;
}>;

export type OrderServerOptions = Readonly<{
  port?: number;
  /** Run after every read of that statement, which is answered after it. */
  afterRead?: (statement: Statement, rows: unknown[]) => Promise<unknown> | undefined;
}>;

/** More than any test has to wait for. */
const stopDeadlineMs = 60_000;

/** Starts one, without a worker: orders end by the hand of the test. */
export async function startOrderServer(shop: TestShop, options: OrderServerOptions = {}): Promise<OrderServer> {
  const reader = observed(shop.resources.reader, options.afterRead);
  const notifications = { ...shop.resources.notifications, reader };
  const resources = { ...shop.resources, reader, notifications };
  const app = await buildApp({ resources, worker: null, findObstacle: async () => null });
  const drain = drainOf(app);
  const address = await app.listen({ host: '127.0.0.1', port: options.port ?? 0 });
  return {
    address,
    port: Number(new URL(address).port),
    connections: () => new Promise((resolve) => app.server.getConnections((_, count) => resolve(count))),
    stop: () => drain.close(stopDeadlineMs),
  };
}

function observed(reader: Reader, afterRead: OrderServerOptions['afterRead']): Reader {
  return {
    query: async <Row>(statement: Statement, values?: readonly Value[]) => {
      const rows = await reader.query<Row>(statement, values);
      await afterRead?.(statement, rows);
      return rows;
    },
  };
}
