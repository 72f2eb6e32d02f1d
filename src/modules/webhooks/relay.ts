import type { Database } from '../../platform/db.ts';
import { inTransaction, type JobQueue } from '../../platform/job-queue.ts';
import { queueOf } from './delivery-queue.ts';
import type { EventJob } from './message.ts';
import { lockActiveEndpoints, type OutboxRow, takeEvents } from './webhooks.sql.ts';

const mostAtOnce = 500;

/**
 * Passes up to 500 events from the outbox on to the queues of all endpoints, in one commit. Returns whether there may be
 * more. Nothing is passed on while there is an endpoint whose queue is not among those `ready`.
 */
export function relayEvents(database: Database, queue: JobQueue | null, ready: ReadonlySet<string>): Promise<boolean> {
  return database.transaction(async (tx) => {
    const endpointIds = await lockActiveEndpoints(tx);
    if (endpointIds.some((id) => !ready.has(id))) return false;
    const events = await takeEvents(tx, mostAtOnce);
    const jobs = events.map((event) => ({ data: jobOf(event) }));
    if (queue && jobs.length > 0)
      for (const id of endpointIds) await queue.boss.insert(queueOf(id), jobs, { db: inTransaction(tx) });
    return events.length === mostAtOnce;
  });
}

function jobOf({ event_id, order_id, kind, created_at }: OutboxRow): EventJob {
  return { event_id, order_id, kind, occurred_at: created_at.toISOString() };
}
