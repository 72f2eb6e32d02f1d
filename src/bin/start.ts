import { once } from 'node:events';
import { findSampleProduct } from '../modules/catalog/catalog.service.ts';
import type { Config } from '../platform/config.ts';
import { openResources, type Resources } from '../resources.ts';
import { startWorker } from '../worker.ts';
import { banner } from './banner.ts';
import { withDatabase } from './database.ts';
import { listenForInterruption } from './interruption.ts';
import { serveMetrics } from './metrics.ts';
import { checkPorts } from './port.ts';
import { seedWithProgress } from './seed.ts';
import { serve } from './serve.ts';
import { endOnTheUnexpected } from './unexpected.ts';

const leftAtOnce = 'Left at once. An embedded PostgreSQL runs on until the next command takes it over and stops it.';

/** Opens the shop, and closes it again in reverse when the process is told to stop (SIGINT, SIGTERM). */
export async function start(config: Config): Promise<void> {
  const { signal: stop } = listenForInterruption(leftAtOnce);
  await checkPorts(config);
  await withDatabase(config, async ({ url, directUrl }) => {
    const resources = await openResources(config, url);
    endOnTheUnexpected(resources.logger);
    try {
      await fillEmptyCatalog(config, directUrl, stop);
      if (!stop.aborted) await runMeasured(resources, stop);
    } finally {
      await resources.close();
    }
  });
}

/** The metrics are there before the first request and after the last. */
async function runMeasured(resources: Resources, stop: AbortSignal): Promise<void> {
  const metrics = await serveMetrics(resources);
  if (metrics) console.log(`Metrics at ${metrics.address}`);
  try {
    await run(resources, stop);
  } finally {
    await metrics?.close();
  }
}

async function run(resources: Resources, stop: AbortSignal): Promise<void> {
  const { config } = resources;
  const worker = config.ROLE === 'web' ? null : await startWorker(resources, config.ROLE);
  try {
    const server = config.ROLE === 'worker' ? null : await serve(resources, worker);
    console.log(
      server ? await welcome(resources, server.address) : 'ScaleCommerce worker: paying and settling orders.',
    );
    if (!stop.aborted) await once(stop, 'abort');
    console.log('Stopping: finishing what is in flight.');
    worker?.windDown();
    await server?.close();
  } finally {
    await worker?.stop();
  }
}

/** Only ever an empty catalogue: a shop's own products are not touched. */
async function fillEmptyCatalog(config: Config, url: string, stop: AbortSignal): Promise<void> {
  if (config.SEED_PRODUCTS === 0) return;
  try {
    await seedWithProgress(url, config.SEED_PRODUCTS, stop);
  } catch (error) {
    if (!stop.aborted) throw error;
    console.log('Stopped before the shop was open; nothing was seeded.');
  }
}

async function welcome({ config, hasDemo, reader }: Resources, address: string): Promise<string> {
  return banner({
    config,
    address,
    databaseIsEmbedded: config.DATABASE_URL === undefined,
    hasDemo,
    sampleProductId: await findSampleProduct(reader),
  });
}
