import { once } from 'node:events';
import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { attachCable, type CableOptions } from '../../src/modules/notifications/cable.socket.ts';
import { type Notifications, openNotifications } from '../../src/modules/notifications/notifications.service.ts';
import { openDatabase, type Reader, type Statement, type Value } from '../../src/platform/db.ts';

export type CableServer = Readonly<{
  port: number;
  /** The connections that were made to it, oldest first. */
  connections: Socket[];
  notifications: Notifications;
  /** What was reported, oldest first. */
  errors: Error[];
  /** Tells clients to come back, and closes the port. */
  stop(): Promise<void>;
}>;

type Before = (statement: Statement) => Promise<unknown> | undefined;
type After = (statement: Statement, rows: unknown[]) => Promise<unknown> | undefined;

/** Unless told so, the table is never looked into for new events, so that what arrives was announced. */
export type CableServerOptions = Partial<Pick<CableOptions, 'pingMs' | 'maxSockets' | 'isAllowedOrigin' | 'epoch'>> & {
  databaseUrl: string;
  pollMs?: number;
  port?: number;
  /** Answers what is no upgrade. */
  onRequest?: RequestListener;
  /** Run around every read, which waits for them. */
  beforeRead?: Before;
  afterRead?: After;
};

const hourMs = 3_600_000;
const upgradeOnly: RequestListener = (_, response) => void response.writeHead(426).end();

/** An HTTP server with `/cable`, on the database at `databaseUrl`. */
export async function startCableServer(options: CableServerOptions): Promise<CableServer> {
  const {
    databaseUrl,
    pollMs = hourMs,
    port = 0,
    onRequest = upgradeOnly,
    beforeRead,
    afterRead,
    ...cableOptions
  } = options;
  const errors: Error[] = [];
  const onError = (error: Error): void => void errors.push(error);
  const database = openDatabase({ url: databaseUrl, name: 'cable test', connections: 4, waiting: 50, onError });
  const reader = intercepted(database, beforeRead, afterRead);
  const notifications = openNotifications({ reader, pollMs, onError });
  const server = createServer(onRequest);
  const base = { notifications, epoch: 'epoch', isAllowedOrigin: () => false, onError };
  const cable = attachCable(server, { ...base, ...cableOptions });
  const connections: Socket[] = [];
  server.on('connection', (socket) => connections.push(socket));
  server.listen(port, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    connections,
    notifications,
    errors,
    stop: async () => {
      await cable.close();
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
      notifications.stop();
      await database.close();
    },
  };
}

function intercepted(reader: Reader, before?: Before, after?: After): Reader {
  return {
    query: async <Row>(statement: Statement, values?: readonly Value[]) => {
      await before?.(statement);
      const rows = await reader.query<Row>(statement, values);
      await after?.(statement, rows);
      return rows;
    },
  };
}
