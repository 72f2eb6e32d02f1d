import { setTimeout as sleep } from 'node:timers/promises';
import { openRefunds } from './modules/checkout/cancel.ts';
import { type OrderWorker, startOrderWorker } from './modules/checkout/order-worker.ts';
import { lastPeriod, reconcile } from './modules/checkout/reconcile.ts';
import { purgeExpiredKeys } from './modules/idempotency/idempotency.service.ts';
import { startWebhooks } from './modules/webhooks/webhook-worker.ts';
import { reportRarely } from './platform/report-rarely.ts';
import { startRounds } from './platform/rounds.ts';
import type { Resources } from './resources.ts';
import { Unavailable } from './shared/refusal.ts';

/** What a worker process does: pays and settles orders, gives money back, compares the books, sends webhooks. */
export type Worker = Pick<OrderWorker, 'owner' | 'handOver' | 'windDown' | 'stop'>;

/** Beside a web server in one process orders are handed over in memory, and the look into the table is a safety net. */
const pollOrdersMs = { all: 1_000, worker: 100 };
const refundsEveryMs = 2_000;
const reconcileEveryMs = 10 * 60_000;
const purgeEveryMs = 10 * 60_000;
/** What is older was compared before, several times. */
const reconciledMs = 60 * 60_000;

/** What a round may still take once the worker stops. */
const roundsMs = 2_000;

/** Starts what a worker process does. */
export async function startWorker(resources: Resources, role: 'all' | 'worker'): Promise<Worker> {
  const { workerDatabase: database, gateway, notifications, onError } = resources;
  const orders = await startOrderWorker({ database, gateway, notifications, onError, pollMs: pollOrdersMs[role] });
  const stopRounds = startRounds(
    [
      { everyMs: refundsEveryMs, run: openRefunds({ database, gateway, notifications }, onError) },
      { everyMs: reconcileEveryMs, run: () => reconcileBooks(resources) },
      { everyMs: purgeEveryMs, run: async () => void (await purgeExpiredKeys(database)) },
    ],
    onError,
  );
  const webhooks = startWebhooks({
    ...resources,
    allowPrivate: resources.config.WEBHOOK_ALLOW_PRIVATE === 'true',
    onFailure: reportEndpoints(resources),
  });
  return {
    owner: () => orders.owner(),
    handOver: (order) => orders.handOver(order),
    windDown: () => {
      orders.windDown();
      void stopRounds();
    },
    stop: async () => {
      // A comparison of the books may take long.
      const rounds = Promise.race([stopRounds(), sleep(roundsMs, undefined, { ref: false })]);
      await Promise.all([orders.stop(), webhooks.stop(), rounds]);
    },
  };
}

async function reconcileBooks({ workerDatabase: database, gateway, logger }: Resources): Promise<void> {
  const { since, until } = await lastPeriod(database, reconciledMs);
  const { discrepancies } = await reconcile({ database, gateway }, since, until);
  for (const { key, problem, acted } of discrepancies) logger.warn({ key, acted }, problem);
}

/** By its id: an address may hold a secret of the receiver's. */
function reportEndpoints({ logger }: Resources): (endpointId: string, reason: string) => void {
  const report = reportRarely((error, untold) => logger.warn({ untold }, error.message));
  return (id, reason) => report(new Unavailable(`The webhook endpoint ${id} has not taken a message: ${reason}`));
}
