import { type JobQueue, openJobQueue } from '../../platform/job-queue.ts';

/** How often a delivery is tried, and how soon it is noticed that it is due. */
export type Pace = Readonly<{
  /** Between two looks into the outbox and at the endpoints. */
  relayEveryMs: number;
  /** Between two looks for deliveries that are due again, or were made due by another process. */
  pollEveryS: number;
  /** Between two looks for deliveries whose process is gone. */
  superviseEveryS: number;
  /** After which an endpoint that has not answered counts as failed. */
  deadlineMs: number;
  retries: number;
  firstRetryS: number;
  longestRetryS: number;
}>;

/** 5 to 10 s, then about twice as long each time, up to 4 h: some three days. */
export const usualPace: Pace = {
  relayEveryMs: 500,
  pollEveryS: 2,
  superviseEveryS: 30,
  deadlineMs: 10_000,
  retries: 30,
  firstRetryS: 5,
  longestRetryS: 4 * 3_600,
};

/** Where deliveries end that were tried in vain. */
export const deadLetters = 'webhooks.dead';

const prefix = 'webhooks.';
const monthS = 30 * 86_400;
/** A process that is alive says so at least twice as often. */
const heartbeatS = 20;
/** Above the deadline of a delivery. */
const expiryS = 60;
const hourS = 3_600;

/** The queue of what an endpoint is to be told. Each has its own: one that does not answer holds up no other. */
export function queueOf(endpointId: string): string {
  return `${prefix}${endpointId}`;
}

/** The endpoint that a queue is of; null when it is no endpoint's. */
export function endpointOf(queue: string | null): string | null {
  return queue?.startsWith(prefix) && queue !== deadLetters ? queue.slice(prefix.length) : null;
}

/** Opens the queue of jobs with a place for dead letters. `superviseEveryS` as in {@link openJobQueue}. Close it when done. */
export async function openDeliveryQueue(
  url: string,
  superviseEveryS: number | null,
  onError: (error: Error) => void,
): Promise<JobQueue> {
  const queue = await openJobQueue({ url, superviseEveryS, onError });
  try {
    await queue.boss.createQueue(deadLetters, { retentionSeconds: monthS });
    return queue;
  } catch (error) {
    await queue.close(0);
    throw error;
  }
}

/** Makes the queue of an endpoint, if it is missing, with how its deliveries are tried from now on. */
export async function ensureQueue({ boss }: JobQueue, endpointId: string, pace: Pace): Promise<void> {
  const settings = {
    deadLetter: deadLetters,
    retryLimit: pace.retries,
    retryDelay: pace.firstRetryS,
    retryBackoff: true,
    retryDelayMax: pace.longestRetryS,
    heartbeatSeconds: heartbeatS,
    expireInSeconds: expiryS,
    retentionSeconds: monthS,
    deleteAfterSeconds: hourS,
  };
  await boss.createQueue(queueOf(endpointId), settings);
  await boss.updateQueue(queueOf(endpointId), settings);
}
