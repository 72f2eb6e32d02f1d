import { randomBytes } from 'node:crypto';
import type { JobWithMetadata } from 'pg-boss';
import type { Reader } from '../../platform/db.ts';
import type { JobQueue } from '../../platform/job-queue.ts';
import { isUuid, newId } from '../../shared/ids.ts';
import { accepted, type Result, refused } from '../../shared/refusal.ts';
import { isSuccess, wordOf } from './deliver.ts';
import { deadLetters, endpointOf, usualPace } from './delivery-queue.ts';
import { type EventJob, testMessage } from './message.ts';
import { type Answer, faultOfUrl, send } from './send.ts';
import {
  addEndpoint,
  dropEndpoint,
  type EndpointRow,
  type EventKind,
  findEndpointsAt,
  findRecipient,
  readEndpoints,
} from './webhooks.sql.ts';

export type { EndpointRow as Endpoint } from './webhooks.sql.ts';

/** An endpoint as it is made: the only time that its secret is told. `twins` are the active endpoints that had its URL already. */
export type NewEndpoint = Readonly<{ id: string; secret: string; twins: readonly string[] }>;

/** A delivery that was given up. `answer` is the last that came of it. */
export type DeadLetter = Readonly<{
  id: string;
  eventId: string;
  orderId: string;
  kind: EventKind;
  endpoint: EndpointRow;
  givenUpAt: Date;
  tries: number;
  answer: string;
}>;

/** As long as the digest that it makes. */
const secretBytes = 32;
const mostDeadLetters = 1_000;

/** Makes an endpoint that is told of everything that happens from now on. Refused where webhooks may not go. */
export async function createEndpoint(
  db: Reader,
  url: string,
  { description, allowPrivate }: Readonly<{ description: string; allowPrivate: boolean }>,
): Promise<Result<NewEndpoint>> {
  const fault = faultOfUrl(url, allowPrivate);
  if (fault !== null) return refused('unprocessable', `The URL ${fault}`);
  const endpoint = { id: newId(), secret: `whsec_${randomBytes(secretBytes).toString('base64')}` };
  const { href } = new URL(url);
  const twins = await findEndpointsAt(db, href);
  await addEndpoint(db, { ...endpoint, url: href, description });
  return accepted({ ...endpoint, twins });
}

/** All endpoints, the oldest first. */
export function listEndpoints(db: Reader): Promise<EndpointRow[]> {
  return readEndpoints(db);
}

/** Removes an endpoint, with all that is still to be sent to it. Whether there was one. */
export async function removeEndpoint(db: Reader, id: string): Promise<boolean> {
  return isUuid(id) && dropEndpoint(db, id);
}

/** Sends a message of the type `webhook.test` to an endpoint, once, and says what came of it; undefined without one. */
export async function tryEndpoint(
  db: Reader,
  id: string,
  options: Readonly<{ allowPrivate: boolean }>,
): Promise<{ isTaken: boolean; answer: string } | undefined> {
  const recipient = isUuid(id) ? await findRecipient(db, id) : undefined;
  if (!recipient) return undefined;
  const answer: Answer = await send(recipient, newId(), testMessage(id, new Date()), {
    ...options,
    deadlineMs: usualPace.deadlineMs,
  });
  return { isTaken: 'status' in answer && isSuccess(answer.status), answer: wordOf(answer) };
}

/** The deliveries that were given up, of endpoints that there still are, the oldest first; up to 1,000. */
export async function listDeadLetters(db: Reader, { boss }: JobQueue): Promise<DeadLetter[]> {
  const jobs = await boss.findJobs<EventJob>(deadLetters, { queued: true, limit: mostDeadLetters });
  const endpoints = await readEndpoints(db);
  return jobs.flatMap((job) => {
    const endpoint = endpoints.find(({ id, disabled_at }) => disabled_at === null && id === endpointOf(job.sourceName));
    return endpoint ? [deadLetterOf(job, endpoint)] : [];
  });
}

/** Has a dead letter sent again, or all of them, with all their tries anew. Returns how many. */
export async function replayDeadLetters({ boss }: JobQueue, which: string | 'all'): Promise<number> {
  if (which !== 'all') return isUuid(which) ? boss.redrive(deadLetters, { ids: [which] }) : 0;
  let moved = 0;
  for (;;) {
    const more = await boss.redrive(deadLetters);
    if (more === 0) return moved;
    moved += more;
  }
}

function deadLetterOf(job: JobWithMetadata<EventJob>, endpoint: EndpointRow): DeadLetter {
  return {
    id: job.id,
    eventId: job.data.event_id,
    orderId: job.data.order_id,
    kind: job.data.kind,
    endpoint,
    givenUpAt: job.createdOn,
    tries: (job.sourceRetryCount ?? 0) + 1,
    answer: lastWordOf(job.sourceOutput),
  };
}

/** The queue has words of its own for what was never answered, since its worker was gone. */
function lastWordOf(output: object | null): string {
  if (output === null) return 'unknown';
  if ('status' in output || 'failure' in output) return wordOf(output as Answer);
  return 'message' in output ? String(output.message) : 'unknown';
}
