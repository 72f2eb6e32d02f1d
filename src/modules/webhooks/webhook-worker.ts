import type { Database } from '../../platform/db.ts';
import type { JobQueue } from '../../platform/job-queue.ts';
import { startRounds } from '../../platform/rounds.ts';
import { type DeliveryDesk, deliver } from './deliver.ts';
import { endpointOf, ensureQueue, openDeliveryQueue, type Pace, queueOf, usualPace } from './delivery-queue.ts';
import { openPlaces, type Places } from './places.ts';
import { relayEvents } from './relay.ts';
import { readNews } from './webhooks.sql.ts';

export type WebhookWorkerOptions = Readonly<{
  database: Database;
  /** Of the same database, for the connections of the job queue. */
  databaseUrl: string;
  allowPrivate: boolean;
  onError: (error: Error) => void;
  /** Told of each delivery that an endpoint did not take, and that will be tried again or be a dead letter. */
  onFailure: DeliveryDesk['onFailure'];
  pace?: Pace;
}>;

/** How many messages are on their way to one endpoint at the same time, from one process. */
const deliveriesAtOnce = 20;
/** What a delivery may still take once the process is to stop; then it is broken off and tried again. */
const lastWordsMs = 2_000;

/** Passes events on to the endpoints. The job queue is not opened before there is an endpoint. */
export function startWebhooks(options: WebhookWorkerOptions): { stop: () => Promise<void> } {
  const worker = new WebhookWorker(options);
  const { relayEveryMs, pollEveryS } = options.pace ?? usualPace;
  const rounds = [
    { everyMs: relayEveryMs, run: () => worker.round() },
    { everyMs: pollEveryS * 1_000, run: async () => worker.wake() },
  ];
  const stopRounds = startRounds(rounds, options.onError);
  return {
    stop: async () => {
      worker.isStopping = true;
      await stopRounds();
      // What the database does not hear of now it finds out by itself.
      await worker.close().catch(options.onError);
    },
  };
}

class WebhookWorker {
  readonly #options: WebhookWorkerOptions;
  readonly #pace: Pace;
  #queue: JobQueue | null = null;
  /** By endpoint, what takes its deliveries. */
  readonly #places = new Map<string, Places>();
  isStopping = false;

  constructor(options: WebhookWorkerOptions) {
    this.#options = options;
    this.#pace = options.pace ?? usualPace;
  }

  async round(): Promise<void> {
    const news = await readNews(this.#options.database);
    await this.#serve(new Set(news.endpoint_ids));
    if (!news.is_waiting) return;
    while ((await this.#relay()) && !this.isStopping);
    this.wake();
  }

  /** Has deliveries looked for that are due. */
  wake(): void {
    for (const places of this.#places.values()) places.wake();
  }

  async close(): Promise<void> {
    await this.#queue?.close(lastWordsMs);
  }

  #relay(): Promise<boolean> {
    return relayEvents(this.#options.database, this.#queue, new Set(this.#places.keys()));
  }

  /** Takes the deliveries of these endpoints from now on, and of no others. */
  async #serve(wanted: ReadonlySet<string>): Promise<void> {
    const missing = [...wanted].filter((id) => !this.#places.has(id));
    if (missing.length > 0) {
      this.#queue ??= await this.#open();
      for (const id of missing) await this.#take(this.#queue, id);
    }
    for (const id of this.#places.keys()) if (!wanted.has(id)) await this.#leave(id);
  }

  async #open(): Promise<JobQueue> {
    const { databaseUrl, onError } = this.#options;
    const queue = await openDeliveryQueue(databaseUrl, this.#pace.superviseEveryS, onError);
    await this.#dropAbandoned(queue).catch(onError);
    return queue;
  }

  async #take(queue: JobQueue, endpointId: string): Promise<void> {
    const { deadlineMs } = this.#pace;
    await ensureQueue(queue, endpointId, this.#pace);
    const desk = { ...this.#options, deadlineMs };
    const places = await openPlaces(queue.boss, queueOf(endpointId), deliveriesAtOnce, (delivery) =>
      deliver(desk, endpointId, delivery),
    );
    this.#places.set(endpointId, places);
  }

  /** An endpoint that was removed or disabled goes with all that was still to be sent to it. */
  async #leave(endpointId: string): Promise<void> {
    this.#places.delete(endpointId);
    await this.#queue?.boss.offWork(queueOf(endpointId), { wait: false });
    await this.#queue?.boss.deleteQueue(queueOf(endpointId));
  }

  /**
   * Queues whose endpoints went while nobody looked. The endpoints are read after the queues: a queue is never made before
   * its endpoint.
   */
  async #dropAbandoned({ boss }: JobQueue): Promise<void> {
    const queues = await boss.getQueues();
    const { endpoint_ids } = await readNews(this.#options.database);
    for (const { name } of queues) {
      const endpointId = endpointOf(name);
      if (endpointId !== null && !endpoint_ids.includes(endpointId)) await boss.deleteQueue(name);
    }
  }
}
