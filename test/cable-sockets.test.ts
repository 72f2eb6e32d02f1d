import { setImmediate as nextTurn } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { announce } from '../src/modules/notifications/notifications.service.ts';
import { newId } from '../src/shared/ids.ts';
import { Unavailable } from '../src/shared/refusal.ts';
import { type CableClient, connect, identifierOf, refusal } from './support/cable-client.ts';
import { type CableServer, type CableServerOptions, startCableServer } from './support/cable-server.ts';
import { expectSoon } from './support/expect-soon.ts';
import { type Basket, endOrder, insertBasket, insertOrder } from './support/ordered-basket.ts';
import { createTestDatabase, type TestDatabase } from './support/postgres.ts';

let database: TestDatabase;
const ends: Array<() => unknown> = [];

beforeAll(async () => {
  database = await createTestDatabase();
});

afterEach(async () => {
  vi.restoreAllMocks();
  for (const end of ends.splice(0).reverse()) await end();
});

afterAll(() => database.drop());

async function start(options: Partial<CableServerOptions> = {}): Promise<CableServer> {
  const server = await startCableServer({ databaseUrl: database.url, ...options });
  ends.push(server.stop);
  return server;
}

async function orderedBasket() {
  const basket = await insertBasket(database.url);
  const orderId = await insertOrder(database.url, basket);
  return {
    basket,
    end: (kind: Parameters<typeof endOrder>[3]) => endOrder(database.url, basket, orderId, kind),
  };
}

const subscribe = (basket: Basket) => ({ command: 'subscribe', identifier: identifierOf(basket) });
const unsubscribe = (basket: Basket) => ({ command: 'unsubscribe', identifier: identifierOf(basket) });
const confirmed = (basket: Basket) => ({ identifier: identifierOf(basket), type: 'confirm_subscription' });
const told = (basket: Basket, event: { id: string }) => ({
  identifier: identifierOf(basket),
  message: expect.objectContaining({ event_id: event.id }),
});

/** Holds the reads of one name until they are released. */
function holdReads(name: string) {
  const { promise, resolve: release } = Promise.withResolvers<void>();
  let held = 0;
  const hold = (statement: { name: string }): Promise<void> | undefined => {
    if (statement.name !== name) return undefined;
    held++;
    return promise;
  };
  return { hold, release, held: () => held };
}

describe('an upgrade', () => {
  const error = (code: number, message: string) => ({ status: code, body: { error: { code, messages: [message] } } });
  const shop = 'https://shop.example';

  test('to another path is refused', async () => {
    const { port } = await start();
    expect(await refusal(port, { path: '/cables' })).toEqual(error(404, 'Not found'));
    expect(await refusal(port, { path: '/' })).toEqual(error(404, 'Not found'));
  });

  test('may carry a query', async () => {
    const { port } = await start();
    const client = await connect(port, { path: '/cable?locale=en' });
    expect(client.socket.protocol).toBe('actioncable-v1-json');
  });

  test('from an origin that is not allowed is refused', async () => {
    const { port } = await start({ isAllowedOrigin: (origin, host) => origin === `http://${host}` || origin === shop });
    const refused = error(403, 'Origin is not allowed');
    expect(await refusal(port, { origin: 'https://evil.example' })).toEqual(refused);
    expect(await refusal(port, { origin: 'null' })).toEqual(refused);
    await connect(port, { origin: shop });
    await connect(port, { origin: `http://127.0.0.1:${port}` });
  });

  test('without an origin comes from no browser and is accepted', async () => {
    const { port } = await start({ isAllowedOrigin: () => false });
    await connect(port);
  });

  test('that offers only other subprotocols is refused', async () => {
    const { port } = await start();
    const refused = error(400, 'Subprotocol must be actioncable-v1-json or actioncable-v1-ext-json');
    expect(await refusal(port, { protocols: ['actioncable-unsupported', 'graphql-ws'] })).toEqual(refused);
  });

  test('gets the first subprotocol of its offer that is spoken here', async () => {
    const { port } = await start();
    const [plain, extended] = ['actioncable-v1-json', 'actioncable-v1-ext-json'];
    for (const protocols of [[plain], [extended], [extended, plain], [plain, extended]]) {
      const client = await connect(port, { protocols: ['actioncable-unsupported', ...protocols] });
      expect(client.socket.protocol).toBe(protocols[0]);
    }
  });

  test('that offers no subprotocol is accepted', async () => {
    const { port } = await start();
    const client = await connect(port, { protocols: [] });
    expect(client.socket.protocol).toBe('');
  });

  test('beyond the number of sockets is refused until one closes', async () => {
    const { port } = await start({ maxSockets: 2 });
    const first = await connect(port);
    await connect(port);
    expect(await refusal(port)).toEqual(error(503, 'Too many connections'));
    first.socket.close();
    await first.closeCode;
    await expectSoon(() => connect(port).then(() => 'accepted', String)).toBe('accepted');
  });
});

describe('a subscription', () => {
  test('is confirmed before its outcome comes, under the identifier as it was sent', async () => {
    const { port } = await start();
    const { basket, end } = await orderedBasket();
    const event = await end('completed');
    const client = await connect(port);
    const identifier = ` {"shopping_basket_id" : "${basket.token}", "channel":"CheckoutNotifications\\u0043hannel", "é":"\\ud800"}`;
    client.send({ command: 'subscribe', identifier });
    await expectSoon(() => client.frames).toEqual([
      { identifier, type: 'confirm_subscription' },
      { identifier, message: expect.objectContaining({ event_id: event.id }) },
    ]);
  });

  test('that is repeated is confirmed again, and nothing comes twice', async () => {
    const { port, notifications } = await start({ pollMs: 20 });
    const { basket, end } = await orderedBasket();
    const first = await end('completed');
    const client = await connect(port);
    client.send(subscribe(basket));
    await expectSoon(() => client.frames).toEqual([confirmed(basket), told(basket, first)]);
    client.send(subscribe(basket));
    await expectSoon(() => client.frames).toEqual([confirmed(basket), told(basket, first), confirmed(basket)]);
    const second = await end('refunded');
    announce(notifications, second);
    await expectSoon(() => client.frames).toEqual([
      confirmed(basket),
      told(basket, first),
      confirmed(basket),
      told(basket, second),
    ]);
  });

  test('that is repeated before it is confirmed is looked up and confirmed once', async () => {
    const lookup = holdReads('notifications.stream');
    const { port } = await start({ beforeRead: lookup.hold });
    const { basket, end } = await orderedBasket();
    const event = await end('failed');
    const client = await connect(port);
    for (let repeat = 0; repeat < 3; repeat++) client.send(subscribe(basket));
    await client.settled();
    lookup.release();
    await expectSoon(() => client.frames).toEqual([confirmed(basket), told(basket, event)]);
    expect(lookup.held()).toBe(1);
  });

  test('that is ended while it is looked up leaves nothing behind', async () => {
    const lookup = holdReads('notifications.stream');
    const { port, notifications } = await start({ beforeRead: lookup.hold });
    const [ended, kept] = [await orderedBasket(), await orderedBasket()];
    const client = await connect(port);
    client.send(subscribe(ended.basket));
    client.send(unsubscribe(ended.basket));
    client.send(subscribe(kept.basket));
    await client.settled();
    lookup.release();
    await expectSoon(() => client.frames).toEqual([confirmed(kept.basket)]);
    expect(notifications.streams.seen()).toEqual([{ basketId: kept.basket.id, offset: 0 }]);
  });

  test('that is ended and made anew while it is looked up is confirmed once', async () => {
    const lookup = holdReads('notifications.stream');
    const { port, notifications } = await start({ beforeRead: lookup.hold });
    const { basket, end } = await orderedBasket();
    const client = await connect(port);
    client.send(subscribe(basket));
    client.send(unsubscribe(basket));
    client.send(subscribe(basket));
    await client.settled();
    lookup.release();
    await expectSoon(() => client.frames).toEqual([confirmed(basket)]);
    const event = await end('completed');
    announce(notifications, event);
    await expectSoon(() => client.frames).toEqual([confirmed(basket), told(basket, event)]);
  });

  test('whose socket closes while it is looked up leaves nothing behind', async () => {
    const lookup = holdReads('notifications.stream');
    const { port, notifications, connections } = await start({ beforeRead: lookup.hold });
    const { basket } = await orderedBasket();
    const client = await connect(port);
    client.send(subscribe(basket));
    await expectSoon(lookup.held).toBe(1);
    client.socket.close();
    await client.closeCode;
    await expectSoon(() => connections[0]?.destroyed).toBe(true);
    lookup.release();
    const other = await connect(port);
    other.send(subscribe(basket));
    await expectSoon(() => other.frames).toEqual([confirmed(basket)]);
    other.send(unsubscribe(basket));
    await other.settled();
    expect(notifications.streams.seen()).toEqual([]);
  });

  test('ends with its socket', async () => {
    const { port, notifications } = await start();
    const { basket } = await orderedBasket();
    const client = await connect(port);
    client.send(subscribe(basket));
    await expectSoon(() => notifications.streams.seen()).toHaveLength(1);
    client.socket.terminate();
    await expectSoon(() => notifications.streams.seen()).toEqual([]);
  });

  test('gets an event that is committed and announced between its look-up and its watch', async () => {
    const { basket, end } = await orderedBasket();
    const { promise: event, resolve } = Promise.withResolvers<{ id: string }>();
    const server = await start({
      pollMs: 20,
      afterRead: async (statement) => {
        if (statement.name !== 'notifications.stream') return;
        const committed = await end('completed');
        announce(server.notifications, committed);
        resolve(committed);
      },
    });
    const client = await connect(server.port);
    client.send(subscribe(basket));
    const expected = [confirmed(basket), told(basket, await event)];
    await expectSoon(() => client.frames).toEqual(expected);
  });

  test('gets its messages in order, however long one takes to render', async () => {
    const rendering = holdReads('orders.order');
    const { port, notifications } = await start({ beforeRead: rendering.hold });
    const { basket, end } = await orderedBasket();
    const client = await connect(port);
    client.send(subscribe(basket));
    await expectSoon(() => client.frames).toEqual([confirmed(basket)]);
    const first = await end('completed');
    announce(notifications, first);
    await expectSoon(rendering.held).toBe(1);
    const second = await end('refunded');
    announce(notifications, second);
    rendering.release();
    await expectSoon(() => client.frames).toEqual([confirmed(basket), told(basket, first), told(basket, second)]);
  });

  test('that is ended while its message is rendered gets it no more', async () => {
    const rendering = holdReads('orders.order');
    const { port } = await start({ beforeRead: rendering.hold });
    const [ended, kept] = [await orderedBasket(), await orderedBasket()];
    await ended.end('completed');
    const event = await kept.end('completed');
    const client = await connect(port);
    client.send(subscribe(ended.basket));
    client.send(subscribe(kept.basket));
    await expectSoon(rendering.held).toBe(2);
    client.send(unsubscribe(ended.basket));
    await client.settled();
    rendering.release();
    await expectSoon(() => client.frames).toEqual([
      confirmed(ended.basket),
      confirmed(kept.basket),
      told(kept.basket, event),
    ]);
  });

  test('that is ended while it waits for its turn is never looked up', async () => {
    const lookup = holdReads('notifications.stream');
    const { port } = await start({ beforeRead: lookup.hold });
    const { basket } = await orderedBasket();
    const clients = await Promise.all(Array.from({ length: 4 }, () => connect(port)));
    for (const client of clients) client.send(subscribe(basket));
    await expectSoon(lookup.held).toBe(4);
    const [gone, last] = [await connect(port), await connect(port)];
    gone.send(subscribe(basket));
    gone.send(unsubscribe(basket));
    await gone.settled();
    last.send(subscribe(basket));
    await last.settled();
    lookup.release();
    await expectSoon(() => last.frames).toEqual([confirmed(basket)]);
    expect(lookup.held()).toBe(5);
  });

  test('of many sockets to one basket is rendered once for all', async () => {
    const rendering = holdReads('orders.order');
    const { port, notifications } = await start({ beforeRead: rendering.hold });
    const { basket, end } = await orderedBasket();
    const clients = await Promise.all(Array.from({ length: 20 }, () => connect(port)));
    for (const client of clients) client.send(subscribe(basket));
    await expectSoon(() => clients.map((client) => client.frames)).toEqual(clients.map(() => [confirmed(basket)]));
    const event = await end('completed');
    announce(notifications, event);
    rendering.release();
    await expectSoon(() => clients.map((client) => client.frames)).toEqual(
      clients.map(() => [confirmed(basket), told(basket, event)]),
    );
    expect(rendering.held()).toBe(1);
  });
});

describe('while the database is away', () => {
  const outage = { isOn: false, reads: 0 };
  const beforeRead = async (): Promise<void> => {
    outage.reads++;
    if (outage.isOn) throw new Unavailable('The database cannot be reached');
  };

  test('a subscription waits for it, and no report names a token', async () => {
    const { port, errors } = await start({ beforeRead });
    const { basket, end } = await orderedBasket();
    const event = await end('completed');
    outage.isOn = true;
    const client = await connect(port);
    client.send(subscribe(basket));
    await expectSoon(() => errors).toHaveLength(1);
    outage.isOn = false;
    await expectSoon(() => client.frames).toEqual([confirmed(basket), told(basket, event)]);
    expect(errors.map((error) => `${error.message}${error.stack}`).join()).not.toContain(basket.token);
  });

  test('a message waits for it', async () => {
    const { port, notifications, errors } = await start({ beforeRead });
    const { basket, end } = await orderedBasket();
    const client = await connect(port);
    client.send(subscribe(basket));
    await expectSoon(() => client.frames).toEqual([confirmed(basket)]);
    outage.isOn = true;
    const event = await end('failed');
    announce(notifications, event);
    await expectSoon(() => errors).toHaveLength(1);
    outage.isOn = false;
    await expectSoon(() => client.frames).toEqual([confirmed(basket), told(basket, event)]);
  });

  test('nothing is tried again for who has gone', async () => {
    // Retries are jittered: without it, who failed first tries again first.
    vi.spyOn(Math, 'random').mockReturnValue(0);
    const { port, errors } = await start({ beforeRead });
    const { basket } = await orderedBasket();
    outage.isOn = true;
    outage.reads = 0;
    const [gone, patient] = [await connect(port), await connect(port)];
    gone.send(subscribe(basket));
    await expectSoon(() => errors).toHaveLength(1);
    gone.send(unsubscribe(basket));
    await gone.settled();
    patient.send(subscribe(basket));
    await expectSoon(() => outage.reads).toBe(2);
    outage.isOn = false;
    await expectSoon(() => patient.frames).toEqual([confirmed(basket)]);
    expect(outage.reads).toBe(3);
  });

  test('many sockets that fail make few reports, and what can be refused without it is', async () => {
    const { port, errors } = await start({ beforeRead });
    const { basket } = await orderedBasket();
    outage.isOn = true;
    outage.reads = 0;
    const clients = await Promise.all(Array.from({ length: 20 }, () => connect(port)));
    for (const client of clients) client.send(subscribe(basket));
    await expectSoon(() => outage.reads).toBeGreaterThanOrEqual(20);
    expect(errors.length).toBeLessThan(5);
    for (const client of clients) await client.settled();
    outage.isOn = false;
    await expectSoon(() => clients.map((client) => client.frames)).toEqual(clients.map(() => [confirmed(basket)]));
  });
});

describe('a socket', () => {
  const dismissal = (reason: string, reconnect: boolean) => ({ type: 'disconnect', reason, reconnect });

  test.each([
    ['no JSON', 'hello'],
    ['nothing', ''],
    ['a list', '[]'],
    ['a number', '1'],
    ['null', 'null'],
    ['no command', '{}'],
    ['a command of another type', '{"command":["subscribe"],"identifier":"{}"}'],
    ['a command in its prototype', '{"__proto__":{"command":"subscribe","identifier":"{}"}}'],
    ['no identifier', '{"command":"subscribe"}'],
    [
      'an identifier that is no text',
      '{"command":"subscribe","identifier":{"channel":"CheckoutNotificationsChannel"}}',
    ],
    ['60,000 nested lists', `{"command":"subscribe","identifier":${'['.repeat(30_000)}${']'.repeat(30_000)}}`],
  ])('that sends %s is told not to come back', async (_, frame) => {
    const { port } = await start();
    const client = await connect(port);
    client.socket.send(frame);
    expect(await client.closeCode).toBe(1008);
    expect(client.frames).toEqual([dismissal('invalid_request', false)]);
  });

  test('that sends a command of another kind is served on', async () => {
    const { port } = await start();
    const { basket } = await orderedBasket();
    const client = await connect(port);
    client.send({ command: 'whisper', identifier: identifierOf(basket), data: { typing: true } });
    client.send({ command: 'dance' });
    client.send(subscribe(basket));
    await expectSoon(() => client.frames).toContainEqual({
      type: 'confirm_subscription',
      identifier: identifierOf(basket),
    });
  });

  test('that sends a binary frame is told not to come back', async () => {
    const { port } = await start();
    const { basket } = await orderedBasket();
    const client = await connect(port);
    client.socket.send(Buffer.from(JSON.stringify(subscribe(basket))), { binary: true });
    expect(await client.closeCode).toBe(1008);
    expect(client.frames).toEqual([dismissal('invalid_request', false)]);
  });

  test('is not listened to any more once it was told to go', async () => {
    const lookup = holdReads('notifications.stream');
    const { port } = await start({ beforeRead: lookup.hold });
    const { basket } = await orderedBasket();
    const client = await connect(port);
    client.socket.send('hello');
    client.send(subscribe(basket));
    await client.closeCode;
    expect(client.frames).toEqual([dismissal('invalid_request', false)]);
    expect(lookup.held()).toBe(0);
  });

  test('may send messages and end what it never began, and nothing happens', async () => {
    const { port } = await start();
    const { basket } = await orderedBasket();
    const client = await connect(port);
    client.send({ command: 'message', identifier: identifierOf(basket), data: '{"action":"pay"}' });
    client.send(unsubscribe(basket));
    await client.settled();
    expect(client.frames).toEqual([]);
  });

  test('is closed by a frame of more than 64 KB', async () => {
    const { port } = await start();
    const client = await connect(port);
    client.socket.send('x'.repeat(64 * 1024 + 1));
    expect(await client.closeCode).toBe(1009);
  });

  test('is closed by a frame in too many pieces', async () => {
    const { port } = await start();
    const client = await connect(port);
    for (let piece = 0; piece < 100; piece++) client.socket.send('x', { fin: false });
    expect(await client.closeCode).toBe(1008);
  });

  test('is refused a subscription with an endless identifier', async () => {
    const { port } = await start();
    const { basket } = await orderedBasket();
    const client = await connect(port);
    const identifier = `${identifierOf(basket)}${' '.repeat(60_000)}`;
    client.send({ command: 'subscribe', identifier });
    await expectSoon(() => client.frames).toEqual([{ type: 'reject_subscription', identifier }]);
  });

  test('has at most 100 subscriptions of the 10,000 it asks for, and places come free', async () => {
    const { port, notifications } = await start();
    const { basket, end } = await orderedBasket();
    const client = await connect(port);
    const identifier = (number: number) =>
      JSON.stringify({ channel: 'CheckoutNotificationsChannel', shopping_basket_id: basket.token, number });
    const count = (type: string) => client.frames.filter((frame) => (frame as { type?: string }).type === type).length;
    for (let number = 0; number < 10_000; number++)
      client.send({ command: 'subscribe', identifier: identifier(number) });
    await expectSoon(() => count('confirm_subscription')).toBe(100);
    await expectSoon(() => count('reject_subscription')).toBe(9_900);
    client.send({ command: 'unsubscribe', identifier: identifier(0) });
    client.send({ command: 'subscribe', identifier: identifier(10_000) });
    await expectSoon(() => count('confirm_subscription')).toBe(101);
    announce(notifications, await end('completed'));
    await expectSoon(() => client.frames.filter((frame) => 'message' in (frame as object))).toHaveLength(100);
  });

  test('has one look-up under way at a time, and does not hold up other sockets', async () => {
    const { basket: slow } = await orderedBasket();
    const { basket: quick } = await orderedBasket();
    const { promise, resolve: release } = Promise.withResolvers<void>();
    let isFirst = true;
    let reads = 0;
    const { port } = await start({
      beforeRead: (statement) => {
        if (statement.name === 'notifications.stream') reads++;
        const isHeld = isFirst;
        isFirst = false;
        return isHeld ? promise : undefined;
      },
    });
    const [busy, other] = [await connect(port), await connect(port)];
    for (let number = 0; number < 50; number++)
      busy.send({ ...subscribe(slow), identifier: ` ${identifierOf(slow)}${' '.repeat(number)}` });
    await busy.settled();
    expect(reads).toBe(1);
    other.send(subscribe(quick));
    await expectSoon(() => other.frames).toEqual([confirmed(quick)]);
    expect(reads).toBe(2);
    release();
    await expectSoon(() => busy.frames).toHaveLength(50);
  });

  test('is sent the time as a sign of life, and lives on while it answers', async () => {
    const { port } = await start({ pingMs: 10 });
    const client = await connect(port);
    await expectSoon(() => client.pings.length).toBeGreaterThan(50);
    const now = Date.now() / 1000;
    expect(client.pings.every((ping) => Number.isInteger(ping) && ping > now - 60 && ping <= now)).toBe(true);
    expect(client.socket.readyState).toBe(client.socket.OPEN);
  });

  test('whose peer is gone is given up', async () => {
    const { port, notifications } = await start({ pingMs: 10 });
    const { basket } = await orderedBasket();
    const client = await connect(port, { autoPong: false });
    client.send(subscribe(basket));
    expect(await client.closeCode).toBe(1006);
    await expectSoon(() => notifications.streams.seen()).toEqual([]);
  });

  test('leaves no timer behind', async () => {
    const timers = () => process.getActiveResourcesInfo().filter((resource) => resource === 'Timeout').length;
    const { port } = await start({ pingMs: 3_600_000 });
    const before = timers();
    const clients = await Promise.all(Array.from({ length: 30 }, () => connect(port)));
    expect(timers()).toBeGreaterThanOrEqual(before + 20);
    for (const client of clients) client.socket.close();
    await expectSoon(timers).toBeLessThan(before + 10);
  });

  test('that does not read what it asks for is told to come back', async () => {
    const { port, connections } = await start();
    const client = await connect(port);
    const [peer] = connections;
    const request = { command: 'subscribe', identifier: 'x'.repeat(60_000) };
    client.socket.pause();
    while (peer && peer.writableLength <= 1024 * 1024) {
      client.send(request);
      await nextTurn();
    }
    client.send(request);
    client.socket.resume();
    expect(await client.closeCode).toBe(1013);
    expect(client.frames.at(-1)).toEqual(dismissal('remote', true));
  });

  test('that never reads again is cut off', async () => {
    const { port, notifications, connections } = await start();
    const { basket } = await orderedBasket();
    const client = await connect(port);
    client.send(subscribe(basket));
    await expectSoon(() => client.frames).toEqual([confirmed(basket)]);
    const [peer] = connections;
    client.socket.pause();
    while (peer && peer.writableLength <= 1024 * 1024) {
      client.send({ command: 'subscribe', identifier: 'x'.repeat(60_000) });
      await nextTurn();
    }
    client.send({ command: 'subscribe', identifier: newId() });
    await expectSoon(() => peer?.destroyed).toBe(true);
    await expectSoon(() => notifications.streams.seen()).toEqual([]);
    client.socket.terminate();
  });
});

describe('closing', () => {
  const restart = { type: 'disconnect', reason: 'server_restart', reconnect: true };

  test('tells every client to come back', async () => {
    const server = await startCableServer({ databaseUrl: database.url });
    const clients: CableClient[] = await Promise.all([connect(server.port), connect(server.port)]);
    await server.stop();
    for (const client of clients) {
      expect(await client.closeCode).toBe(1001);
      expect(client.frames).toEqual([restart]);
    }
  });

  test('does not wait for a client that says nothing', async () => {
    const server = await startCableServer({ databaseUrl: database.url });
    const client = await connect(server.port);
    client.socket.pause();
    await server.stop();
    expect(server.connections.map((connection) => connection.destroyed)).toEqual([true]);
    client.socket.terminate();
  });
});
