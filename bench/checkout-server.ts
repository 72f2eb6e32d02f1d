/**
 * The shop as a process of the benchmark: HTTP server and worker together, as `start` runs them. Told where the
 * database is, answers with its port.
 */
import type { AddressInfo } from 'node:net';
import { buildApp } from '../src/app.ts';
import { drainOf } from '../src/http/drain.ts';
import { readConfig } from '../src/platform/config.ts';
import { openResources } from '../src/resources.ts';
import { startWorker } from '../src/worker.ts';
import { answerParent } from './checkout/child.ts';
import type { ServerSetup } from './checkout/messages.ts';
import { unjournaledGateway } from './checkout/unjournaled-gateway.ts';

let close = async (): Promise<void> => undefined;

answerParent<ServerSetup>(start, () => close());

async function start({ databaseUrl, journals }: ServerSetup): Promise<{ port: number }> {
  const opened = await openResources(readConfig({ LOG_LEVEL: 'error' }), databaseUrl);
  const resources = journals ? opened : { ...opened, gateway: unjournaledGateway() };
  const worker = await startWorker(resources, 'all');
  const app = await buildApp({ resources, worker, findObstacle: async () => null });
  const drain = drainOf(app);
  await app.listen({ host: '127.0.0.1', port: 0 });
  close = async () => {
    await drain.close(10_000);
    await worker.stop();
    await opened.close();
  };
  return { port: (app.server.address() as AddressInfo).port };
}
