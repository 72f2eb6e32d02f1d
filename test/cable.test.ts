import { ConnectionMonitor, createConsumer } from '@rails/actioncable';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { announce } from '../src/modules/notifications/notifications.service.ts';
import { newId } from '../src/shared/ids.ts';
import { type CableServer, type CableServerOptions, startCableServer } from './support/cable-server.ts';
import { expectSoon } from './support/expect-soon.ts';
import { type Basket, endOrder, insertBasket, insertOrder } from './support/ordered-basket.ts';
import { choosePort } from './support/port.ts';
import { createTestDatabase, type TestDatabase } from './support/postgres.ts';

const channel = 'CheckoutNotificationsChannel';
const pollMs = 20;
const railsStaleThreshold = ConnectionMonitor.staleThreshold;

let database: TestDatabase;
const ends: Array<() => unknown> = [];

beforeAll(async () => {
  // What the client expects of a browser's window.
  vi.stubGlobal('addEventListener', () => undefined);
  vi.stubGlobal('removeEventListener', () => undefined);
  database = await createTestDatabase();
});

afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
  ConnectionMonitor.staleThreshold = railsStaleThreshold;
});

afterAll(async () => {
  vi.unstubAllGlobals();
  await database.drop();
});

async function start(options: Partial<CableServerOptions> = {}): Promise<CableServer> {
  const server = await startCableServer({ databaseUrl: database.url, ...options });
  ends.push(server.stop);
  return server;
}

function consume(port: number) {
  const consumer = createConsumer(`ws://127.0.0.1:${port}/cable`);
  ends.push(() => consumer.disconnect());
  return consumer;
}

type Consumer = ReturnType<typeof consume>;

/** Subscribes and notes what the client reports, oldest first. */
function subscribe(consumer: Consumer, params: Record<string, unknown>) {
  const log: unknown[] = [];
  const subscription = consumer.subscriptions.create(params, {
    connected: () => log.push('connected'),
    rejected: () => log.push('rejected'),
    disconnected: () => log.push('disconnected'),
    received: (message) => log.push(message),
  });
  return { log, unsubscribe: () => subscription.unsubscribe() };
}

function subscribeTo(consumer: Consumer, basket: Basket) {
  return subscribe(consumer, { channel, shopping_basket_id: basket.token });
}

async function orderedBasket() {
  const basket = await insertBasket(database.url);
  const orderId = await insertOrder(database.url, basket);
  return {
    basket,
    orderId,
    end: (kind: Parameters<typeof endOrder>[3]) => endOrder(database.url, basket, orderId, kind),
  };
}

function soldOrder(orderId: string) {
  const usd = (cents: number) => ({ cents, currency: 'USD' });
  return {
    id: orderId,
    email: 'a@b.example',
    created_at: '2026-11-20T10:11:12.345Z',
    total_price: usd(1750),
    order_products: [
      {
        id: expect.any(String),
        name: 'Lamp',
        description: 'Lamp for sale',
        quantity: 2,
        unit_price: usd(500),
        total_price: usd(1000),
      },
      {
        id: expect.any(String),
        name: 'Chair',
        description: 'Chair for sale',
        quantity: 1,
        unit_price: usd(750),
        total_price: usd(750),
      },
    ],
  };
}

const completed = (event: { id: string; orderId: string }) => ({
  status: 'completed',
  order: soldOrder(event.orderId),
  order_id: event.orderId,
  event_id: event.id,
});
const refunded = (event: { id: string; orderId: string }) => ({ ...completed(event), status: 'refunded' });
const declined = (event: { id: string; orderId: string }) => ({
  status: 'failed',
  error: { code: 'payment_required', message: 'Insufficient funds' },
  order_id: event.orderId,
  event_id: event.id,
});
const cancelled = (event: { id: string; orderId: string }) => ({
  status: 'failed',
  error: { code: 'cancelled', message: 'Order was cancelled' },
  order_id: event.orderId,
  event_id: event.id,
});

describe('who subscribes after the latest order has ended', () => {
  test.each([
    { kind: 'completed', expected: completed },
    { kind: 'failed', expected: declined },
    { kind: 'cancelled', expected: cancelled },
  ] as const)('is told at once that it was $kind', async ({ kind, expected }) => {
    const { port } = await start();
    const { basket, end } = await orderedBasket();
    const event = await end(kind);
    const { log } = subscribeTo(consume(port), basket);
    await expectSoon(() => log).toEqual(['connected', expected(event)]);
  });

  test('is told of a refunded order that it was completed', async () => {
    const { port } = await start();
    const { basket, end } = await orderedBasket();
    const event = await end('completed');
    await end('refunded');
    const { log } = subscribeTo(consume(port), basket);
    await expectSoon(() => log).toEqual(['connected', completed(event)]);
  });

  test('is told of the latest order only', async () => {
    const { port } = await start();
    const { basket, end } = await orderedBasket();
    await end('failed');
    const secondId = await insertOrder(database.url, basket);
    const second = await endOrder(database.url, basket, secondId, 'completed');
    const { log } = subscribeTo(consume(port), basket);
    await expectSoon(() => log).toEqual(['connected', completed(second)]);
  });

  test('is told again on subscribing again', async () => {
    const { port } = await start();
    const { basket, end } = await orderedBasket();
    const event = await end('completed');
    const consumer = consume(port);
    const first = subscribeTo(consumer, basket);
    await expectSoon(() => first.log).toEqual(['connected', completed(event)]);
    first.unsubscribe();
    const second = subscribeTo(consumer, basket);
    await expectSoon(() => second.log).toEqual(['connected', completed(event)]);
  });
});

describe('who subscribes before', () => {
  test('is told of an event that this process announces, and only once', async () => {
    const { port, notifications } = await start({ pollMs: 5 });
    const { basket, end } = await orderedBasket();
    const { log } = subscribeTo(consume(port), basket);
    await expectSoon(() => log).toEqual(['connected']);
    const first = await end('completed');
    announce(notifications, first);
    announce(notifications, first);
    await expectSoon(() => log).toEqual(['connected', completed(first)]);
    const second = await end('refunded');
    announce(notifications, second);
    await expectSoon(() => log).toEqual(['connected', completed(first), refunded(second)]);
  });

  test('is told without any look into the table', async () => {
    const { port, notifications } = await start();
    const { basket, end } = await orderedBasket();
    const { log } = subscribeTo(consume(port), basket);
    await expectSoon(() => log).toEqual(['connected']);
    const event = await end('cancelled');
    announce(notifications, event);
    await expectSoon(() => log).toEqual(['connected', cancelled(event)]);
  });

  test('is told of an event that only the table knows', async () => {
    const { port } = await start({ pollMs });
    const { basket, end } = await orderedBasket();
    const { log } = subscribeTo(consume(port), basket);
    await expectSoon(() => log).toEqual(['connected']);
    const event = await end('completed');
    await expectSoon(() => log).toEqual(['connected', completed(event)]);
  });

  test('is told of the second checkout and nothing of the first, which failed', async () => {
    const { port } = await start({ pollMs });
    const { basket, end } = await orderedBasket();
    await end('failed');
    const secondId = await insertOrder(database.url, basket);
    const { log } = subscribeTo(consume(port), basket);
    await expectSoon(() => log).toEqual(['connected']);
    const second = await endOrder(database.url, basket, secondId, 'completed');
    await expectSoon(() => log).toEqual(['connected', completed(second)]);
  });

  test('is told of every order in turn', async () => {
    const { port } = await start({ pollMs });
    const { basket, end } = await orderedBasket();
    const { log } = subscribeTo(consume(port), basket);
    await expectSoon(() => log).toEqual(['connected']);
    const first = await end('failed');
    const secondId = await insertOrder(database.url, basket);
    const second = await endOrder(database.url, basket, secondId, 'completed');
    await expectSoon(() => log).toEqual(['connected', declined(first), completed(second)]);
  });

  test('is told nothing of other baskets', async () => {
    const { port, notifications } = await start({ pollMs });
    const [mine, other] = [await orderedBasket(), await orderedBasket()];
    const consumer = consume(port);
    const [own, foreign] = [subscribeTo(consumer, mine.basket), subscribeTo(consumer, other.basket)];
    await expectSoon(() => [own.log, foreign.log]).toEqual([['connected'], ['connected']]);
    const foreignEvent = await other.end('completed');
    announce(notifications, foreignEvent);
    await expectSoon(() => foreign.log).toEqual(['connected', completed(foreignEvent)]);
    const event = await mine.end('failed');
    await expectSoon(() => own.log).toEqual(['connected', declined(event)]);
  });

  test('is told nothing after unsubscribing', async () => {
    const { port, notifications } = await start({ pollMs });
    const { basket, end } = await orderedBasket();
    const consumer = consume(port);
    const gone = subscribeTo(consumer, basket);
    await expectSoon(() => gone.log).toEqual(['connected']);
    gone.unsubscribe();
    await expectSoon(() => notifications.streams.seen()).toEqual([]);
    const event = await end('completed');
    announce(notifications, event);
    const later = subscribeTo(consumer, basket);
    await expectSoon(() => later.log).toEqual(['connected', completed(event)]);
    expect(gone.log).toEqual(['connected']);
  });
});

test('many clients of one basket are each told once', async () => {
  const { port, notifications } = await start({ pollMs });
  const { basket, end } = await orderedBasket();
  const logs = Array.from({ length: 50 }, () => subscribeTo(consume(port), basket).log);
  await expectSoon(() => logs).toEqual(logs.map(() => ['connected']));
  const first = await end('completed');
  announce(notifications, first);
  const second = await end('refunded');
  announce(notifications, second);
  await expectSoon(() => logs).toEqual(logs.map(() => ['connected', completed(first), refunded(second)]));
});

describe('a subscription is rejected', () => {
  test.each([
    { to: 'no basket', params: { channel } },
    { to: 'an unknown basket', params: { channel, shopping_basket_id: newId() } },
    { to: 'what is no token', params: { channel, shopping_basket_id: "' OR true --" } },
    { to: 'a number', params: { channel, shopping_basket_id: 1 } },
    { to: 'a list', params: { channel, shopping_basket_id: [newId()] } },
    { to: 'an unknown channel', params: { channel: 'OrdersChannel', shopping_basket_id: newId() } },
  ])('to $to', async ({ params }) => {
    const { port } = await start();
    const { log } = subscribe(consume(port), params);
    await expectSoon(() => log).toEqual(['rejected']);
  });

  test('to a basket by its internal id', async () => {
    const { port } = await start();
    const { basket } = await orderedBasket();
    const { log } = subscribe(consume(port), { channel, shopping_basket_id: basket.id });
    await expectSoon(() => log).toEqual(['rejected']);
  });
});

test('a client is told to come back when its server stops, and learns from the next one what it missed', async () => {
  // Twenty pings: on a busy machine some of them come late.
  ConnectionMonitor.staleThreshold = 2;
  const server = await startCableServer({ databaseUrl: database.url, pingMs: 100, port: await choosePort() });
  const { basket, end } = await orderedBasket();
  const { log } = subscribeTo(consume(server.port), basket);
  await expectSoon(() => log).toEqual(['connected']);
  await server.stop();
  await expectSoon(() => log).toEqual(['connected', 'disconnected']);
  const event = await end('completed');
  await start({ port: server.port, pingMs: 100 });
  await expectSoon(() => log).toEqual(['connected', 'disconnected', 'connected', completed(event)]);
});
