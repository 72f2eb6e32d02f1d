import { type OrderWorker, startOrderWorker } from './modules/checkout/order-worker.ts';
import type { Resources } from './resources.ts';

/** Beside a web server in one process orders are handed over in memory, and the look into the table is a safety net. */
const pollOrdersMs = { all: 1_000, worker: 100 };

/** Starts what a worker process does: paying and settling orders. */
export function startWorker(resources: Resources, role: 'all' | 'worker'): Promise<OrderWorker> {
  const { workerDatabase: database, gateway, notifications, onError } = resources;
  return startOrderWorker({ database, gateway, notifications, onError, pollMs: pollOrdersMs[role] });
}
