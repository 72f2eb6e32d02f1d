import type { ServerResponse } from 'node:http';
import { Webhook } from 'standardwebhooks';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type OrderWorker, startOrderWorker } from '../src/modules/checkout/order-worker.ts';
import { openDeliveryQueue, type Pace, usualPace } from '../src/modules/webhooks/delivery-queue.ts';
import { startWebhooks } from '../src/modules/webhooks/webhook-worker.ts';
import {
  createEndpoint,
  listDeadLetters,
  listEndpoints,
  type NewEndpoint,
  removeEndpoint,
  replayDeadLetters,
} from '../src/modules/webhooks/webhooks.service.ts';
import type { JobQueue } from '../src/platform/job-queue.ts';
import { eventually } from './support/eventually.ts';
import { onServer } from './support/postgres.ts';
import { startProcess } from './support/process.ts';
import { addProduct, endedOrder, openTestShop, orderIdOf, Shopper, type TestShop } from './support/shop.ts';
import { openReceiver, type Received, type WebhookReceiver, withStatus } from './support/webhook-receiver.ts';

type Message = Readonly<{ type: string; timestamp: string; data: Readonly<Record<string, unknown>> }>;

/** Tried again at once, and looked for often. */
const quick: Pace = {
  ...usualPace,
  relayEveryMs: 20,
  pollEveryS: 0.5,
  superviseEveryS: 1,
  retries: 1_000,
  longestRetryS: 0,
};

let shop: TestShop;
let orders: OrderWorker;
let receiver: WebhookReceiver;
let product: string;
let closers: Array<() => Promise<unknown>>;

beforeEach(async () => {
  shop = await openTestShop({ ROLE: 'web' });
  const { workerDatabase: database, gateway, notifications, onError } = shop.resources;
  orders = await startOrderWorker({ database, gateway, notifications, onError, pollMs: 20 });
  receiver = await openReceiver();
  product = await addProduct(shop, { stock: 1_000 });
  closers = [() => receiver.close(), () => shop.close()];
});
afterEach(async () => {
  await orders.stop();
  for (const close of closers) await close();
});

/** Starts what passes events on. Stopped at the end of the test, if not before. */
function startWorker(pace: Partial<Pace> = {}): { stop: () => Promise<void>; failures: string[] } {
  const failures: string[] = [];
  let stopped: Promise<void> | null = null;
  const worker = startWebhooks({
    database: shop.resources.database,
    databaseUrl: shop.url,
    allowPrivate: true,
    onError: (error) => failures.push(error.message),
    onFailure: (_, reason) => failures.push(reason),
    pace: { ...quick, ...pace },
  });
  const stop = (): Promise<void> => (stopped ??= worker.stop());
  closers.unshift(stop);
  return { stop, failures };
}

async function addEndpoint(url = receiver.url): Promise<NewEndpoint> {
  const made = await createEndpoint(shop.resources.database, url, { description: 'test', allowPrivate: true });
  if (!made.ok) throw new Error(made.refusal.messages.join());
  return made.value;
}

/** Checks a basket out and returns the id of its order, once that has ended. */
async function sell(changes: Record<string, unknown> = {}): Promise<string> {
  const shopper = new Shopper(shop.app);
  await shopper.put(product, 2);
  const id = orderIdOf(await shopper.checkout('v2', changes));
  await endedOrder(shopper, id);
  return id;
}

async function openQueue(): Promise<JobQueue> {
  const queue = await openDeliveryQueue(shop.url, null, () => undefined);
  closers.unshift(() => queue.close(0));
  return queue;
}

const messageIn = ({ body }: Received): Message => JSON.parse(body);
const orderIn = (received: Received): unknown => messageIn(received).data.id;
const idOf = ({ headers }: Received): unknown => headers['webhook-id'];
const arrived = (count: number): Promise<Received[]> =>
  eventually(() => (receiver.received.length >= count ? receiver.received : null));

/** All that was written for the endpoints has been passed on, and been taken or dropped. */
function allSent(): Promise<unknown> {
  return eventually(async () => {
    const [row] = await shop.query<{ open: number }>(
      `SELECT (SELECT count(*) FROM webhook_outbox) + (SELECT count(*) FROM pgboss.job WHERE state < 'completed') AS open`,
    );
    return row?.open === 0;
  });
}

test('an order that is completed is told to an endpoint, signed, with what was sold and nothing of who bought it', async () => {
  const { secret } = await addEndpoint();
  startWorker();
  const shopper = new Shopper(shop.app);
  await shopper.put(product, 2);
  const id = orderIdOf(await shopper.checkout('v2'));
  const status = await endedOrder(shopper, id);
  const [received] = await arrived(1);
  if (!received) throw new Error('Nothing arrived');
  const message = new Webhook(secret).verify(received.body, received.headers as Record<string, string>) as Message;
  const { email, ...sold } = status.order as Record<string, unknown>;
  expect(message).toEqual({
    type: 'order.completed',
    timestamp: expect.stringMatching(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/),
    data: { id, status: 'completed', order: sold, error: null },
  });
  const [event] = await shop.query<{ id: string }>('SELECT id FROM events WHERE order_id = $1', [id]);
  expect(idOf(received)).toBe(event?.id);
  const secrets = [shopper.token, String(email), 'tok_success', '1 Main St', secret];
  for (const text of secrets) expect(JSON.stringify(received)).not.toContain(text);
  expect(() => new Webhook(secret).verify(`${received.body} `, received.headers as Record<string, string>)).toThrow(
    'No matching signature',
  );
});

test('an order that fails is told with its reason', async () => {
  await addEndpoint();
  startWorker();
  const id = await sell({ payment_token: 'tok_fail' });
  const [received] = await arrived(1);
  expect(received && messageIn(received)).toMatchObject({
    type: 'order.failed',
    data: { id, status: 'failed', order: null, error: { code: 'payment_required', message: 'Insufficient funds' } },
  });
});

test('nothing is written for the endpoints while there is none, and an endpoint counts from the next commit on', async () => {
  await sell();
  expect(await shop.query('SELECT * FROM webhook_outbox')).toEqual([]);
  await addEndpoint();
  const id = await sell();
  expect(await shop.query('SELECT order_id, kind FROM webhook_outbox')).toEqual([{ order_id: id, kind: 'completed' }]);
});

test('each endpoint is told, also by a worker that had started before there was any', async () => {
  startWorker();
  const other = await openReceiver();
  closers.unshift(() => other.close());
  await Promise.all([addEndpoint(), addEndpoint(other.url)]);
  const id = await sell();
  await arrived(1);
  await eventually(() => other.received.length === 1);
  expect([receiver, other].map(({ received }) => received.map(orderIn))).toEqual([[id], [id]]);
});

test('what a longer transaction commits later than a newer event is passed on all the same', async () => {
  await addEndpoint();
  startWorker();
  const older = '01900000-0000-7000-8000-000000000000';
  const [order] = await Promise.all([sell()]);
  await arrived(1);
  await onServer(shop.url, async (client) => {
    await client.query('BEGIN');
    await client.query('INSERT INTO webhook_outbox (event_id, order_id, kind) VALUES ($1, $2, $3)', [
      older,
      order,
      'completed',
    ]);
    await sell();
    await arrived(2);
    await client.query('COMMIT');
  });
  expect((await arrived(3)).map(idOf)).toContain(older);
});

test('a receiver that is down for a while gets everything once it is back, each event under one id', async () => {
  await addEndpoint();
  const { port } = receiver;
  await receiver.close();
  const { failures } = startWorker();
  const ids = [await sell(), await sell(), await sell()];
  await eventually(() => failures.length >= 6);
  expect(new Set(failures)).toEqual(new Set(['ECONNREFUSED']));
  receiver = await openReceiver(port);
  await arrived(3);
  await allSent();
  expect(receiver.received.map(orderIn).sort()).toEqual(ids.sort());
  expect(new Set(receiver.received.map(idOf)).size).toBe(3);
});

test('an event that was answered with an error is sent again, under the same id, signed anew', async () => {
  const { secret } = await addEndpoint();
  receiver.answer((response) => void response.writeHead(receiver.received.length < 3 ? 500 : 200).end());
  startWorker();
  await sell();
  const all = await arrived(3);
  await allSent();
  expect(new Set(all.map(idOf)).size).toBe(1);
  for (const { body, headers } of all) new Webhook(secret).verify(body, headers as Record<string, string>);
  expect(receiver.received).toHaveLength(3);
});

test('a receiver that does not answer holds up no other', async () => {
  const other = await openReceiver();
  closers.unshift(() => other.close());
  other.answer(() => undefined);
  await Promise.all([addEndpoint(other.url), addEndpoint()]);
  const { failures } = startWorker({ deadlineMs: 300_000 });
  for (let sold = 0; sold < 3; sold++) await sell();
  await arrived(3);
  expect(failures).toEqual([]);
  expect(receiver.received).toHaveLength(3);
});

test('a message that is not answered holds up none of the next to the same endpoint', async () => {
  await addEndpoint();
  receiver.answer((response) => (receiver.received.length === 1 ? undefined : withStatus(204)(response)));
  const { failures } = startWorker({ deadlineMs: 300_000 });
  await sell();
  await arrived(1);
  const next = [await sell(), await sell(), await sell()];
  const all = await arrived(4);
  expect(all.slice(1).map(orderIn).sort()).toEqual(next.sort());
  expect(failures).toEqual([]);
});

test('twenty messages are on their way to an endpoint at a time, and the next leaves when any of them is taken', async () => {
  await addEndpoint();
  const held: ServerResponse[] = [];
  receiver.answer((response) => void held.push(response));
  const id = await sell();
  await addEvents(id, 24);
  startWorker({ deadlineMs: 300_000 });
  await arrived(20);
  expect(await shop.query(`SELECT FROM pgboss.job WHERE state = 'active'`)).toHaveLength(20);
  held[7]?.writeHead(204).end();
  await arrived(21);
  expect(await shop.query(`SELECT FROM pgboss.job WHERE state = 'active'`)).toHaveLength(20);
  expect(receiver.received).toHaveLength(21);
});

/** Writes further events of an order for the endpoints. */
function addEvents(orderId: string, count: number): Promise<unknown> {
  return shop.query(
    `INSERT INTO webhook_outbox (event_id, order_id, kind) SELECT gen_random_uuid(), $1, 'completed' FROM generate_series(1, $2)`,
    [orderId, count],
  );
}

test('a receiver that is too slow is tried again', async () => {
  await addEndpoint();
  receiver.answer((response) => (receiver.received.length === 1 ? undefined : withStatus(200)(response)));
  const { failures } = startWorker({ deadlineMs: 100 });
  await sell();
  await arrived(2);
  expect(failures).toEqual(['no answer within 100 ms']);
});

test('410 Gone disables an endpoint: nothing more is sent to it', async () => {
  const { id } = await addEndpoint();
  receiver.answer(withStatus(410));
  startWorker();
  await sell();
  await arrived(1);
  await eventually(async () => (await listEndpoints(shop.resources.database))[0]?.disabled_at);
  await sell();
  expect(await shop.query('SELECT * FROM webhook_outbox')).toEqual([]);
  await eventually(async () => (await queueNames()).every((name) => !name.includes(id)));
  expect(receiver.received).toHaveLength(1);
});

async function queueNames(): Promise<string[]> {
  const rows = await shop.query<{ name: string }>('SELECT name FROM pgboss.queue');
  return rows.map(({ name }) => name);
}

test('an endpoint that is removed goes with all that was still to be sent to it', async () => {
  const { id } = await addEndpoint();
  receiver.answer(withStatus(503));
  startWorker({ firstRetryS: 3_600, longestRetryS: 3_600 });
  await sell();
  await arrived(1);
  expect(await removeEndpoint(shop.resources.database, id)).toBe(true);
  expect(await removeEndpoint(shop.resources.database, id)).toBe(false);
  await eventually(async () => (await queueNames()).every((name) => !name.includes(id)));
  expect(await shop.query('SELECT FROM pgboss.job')).toEqual([]);
});

test('an endpoint that was removed while no worker ran leaves nothing behind', async () => {
  const { id } = await addEndpoint();
  const before = startWorker({ firstRetryS: 3_600, longestRetryS: 3_600 });
  receiver.answer(withStatus(503));
  await sell();
  await arrived(1);
  await before.stop();
  await removeEndpoint(shop.resources.database, id);
  await addEndpoint();
  receiver.answer(withStatus(204));
  startWorker();
  const sold = await sell();
  await arrived(2);
  await allSent();
  expect(receiver.received.slice(1).map(orderIn)).toEqual([sold]);
  expect((await queueNames()).some((name) => name.includes(id))).toBe(false);
});

test('what is tried in vain is a dead letter, which can be replayed under its id', async () => {
  await addEndpoint();
  receiver.answer(withStatus(500));
  startWorker({ retries: 2 });
  const [first, second] = [await sell(), await sell()];
  const queue = await openQueue();
  const letters = await eventually(async () => {
    const found = await listDeadLetters(shop.resources.database, queue);
    return found.length === 2 ? found : null;
  });
  expect(receiver.received).toHaveLength(6);
  expect(letters).toMatchObject(
    [first, second].map((orderId) => ({ orderId, kind: 'completed', tries: 3, answer: 'status 500' })),
  );
  receiver.answer(withStatus(204));
  receiver.received.length = 0;
  expect(await replayDeadLetters(queue, letters[0]?.id ?? '')).toBe(1);
  const [replayed] = await arrived(1);
  expect(replayed && [idOf(replayed), orderIn(replayed)]).toEqual([letters[0]?.eventId, letters[0]?.orderId]);
  expect(await replayDeadLetters(queue, 'all')).toBe(1);
  await arrived(2);
  await allSent();
  expect(await listDeadLetters(shop.resources.database, queue)).toEqual([]);
  expect(await replayDeadLetters(queue, 'all')).toBe(0);
  expect(await replayDeadLetters(queue, letters[0]?.id ?? '')).toBe(0);
});

test('what a worker had delivered when it was killed is delivered again under the same id', async () => {
  await addEndpoint();
  const worker = await startProcess(shop.url, { ROLE: 'worker', WEBHOOK_ALLOW_PRIVATE: 'true' });
  receiver.answer(async (response) => {
    await worker.end('SIGKILL');
    response.destroy();
  });
  const id = await sell();
  await arrived(1);
  receiver.answer(withStatus(204));
  // In place of waiting until it is missed.
  const [lost] = await shop.query(
    `UPDATE pgboss.job SET heartbeat_on = heartbeat_on - interval '1 hour', retry_delay_max = 0
      WHERE state = 'active' RETURNING id`,
  );
  expect(lost).toBeDefined();
  startWorker();
  const all = await arrived(2);
  await allSent();
  expect(all.map(orderIn)).toEqual([id, id]);
  expect(new Set(all.map(idOf)).size).toBe(1);
});

test('a worker stops within seconds, whatever it is waiting for, and the next one goes on', async () => {
  await addEndpoint();
  receiver.answer(() => undefined);
  const worker = startWorker({ deadlineMs: 300_000 });
  await sell();
  await arrived(1);
  await worker.stop();
  receiver.answer(withStatus(204));
  startWorker();
  const all = await arrived(2);
  await allSent();
  expect(new Set(all.map(idOf)).size).toBe(1);
});

test('a web process passes nothing on, and makes no queue', async () => {
  await addEndpoint();
  const web = await startProcess(shop.url, { ROLE: 'web', WEBHOOK_ALLOW_PRIVATE: 'true' });
  await sell();
  expect(await web.end('SIGTERM')).toBe(0);
  expect(await shop.query('SELECT FROM webhook_outbox')).toHaveLength(1);
  expect(await shop.query(`SELECT FROM pg_namespace WHERE nspname = 'pgboss'`)).toEqual([]);
});

test('thousands of events are passed on, each of them once, by workers beside each other', async () => {
  const count = 3_000;
  await addEndpoint();
  const id = await sell();
  await shop.query('DELETE FROM webhook_outbox');
  startWorker();
  startWorker();
  await addEvents(id, count);
  await arrived(count);
  await allSent();
  expect(receiver.received).toHaveLength(count);
  expect(new Set(receiver.received.map(idOf)).size).toBe(count);
});
