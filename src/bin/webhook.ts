import { openDeliveryQueue } from '../modules/webhooks/delivery-queue.ts';
import {
  createEndpoint,
  type DeadLetter,
  type Endpoint,
  listDeadLetters,
  listEndpoints,
  removeEndpoint,
  replayDeadLetters,
  tryEndpoint,
} from '../modules/webhooks/webhooks.service.ts';
import type { Config } from '../platform/config.ts';
import type { Database } from '../platform/db.ts';
import type { JobQueue } from '../platform/job-queue.ts';
import { inColumns } from './columns.ts';
import { withDatabase } from './database.ts';
import { UsageError } from './failure.ts';
import { withShop } from './shop.ts';

/** `scalecommerce webhook add URL`: tells an endpoint of every outcome from now on, and shows its secret this once. */
export function addWebhookCommand(
  config: Config,
  url: string,
  { description = '' }: Readonly<{ description?: string }>,
): Promise<number> {
  return inShop(config, async (db) => {
    const made = await createEndpoint(db, url, { description, allowPrivate: allowsPrivate(config) });
    if (!made.ok) throw new UsageError(`${made.refusal.messages.join('; ')}. See WEBHOOK_ALLOW_PRIVATE.`);
    console.log(`id      ${made.value.id}\nsecret  ${made.value.secret}`);
    console.error('The secret is not shown again.');
    for (const twin of made.value.twins)
      console.error(`Another endpoint has this URL: ${twin}. Each has its own secret and gets every event.`);
    return 0;
  });
}

/** `scalecommerce webhook list`: the endpoints, without their secrets. */
export function listWebhooksCommand(config: Config): Promise<number> {
  return inShop(config, async (db) => {
    const endpoints = await listEndpoints(db);
    console.log(endpoints.length === 0 ? 'There are no endpoints.' : endpointTable(endpoints));
    return 0;
  });
}

/** `scalecommerce webhook remove ID`: nothing more is sent to the endpoint. */
export function removeWebhookCommand(config: Config, id: string): Promise<number> {
  return inShop(config, async (db) => {
    if (!(await removeEndpoint(db, id))) throw missingEndpoint(id);
    console.log(`Endpoint ${id} is removed, with all that was still to be sent to it.`);
    return 0;
  });
}

/** `scalecommerce webhook test ID`: sends a signed test message now. */
export function testWebhookCommand(config: Config, id: string): Promise<number> {
  return inShop(config, async (db) => {
    const outcome = await tryEndpoint(db, id, { allowPrivate: allowsPrivate(config) });
    if (!outcome) throw missingEndpoint(id);
    if (!outcome.isTaken) throw new Error(`Endpoint ${id} has not taken the test message: ${outcome.answer}.`);
    console.log(`Endpoint ${id} has taken the test message: ${outcome.answer}.`);
    return 0;
  });
}

/** `scalecommerce webhook dead`: what could not be delivered and is not tried any more. */
export function deadWebhooksCommand(config: Config): Promise<number> {
  return inShop(config, (db, url) =>
    withQueue(url, async (queue) => {
      const letters = await listDeadLetters(db, queue);
      console.log(letters.length === 0 ? 'There are no dead letters.' : deadLetterTable(letters));
      return 0;
    }),
  );
}

/** `scalecommerce webhook replay ID|--all`: sends dead letters again. */
export function replayWebhooksCommand(config: Config, which: string | 'all'): Promise<number> {
  return inShop(config, (_, url) =>
    withQueue(url, async (queue) => {
      const count = await replayDeadLetters(queue, which);
      if (count === 0 && which !== 'all') throw new Error(`There is no dead letter "${which}".`);
      console.log(`${count} dead letter${count === 1 ? ' is' : 's are'} sent again by the workers.`);
      return 0;
    }),
  );
}

function inShop<T>(config: Config, work: (db: Database, url: string) => Promise<T>): Promise<T> {
  return withDatabase(config, ({ url }) => withShop(config, url, (db) => work(db, url)));
}

async function withQueue<T>(url: string, work: (queue: JobQueue) => Promise<T>): Promise<T> {
  const queue = await openDeliveryQueue(url, null, () => undefined);
  try {
    return await work(queue);
  } finally {
    await queue.close(0);
  }
}

function allowsPrivate(config: Config): boolean {
  return config.WEBHOOK_ALLOW_PRIVATE === 'true';
}

function missingEndpoint(id: string): Error {
  return new Error(`There is no endpoint "${id}".`);
}

function endpointTable(endpoints: readonly Endpoint[]): string {
  const columns = ['ID', 'STATUS', 'SINCE', 'URL', 'DESCRIPTION'].map((title) => ({ title }));
  const rows = endpoints.map(({ id, url, description, created_at, disabled_at }) => {
    const status = disabled_at === null ? 'active' : 'disabled';
    return [id, status, (disabled_at ?? created_at).toISOString(), url, description];
  });
  return inColumns(columns, rows);
}

function deadLetterTable(letters: readonly DeadLetter[]): string {
  const columns = ['ID', 'EVENT', 'TYPE', 'ORDER', 'ENDPOINT', 'GIVEN UP', 'TRIES', 'LAST ANSWER'].map((title) => ({
    title,
    align: title === 'TRIES' ? ('right' as const) : ('left' as const),
  }));
  const rows = letters.map(({ id, eventId, kind, orderId, endpoint, givenUpAt, tries, answer }) => {
    return [id, eventId, `order.${kind}`, orderId, endpoint.id, givenUpAt.toISOString(), String(tries), answer];
  });
  return inColumns(columns, rows);
}
