/**
 * The shop as a process of the benchmark: HTTP server, cable and worker together, as `start` runs them. Told where the
 * database is, answers with its port; asked for its memory, with that.
 */
import type { AddressInfo } from 'node:net';
import { buildApp } from '../src/app.ts';
import { drainOf } from '../src/http/drain.ts';
import { attachCable } from '../src/modules/notifications/cable.socket.ts';
import { readConfig } from '../src/platform/config.ts';
import { openResources } from '../src/resources.ts';
import { startWorker } from '../src/worker.ts';
import { answerParent } from './checkout/child.ts';
import type { Memory, MemoryQuestion, ServerSetup } from './checkout/messages.ts';
import { unjournaledGateway } from './checkout/unjournaled-gateway.ts';

let close = async (): Promise<void> => undefined;

answerParent<ServerSetup | MemoryQuestion>(
  async (question) => ('databaseUrl' in question ? start(question) : readMemory()),
  () => close(),
);

async function start({ databaseUrl, journals, fanOut, role }: ServerSetup): Promise<{ port: number }> {
  const config = readConfig({ LOG_LEVEL: 'error', EVENT_FAN_OUT: fanOut, ROLE: role });
  const opened = await openResources(config, databaseUrl);
  const resources = journals ? opened : { ...opened, gateway: unjournaledGateway() };
  const worker = role === 'web' ? null : await startWorker(resources, role);
  const app = await buildApp({ resources, worker, findObstacle: async () => null });
  const drain = drainOf(app);
  const { notifications, onError, shop } = resources;
  const epoch = shop.streamEpoch;
  const cable = attachCable(app.server, { notifications, epoch, isAllowedOrigin: () => false, onError });
  await app.listen({ host: '127.0.0.1', port: 0 });
  close = async () => {
    await Promise.all([cable.close(), drain.close(10_000)]);
    await worker?.stop();
    await opened.close();
  };
  return { port: (app.server.address() as AddressInfo).port };
}

/** Without what a collection of garbage would find, as far as the process may be told to make one (--expose-gc). */
function readMemory(): Memory {
  globalThis.gc?.();
  return { rssBytes: process.memoryUsage.rss() };
}
