import { setImmediate as nextTurn } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { announce } from '../src/modules/notifications/notifications.service.ts';
import { Unavailable } from '../src/shared/refusal.ts';
import { type CableClient, connect, identifierOf } from './support/cable-client.ts';
import { type CableServer, type CableServerOptions, startCableServer } from './support/cable-server.ts';
import { expectSoon } from './support/expect-soon.ts';
import {
  type Basket,
  cancelManyOrders,
  type Ending,
  endOrder,
  insertBasket,
  insertOrder,
} from './support/ordered-basket.ts';
import { createTestDatabase, onServer, type TestDatabase } from './support/postgres.ts';

const epoch = 'epoch';
const foreignId = '0198f0de-7b7e-7e3a-9d53-1f3b8c2d4e5f';

let database: TestDatabase;
const ends: Array<() => unknown> = [];

beforeAll(async () => {
  database = await createTestDatabase();
});

afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

afterAll(() => database.drop());

async function start(options: Partial<CableServerOptions> = {}): Promise<CableServer> {
  const server = await startCableServer({ databaseUrl: database.url, epoch, ...options });
  ends.push(server.stop);
  return server;
}

function connectExtended({ port }: CableServer): Promise<CableClient> {
  return connect(port, { protocols: ['actioncable-v1-ext-json'] });
}

type Told = Readonly<{ id: string; offset: number }>;

/** A basket whose orders ended so, one after the other. */
async function basketWith(...endings: Ending[]): Promise<{ basket: Basket; events: Told[] }> {
  const basket = await insertBasket(database.url);
  const events: Told[] = [];
  for (const ending of endings) events.push(await end(basket, ending));
  return { basket, events };
}

async function end(basket: Basket, ending: Ending): Promise<Told & Parameters<typeof announce>[1]> {
  return endOrder(database.url, basket, await insertOrder(database.url, basket), ending);
}

/** Makes the events of a basket so much older. */
function age(basket: Basket, offsets: readonly number[], seconds: number): Promise<unknown> {
  return onServer(database.url, (client) =>
    client.query(
      `UPDATE events SET created_at = created_at - make_interval(secs => $3)
        WHERE basket_id = $1 AND stream_offset = ANY ($2)`,
      [basket.id, offsets, seconds],
    ),
  );
}

function purge(basket: Basket, through: number): Promise<unknown> {
  return onServer(database.url, (client) =>
    client.query('DELETE FROM events WHERE basket_id = $1 AND stream_offset <= $2', [basket.id, through]),
  );
}

const now = () => Math.floor(Date.now() / 1_000);
const beyond = (basket: Basket, offset: number) => ({ streams: { [basket.id]: { offset, epoch } } });
const subscribe = (basket: Basket, history?: unknown) => ({
  command: 'subscribe',
  identifier: identifierOf(basket),
  ...(history === undefined ? {} : { history }),
});
const ask = (basket: Basket, history: unknown) => ({ command: 'history', identifier: identifierOf(basket), history });

const confirmed = (basket: Basket) => ({ identifier: identifierOf(basket), type: 'confirm_subscription' });
const whole = (basket: Basket) => ({ identifier: identifierOf(basket), type: 'confirm_history' });
const refused = (basket: Basket) => ({ identifier: identifierOf(basket), type: 'reject_history' });
const told = (basket: Basket, event: Told) => ({
  identifier: identifierOf(basket),
  message: expect.objectContaining({ event_id: event.id }),
  stream_id: basket.id,
  epoch,
  offset: event.offset,
});

describe('a message', () => {
  test('says where in which stream it stands, and never the token', async () => {
    const server = await start();
    const { basket, events } = await basketWith('failed', 'completed');
    const client = await connectExtended(server);
    client.send(subscribe(basket));
    await expectSoon(() => client.frames).toEqual([confirmed(basket), told(basket, events[1] as Told)]);
    const live = await end(basket, 'failed');
    announce(server.notifications, live);
    await expectSoon(() => client.frames.at(-1)).toEqual(told(basket, live));
    const { identifier: _, ...rest } = client.frames.at(-1) as Record<string, unknown>;
    expect(JSON.stringify(rest)).not.toContain(basket.token);
  });

  test('says nothing of it to clients of the plain protocol, whatever they ask for', async () => {
    const { port } = await start();
    const { basket, events } = await basketWith('failed', 'completed');
    const client = await connect(port);
    client.send(subscribe(basket, beyond(basket, 0)));
    const message = expect.objectContaining({ event_id: events[1]?.id });
    await expectSoon(() => client.frames).toEqual([confirmed(basket), { identifier: identifierOf(basket), message }]);
  });
});

describe('who subscribes with the last offset that it knows', () => {
  test.each([0, 1, 2, 3])('is told in order what came after %i, and of nothing before it', async (offset) => {
    const server = await start();
    const { basket, events } = await basketWith('failed', 'cancelled', 'completed');
    const client = await connectExtended(server);
    client.send(subscribe(basket, beyond(basket, offset)));
    const expected = events.slice(offset).map((event) => told(basket, event));
    await expectSoon(() => client.frames).toEqual([confirmed(basket), ...expected, whole(basket)]);
  });

  test('is told by offset even if it names a time as well', async () => {
    const server = await start();
    const { basket, events } = await basketWith('failed', 'completed');
    const client = await connectExtended(server);
    client.send(subscribe(basket, { since: now() - 600, ...beyond(basket, 1) }));
    await expectSoon(() => client.frames).toEqual([confirmed(basket), told(basket, events[1] as Told), whole(basket)]);
  });

  test('is told of what is live only once the history is through', async () => {
    const { promise, resolve: release } = Promise.withResolvers<void>();
    let held = 0;
    const server = await start({
      beforeRead: (statement) => (statement.name === 'notifications.history' && held++ === 0 ? promise : undefined),
    });
    const { basket, events } = await basketWith('failed', 'failed');
    const client = await connectExtended(server);
    client.send(subscribe(basket, beyond(basket, 0)));
    await expectSoon(() => held).toBe(1);
    const live = await end(basket, 'completed');
    announce(server.notifications, live);
    await client.settled();
    expect(client.frames).toEqual([confirmed(basket)]);
    release();
    const history = events.map((event) => told(basket, event));
    await expectSoon(() => client.frames).toEqual([confirmed(basket), ...history, whole(basket), told(basket, live)]);
  });

  test('is told once of what is committed and announced while it is looked up', async () => {
    const { basket, events } = await basketWith('failed');
    const { promise: live, resolve } = Promise.withResolvers<Told>();
    const server = await start({
      pollMs: 20,
      afterRead: async (statement) => {
        if (statement.name !== 'notifications.stream') return;
        const event = await end(basket, 'completed');
        announce(server.notifications, event);
        resolve(event);
      },
    });
    const client = await connectExtended(server);
    client.send(subscribe(basket, beyond(basket, 0)));
    const history = [told(basket, events[0] as Told), whole(basket)];
    const expected = [confirmed(basket), ...history, told(basket, await live)];
    await expectSoon(() => client.frames).toEqual(expected);
  });

  test('waits for a database that is away', async () => {
    let isAway = true;
    const server = await start({
      beforeRead: async (statement) => {
        if (isAway && statement.name === 'notifications.history') throw new Unavailable('The database is away');
      },
    });
    const { basket, events } = await basketWith('failed', 'completed');
    const client = await connectExtended(server);
    client.send(subscribe(basket, beyond(basket, 1)));
    await expectSoon(() => server.errors.length).toBeGreaterThan(0);
    isAway = false;
    await expectSoon(() => client.frames).toEqual([confirmed(basket), told(basket, events[1] as Told), whole(basket)]);
  });
});

describe('who subscribes with the time since when it knows nothing', () => {
  test('is told what came since, with a minute for its clock', async () => {
    const server = await start();
    const { basket, events } = await basketWith('failed', 'failed', 'completed');
    await age(basket, [1], 600);
    await age(basket, [2], 30);
    const client = await connectExtended(server);
    client.send(subscribe(basket, { since: now() + 15 }));
    const history = events.slice(1).map((event) => told(basket, event));
    await expectSoon(() => client.frames).toEqual([confirmed(basket), ...history, whole(basket)]);
  });

  test('is told of the latest outcome, too, when that is older', async () => {
    const server = await start();
    const { basket, events } = await basketWith('failed', 'completed');
    await age(basket, [1, 2], 600);
    const client = await connectExtended(server);
    client.send(subscribe(basket, { since: now(), streams: {} }));
    await expectSoon(() => client.frames).toEqual([confirmed(basket), told(basket, events[1] as Told), whole(basket)]);
  });

  test('is not told of an earlier checkout that failed before, while the next one is under way', async () => {
    const server = await start();
    const { basket } = await basketWith('failed');
    await age(basket, [1], 20);
    const orderId = await insertOrder(database.url, basket);
    const client = await connectExtended(server);
    client.send(subscribe(basket, { since: now() - 10 }));
    await expectSoon(() => client.frames).toEqual([confirmed(basket), whole(basket)]);
    const live = await endOrder(database.url, basket, orderId, 'completed');
    announce(server.notifications, live);
    await expectSoon(() => client.frames).toEqual([confirmed(basket), whole(basket), told(basket, live)]);
  });

  test('is told of one that failed since, while the next one is under way', async () => {
    const server = await start();
    const { basket, events } = await basketWith('failed');
    await insertOrder(database.url, basket);
    const client = await connectExtended(server);
    client.send(subscribe(basket, { since: now() - 10 }));
    await expectSoon(() => client.frames).toEqual([confirmed(basket), told(basket, events[0] as Told), whole(basket)]);
  });

  test.each([0, 1e11, 1_800_000_000.5])('may name any time, such as %d', async (since) => {
    const server = await start();
    const { basket } = await basketWith();
    const client = await connectExtended(server);
    client.send(subscribe(basket, { since }));
    await expectSoon(() => client.frames).toEqual([confirmed(basket), whole(basket)]);
  });
});

describe('a history that cannot be told is rejected, and the latest outcome told all the same:', () => {
  test.each([
    ['of another epoch', (basket: Basket) => ({ streams: { [basket.id]: { offset: 1, epoch: 'other' } } })],
    ['behind the end', (basket: Basket) => beyond(basket, 3)],
    ['of another stream', () => ({ since: 1, streams: { [foreignId]: { offset: 0, epoch } } })],
    ['of no number', (basket: Basket) => ({ streams: { [basket.id]: { offset: '1', epoch } } })],
    ['of a negative number', (basket: Basket) => ({ streams: { [basket.id]: { offset: -1, epoch } } })],
    ['of a number beyond all', (basket: Basket) => ({ streams: { [basket.id]: { offset: 1e300, epoch } } })],
    ['of no epoch', (basket: Basket) => ({ streams: { [basket.id]: { offset: 1 } } })],
    ['of no position', (basket: Basket) => ({ streams: { [basket.id]: null } })],
    ['of a list of streams', () => ({ streams: [] })],
    ['since a word', () => ({ since: 'yesterday' })],
    ['since before all times', () => ({ since: -1 })],
    ['since after all times', () => ({ since: 1e300 })],
    ['a number', () => 7],
    ['a list', () => []],
  ])('%s', async (_, history) => {
    const server = await start();
    const { basket, events } = await basketWith('failed', 'completed');
    const client = await connectExtended(server);
    client.send(subscribe(basket, history(basket)));
    const latest = told(basket, events[1] as Told);
    await expectSoon(() => client.frames).toEqual([confirmed(basket), refused(basket), latest]);
    expect(server.errors).toEqual([]);
  });

  test('that is not kept any more', async () => {
    const server = await start();
    const { basket, events } = await basketWith('failed', 'failed', 'completed');
    await purge(basket, 2);
    const client = await connectExtended(server);
    client.send(subscribe(basket, beyond(basket, 1)));
    const latest = told(basket, events[2] as Told);
    await expectSoon(() => client.frames).toEqual([confirmed(basket), refused(basket), latest]);
    client.send(ask(basket, beyond(basket, 2)));
    await expectSoon(() => client.frames.slice(3)).toEqual([latest, whole(basket)]);
  });
});

test.each([{}, { since: false }, { since: null, streams: {} }, null])(
  'who asks for nothing, with %j, is told as if it had not asked',
  async (history) => {
    const server = await start();
    const { basket, events } = await basketWith('failed', 'completed');
    const client = await connectExtended(server);
    client.send(subscribe(basket, history));
    await expectSoon(() => client.frames).toEqual([confirmed(basket), told(basket, events[1] as Told)]);
  },
);

describe('a subscription that asks for history later', () => {
  test('is told of it before what is live', async () => {
    const { promise, resolve: release } = Promise.withResolvers<void>();
    let held = 0;
    const server = await start({
      beforeRead: (statement) => (statement.name === 'notifications.history' && held++ === 0 ? promise : undefined),
    });
    const { basket, events } = await basketWith('failed', 'completed');
    const latest = told(basket, events[1] as Told);
    const client = await connectExtended(server);
    client.send(subscribe(basket));
    await expectSoon(() => client.frames).toEqual([confirmed(basket), latest]);
    client.send(ask(basket, { since: now() - 60 }));
    await expectSoon(() => held).toBe(1);
    const live = await end(basket, 'completed');
    announce(server.notifications, live);
    await client.settled();
    release();
    const history = [told(basket, events[0] as Told), latest, whole(basket)];
    await expectSoon(() => client.frames.slice(2)).toEqual([...history, told(basket, live)]);
  });

  test('is told of what was live before', async () => {
    const server = await start();
    const { basket } = await basketWith();
    const client = await connectExtended(server);
    client.send(subscribe(basket));
    await expectSoon(() => client.frames).toEqual([confirmed(basket)]);
    const live = await end(basket, 'failed');
    announce(server.notifications, live);
    await expectSoon(() => client.frames).toEqual([confirmed(basket), told(basket, live)]);
    client.send(ask(basket, beyond(basket, 0)));
    await expectSoon(() => client.frames.slice(2)).toEqual([told(basket, live), whole(basket)]);
  });

  test('before it is confirmed is confirmed first', async () => {
    const server = await start();
    const { basket, events } = await basketWith('failed', 'completed');
    const client = await connectExtended(server);
    client.send(subscribe(basket));
    client.send(ask(basket, beyond(basket, 0)));
    const history = events.map((event) => told(basket, event));
    await expectSoon(() => client.frames).toEqual([confirmed(basket), history[1], ...history, whole(basket)]);
  });

  test('is refused what it asks for while it waits for more', async () => {
    const { promise, resolve: release } = Promise.withResolvers<void>();
    const server = await start({
      beforeRead: (statement) => (statement.name === 'notifications.history' ? promise : undefined),
    });
    const { basket, events } = await basketWith('failed');
    const client = await connectExtended(server);
    client.send(subscribe(basket, beyond(basket, 1)));
    await expectSoon(() => client.frames).toEqual([confirmed(basket), whole(basket)]);
    for (let number = 0; number < 1_000; number++) client.send(ask(basket, beyond(basket, 0)));
    await client.settled();
    expect(client.frames.slice(2)).toEqual(Array.from({ length: 999 }, () => refused(basket)));
    release();
    await expectSoon(() => client.frames.slice(1_001)).toEqual([told(basket, events[0] as Told), whole(basket)]);
    client.send(ask(basket, beyond(basket, 1)));
    await expectSoon(() => client.frames.slice(1_003)).toEqual([whole(basket)]);
  });

  test.each([{ since: 'x' }, {}, undefined])('is refused when it asks with %j', async (history) => {
    const server = await start();
    const { basket, events } = await basketWith('completed');
    const client = await connectExtended(server);
    client.send(subscribe(basket));
    client.send(ask(basket, history));
    const expected = [confirmed(basket), told(basket, events[0] as Told), refused(basket)];
    await expectSoon(() => client.frames).toEqual(expected);
  });

  test('is refused without a subscription', async () => {
    const server = await start();
    const { basket } = await basketWith('completed');
    const client = await connectExtended(server);
    client.send(ask(basket, beyond(basket, 0)));
    await expectSoon(() => client.frames).toEqual([refused(basket)]);
  });
});

describe('a subscription of the extension', () => {
  test('that is repeated is neither confirmed nor told anything twice', async () => {
    const server = await start();
    const { basket, events } = await basketWith('completed');
    const client = await connectExtended(server);
    for (let repeat = 0; repeat < 3; repeat++) client.send(subscribe(basket, { since: now() }));
    const expected = [confirmed(basket), told(basket, events[0] as Told), whole(basket)];
    await expectSoon(() => client.frames).toEqual(expected);
    client.send(subscribe(basket, { since: now() }));
    await client.settled();
    expect(client.frames).toEqual(expected);
  });

  test.each(['id', 'no'] as const)('is rejected with history, too, without the token: %s', async (kind) => {
    const server = await start();
    const { basket } = await basketWith('completed');
    const stranger = { ...basket, token: kind === 'id' ? basket.id : foreignId };
    const client = await connectExtended(server);
    client.send(subscribe(stranger, beyond(basket, 0)));
    client.send(ask(stranger, beyond(basket, 0)));
    const rejected = { identifier: identifierOf(stranger), type: 'reject_subscription' };
    await expectSoon(() => client.frames).toContainEqual(rejected);
    await client.settled();
    expect(client.frames).not.toContainEqual(expect.objectContaining({ message: expect.anything() }));
  });

  test('that is ended while its history is read gets no more of it', async () => {
    const { promise, resolve: release } = Promise.withResolvers<void>();
    let held = 0;
    const server = await start({
      beforeRead: (statement) => (statement.name === 'notifications.history' && held++ === 0 ? promise : undefined),
    });
    const { basket } = await basketWith('failed', 'completed');
    const client = await connectExtended(server);
    client.send(subscribe(basket, beyond(basket, 0)));
    await expectSoon(() => held).toBe(1);
    client.send({ command: 'unsubscribe', identifier: identifierOf(basket) });
    client.send(subscribe(basket, beyond(basket, 2)));
    await expectSoon(() => client.frames).toEqual([confirmed(basket), confirmed(basket), whole(basket)]);
    release();
    await client.settled();
    expect(client.frames).toHaveLength(3);
  });

  test.each([
    { command: 'pong' },
    { command: 'whisper', identifier: '{}', data: {} },
    { command: 'join', identifier: '{}', presence: { id: 1 } },
    { command: 'presence', identifier: '{}' },
    { command: 'leave', identifier: '{}' },
    { command: 'what the next version brings' },
  ])('lets $command pass', async (command) => {
    const server = await start();
    const client = await connectExtended(server);
    client.send(command);
    await client.settled();
    expect(client.frames).toEqual([]);
    expect(client.socket.readyState).toBe(client.socket.OPEN);
  });

  test.each(['hello', '[]', '{}', '{"command":7}', '{"command":"history"}', '{"command":"subscribe","identifier":7}'])(
    'is over when the client sends %s',
    async (frame) => {
      const client = await connectExtended(await start());
      client.socket.send(frame);
      expect(await client.closeCode).toBe(1008);
      expect(client.frames).toEqual([{ type: 'disconnect', reason: 'invalid_request', reconnect: false }]);
    },
  );
});

describe('a history of thousands', () => {
  const length = 2_500;

  test('is read in pages, and told whole and in order', async () => {
    const pages: number[] = [];
    const server = await start({
      afterRead: async (statement, rows) => {
        if (statement.name === 'notifications.history') pages.push(rows.length);
      },
    });
    const { basket } = await basketWith();
    await cancelManyOrders(database.url, basket, length);
    const client = await connectExtended(server);
    client.send(subscribe(basket, beyond(basket, 10)));
    await expectSoon(() => client.frames.at(-1)).toEqual(whole(basket));
    const offsets = client.frames.slice(1, -1).map((frame) => (frame as Told).offset);
    expect(offsets).toEqual(Array.from({ length: length - 10 }, (_, index) => 11 + index));
    expect(Math.max(...pages)).toBe(100);
    expect(pages).toHaveLength(25);
  });

  test('ends for who does not read it, who is told to come back', async () => {
    let pages = 0;
    const server = await start({
      beforeRead: async (statement) => {
        if (statement.name === 'notifications.history') pages++;
      },
    });
    const { basket } = await basketWith();
    await cancelManyOrders(database.url, basket, length);
    const client = await connectExtended(server);
    const [peer] = server.connections;
    // It asks under a long name, which every message repeats.
    const identifier = identifierOf(basket).padEnd(4_096);
    client.send({ ...subscribe(basket, beyond(basket, 0)), identifier });
    client.socket.pause();
    while (peer && peer.writableLength <= 1024 * 1024) await nextTurn();
    client.socket.resume();
    expect(await client.closeCode).toBe(1013);
    expect(client.frames.at(-1)).toEqual({ type: 'disconnect', reason: 'remote', reconnect: true });
    expect(pages).toBeLessThan(25);
    await expectSoon(() => server.notifications.streams.seen()).toEqual([]);
  });
});
