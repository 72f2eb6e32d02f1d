import { Writable } from 'node:stream';
import type { FastifyInstance } from 'fastify';
import { pino } from 'pino';
import { buildApp } from '../../src/app.ts';
import { openTestShop, type TestShop } from './shop.ts';

/** A shop without a worker whose application logs all it can into `lines`, one JSON text each. */
export type LoggedShop = Readonly<{
  shop: TestShop;
  app: FastifyInstance;
  lines: string[];
  close(): Promise<void>;
}>;

/** Opens such a shop. `environment` as for the command; close it when done. */
export async function openLoggedShop(environment: Record<string, string> = {}): Promise<LoggedShop> {
  const shop = await openTestShop({ ...environment, ROLE: 'web' });
  const lines: string[] = [];
  const destination = new Writable({
    write: (chunk, _encoding, done) => {
      lines.push(String(chunk));
      done();
    },
  });
  const logger = pino({ level: 'trace' }, destination);
  const onError = (error: Error): void => logger.error({ err: error }, error.message);
  const resources = { ...shop.resources, logger, onError };
  const app = await buildApp({ resources, worker: null, findObstacle: async () => null });
  await app.ready();
  return {
    shop,
    app,
    lines,
    close: async () => {
      await app.close();
      await shop.close();
    },
  };
}

/** The lines that tell of a fault in the program. */
export function faultsIn(lines: readonly string[]): string[] {
  return lines.filter((line) => JSON.parse(line).level >= 50);
}
