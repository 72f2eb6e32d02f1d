import { ConnectionMonitor } from '@rails/actioncable';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { announce } from '../src/modules/notifications/notifications.service.ts';
import { newId } from '../src/shared/ids.ts';
import { type CableServer, startCableServer } from './support/cable-server.ts';
import { expectSoon } from './support/expect-soon.ts';
import { type Basket, type Ending, endOrder, insertBasket, insertOrder } from './support/ordered-basket.ts';
import { type ClientKind, clientKinds, type OutcomeClient, openClient } from './support/outcome-clients.ts';
import { choosePort } from './support/port.ts';
import { createTestDatabase, onServer, type TestDatabase } from './support/postgres.ts';
import { openTcpProxy, type TcpProxy } from './support/tcp-proxy.ts';

const pollMs = 20;
const pingMs = 100;
const railsStaleThreshold = ConnectionMonitor.staleThreshold;

let database: TestDatabase;
const ends: Array<() => unknown> = [];

beforeAll(async () => {
  // What the client expects of a browser's window.
  vi.stubGlobal('addEventListener', () => undefined);
  vi.stubGlobal('removeEventListener', () => undefined);
  // Seconds: twenty pings, of which on a busy machine some come late.
  ConnectionMonitor.staleThreshold = 2;
  database = await createTestDatabase();
});

afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

afterAll(async () => {
  ConnectionMonitor.staleThreshold = railsStaleThreshold;
  vi.unstubAllGlobals();
  await database.drop();
});

async function start(port = 0): Promise<CableServer> {
  const server = await startCableServer({ databaseUrl: database.url, pollMs, pingMs, port });
  ends.push(server.stop);
  return server;
}

async function startBehindProxy(): Promise<{ port: number; proxy: TcpProxy }> {
  const { port } = await start();
  const proxy = await openTcpProxy(`http://127.0.0.1:${port}`);
  ends.push(proxy.close);
  return { port: Number(new URL(proxy.url).port), proxy };
}

function open(kind: ClientKind, port: number, historySince?: number): OutcomeClient {
  const options = { pingMs, ...(historySince === undefined ? {} : { historySince }) };
  const client = openClient(kind, `ws://127.0.0.1:${port}/cable`, options);
  ends.push(client.close);
  return client;
}

async function end(basket: Basket, ending: Ending) {
  return endOrder(database.url, basket, await insertOrder(database.url, basket), ending);
}

function age(basket: Basket, minutes: number): Promise<unknown> {
  return onServer(database.url, (client) =>
    client.query('UPDATE events SET created_at = created_at - make_interval(mins => $2) WHERE basket_id = $1', [
      basket.id,
      minutes,
    ]),
  );
}

const isExtended = (kind: ClientKind) => kind === '@anycable/core, extended';

describe.each(clientKinds)('%s', (kind) => {
  test('learns on subscribing how the latest order has ended', async () => {
    const { port } = await start();
    const basket = await insertBasket(database.url);
    await end(basket, 'failed');
    await age(basket, 30);
    const event = await end(basket, 'completed');
    await age(basket, 30);
    const { told } = open(kind, port).listen(basket.token);
    await expectSoon(() => told).toEqual([event.id]);
  });

  test('learns in turn how two checkouts of a basket end', async () => {
    const { port } = await start();
    const basket = await insertBasket(database.url);
    const { told, states } = open(kind, port).listen(basket.token);
    await expectSoon(() => states).toContain('connected');
    const first = await end(basket, 'failed');
    await expectSoon(() => told).toEqual([first.id]);
    const second = await end(basket, 'completed');
    await expectSoon(() => told).toEqual([first.id, second.id]);
  });

  test('learns nothing of a checkout that failed a minute before the one that it waits for', async () => {
    const { port } = await start();
    const basket = await insertBasket(database.url);
    await end(basket, 'failed');
    await age(basket, 1);
    const orderId = await insertOrder(database.url, basket);
    const { told, states } = open(kind, port).listen(basket.token);
    await expectSoon(() => states).toContain('connected');
    const event = await endOrder(database.url, basket, orderId, 'completed');
    await expectSoon(() => told).toEqual([event.id]);
  });

  test('learns after a cut what it has missed', async () => {
    const { port, proxy } = await startBehindProxy();
    const basket = await insertBasket(database.url);
    const orderId = await insertOrder(database.url, basket);
    const { told, states } = open(kind, port).listen(basket.token);
    await expectSoon(() => states).toContain('connected');
    proxy.swallow();
    proxy.cut();
    const event = await endOrder(database.url, basket, orderId, 'completed');
    await expectSoon(() => states).toContain('disconnected');
    expect(told).toEqual([]);
    proxy.cut();
    proxy.heal();
    await expectSoon(() => told).toEqual([event.id]);
  });

  test('notices a network that is silent, and learns what it has missed', async () => {
    const { port, proxy } = await startBehindProxy();
    const basket = await insertBasket(database.url);
    const orderId = await insertOrder(database.url, basket);
    const { told, states } = open(kind, port).listen(basket.token);
    await expectSoon(() => states).toContain('connected');
    proxy.fallSilent();
    const event = await endOrder(database.url, basket, orderId, 'failed');
    await expectSoon(() => told).toEqual([event.id]);
  });

  test('learns from another process what it has missed', async () => {
    const first = await startCableServer({ databaseUrl: database.url, pollMs, pingMs });
    const { port } = await start();
    const proxy = await openTcpProxy(`http://127.0.0.1:${first.port}`);
    ends.push(proxy.close);
    const basket = await insertBasket(database.url);
    const { told, states } = open(kind, Number(new URL(proxy.url).port)).listen(basket.token);
    await expectSoon(() => states).toContain('connected');
    const seen = await end(basket, 'failed');
    await expectSoon(() => told).toEqual([seen.id]);
    proxy.redirect(`http://127.0.0.1:${port}`);
    const orderId = await insertOrder(database.url, basket);
    await first.stop();
    const missed = await endOrder(database.url, basket, orderId, 'completed');
    await expectSoon(() => told).toEqual([seen.id, missed.id]);
  });

  test('comes back to a server that was started again, and learns what it has missed', async () => {
    const server = await startCableServer({ databaseUrl: database.url, pollMs, pingMs, port: await choosePort() });
    const basket = await insertBasket(database.url);
    const orderId = await insertOrder(database.url, basket);
    const { told, states } = open(kind, server.port).listen(basket.token);
    await expectSoon(() => states).toContain('connected');
    await server.stop();
    await expectSoon(() => states).toContain('disconnected');
    const event = await endOrder(database.url, basket, orderId, 'completed');
    const { notifications } = await start(server.port);
    await expectSoon(() => told).toEqual([event.id]);
    const next = await end(basket, 'failed');
    announce(notifications, next);
    await expectSoon(() => told).toEqual([event.id, next.id]);
  });

  test('that listens twice to a basket is told once each', async () => {
    const { port } = await start();
    const basket = await insertBasket(database.url);
    const client = open(kind, port);
    const [one, other] = [client.listen(basket.token), client.listen(basket.token)];
    await expectSoon(() => [one.states, other.states].every((states) => states.includes('connected'))).toBe(true);
    const first = await end(basket, 'failed');
    await expectSoon(() => [one.told, other.told]).toEqual([[first.id], [first.id]]);
    one.stop();
    const second = await end(basket, 'completed');
    await expectSoon(() => other.told).toEqual([first.id, second.id]);
    expect(one.told).toEqual([first.id]);
  });

  test('is rejected without the token', async () => {
    const { port } = await start();
    const basket = await insertBasket(database.url);
    await end(basket, 'completed');
    const client = open(kind, port);
    const strangers = [basket.id, newId(), 'x'].map((token) => client.listen(token));
    await expectSoon(() => strangers.map(({ states }) => states)).toEqual([['rejected'], ['rejected'], ['rejected']]);
    expect(strangers.flatMap(({ told }) => told)).toEqual([]);
  });
});

describe('who comes back after ten minutes', () => {
  test.each(clientKinds)('with %s learns what has become of the basket meanwhile', async (kind) => {
    const { port, proxy } = await startBehindProxy();
    const basket = await insertBasket(database.url);
    const { told, states } = open(kind, port).listen(basket.token);
    await expectSoon(() => states).toContain('connected');
    const seen = await end(basket, 'failed');
    await expectSoon(() => told).toEqual([seen.id]);
    proxy.swallow();
    proxy.cut();
    await expectSoon(() => states).toContain('disconnected');
    const missed = [await end(basket, 'failed'), await end(basket, 'completed')].map(({ id }) => id);
    await age(basket, 10);
    proxy.cut();
    proxy.heal();
    const latest = isExtended(kind) ? missed : missed.slice(-1);
    await expectSoon(() => told).toEqual([seen.id, ...latest]);
  });

  test('and knows nothing yet is told all that ended since, if its client can tell since when', async () => {
    const { port } = await start();
    const basket = await insertBasket(database.url);
    const events = [await end(basket, 'failed'), await end(basket, 'cancelled'), await end(basket, 'completed')];
    await age(basket, 9);
    const since = Math.floor(Date.now() / 1_000) - 600;
    const { told } = open('@anycable/core, extended', port, since).listen(basket.token);
    await expectSoon(() => told).toEqual(events.map(({ id }) => id));
  });
});

test('an extended client is told nothing again after a cut in which nothing happened', async () => {
  const { port, proxy } = await startBehindProxy();
  const basket = await insertBasket(database.url);
  const first = await end(basket, 'failed');
  const { told, states } = open('@anycable/core, extended', port).listen(basket.token);
  await expectSoon(() => told).toEqual([first.id]);
  proxy.cut();
  await expectSoon(() => states.filter((state) => state === 'history_received')).toHaveLength(2);
  const second = await end(basket, 'completed');
  await expectSoon(() => told).toEqual([first.id, second.id]);
});

test('an extended client that knows offsets of another database is told so, and the latest outcome', async () => {
  const server = await startCableServer({ databaseUrl: database.url, pollMs, pingMs, epoch: 'before' });
  const basket = await insertBasket(database.url);
  const event = await end(basket, 'completed');
  const { told, states } = open('@anycable/core, extended', server.port).listen(basket.token);
  await expectSoon(() => told).toEqual([event.id]);
  await server.stop();
  await start(server.port);
  await expectSoon(() => states).toContain('history_not_found');
  await expectSoon(() => told).toEqual([event.id, event.id]);
});
