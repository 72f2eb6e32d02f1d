import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { inProcessFanOut } from '../src/modules/notifications/fan-out.ts';
import {
  announce,
  type Notifications,
  type OutcomeEvent,
  openNotifications,
  watchBasket,
} from '../src/modules/notifications/notifications.service.ts';
import { openPostgresFanOut } from '../src/modules/notifications/postgres-fan-out.ts';
import { type Database, openDatabase } from '../src/platform/db.ts';
import { migrate } from '../src/platform/migrate.ts';
import { newId } from '../src/shared/ids.ts';
import { eventually } from './support/eventually.ts';
import { expectSoon } from './support/expect-soon.ts';
import { type Basket, cancelManyOrders, endOrder, insertBasket, insertOrder } from './support/ordered-basket.ts';
import { createTestDatabase, onServer, type TestDatabase } from './support/postgres.ts';
import { openPrivatePostgres } from './support/private-postgres.ts';
import { openTcpProxy, type TcpProxy, type TcpProxyOptions } from './support/tcp-proxy.ts';

/** A process of the shop, as far as events go. */
type Member = Readonly<{ notifications: Notifications; database: Database; errors: Error[] }>;

type MemberOptions = Readonly<{
  url?: string;
  /** Null: it neither tells nor hears anything. */
  listenUrl?: string | null;
  /** Time between two looks into the table; never, unless told. */
  pollMs?: number;
  heartbeatMs?: number;
}>;

const never = 3_600_000;

let testDatabase: TestDatabase;
const ends: Array<() => unknown> = [];

beforeEach(async () => {
  testDatabase = await createTestDatabase();
});

afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
  await testDatabase.drop();
});

async function join(options: MemberOptions = {}): Promise<Member> {
  const { url = testDatabase.url, listenUrl = url, pollMs = never, heartbeatMs = 5_000 } = options;
  const errors: Error[] = [];
  const onError = (error: Error): void => void errors.push(error);
  const database = openDatabase({ url, name: 'fan-out test', connections: 2, waiting: 100, onError });
  const fanOut =
    listenUrl === null ? inProcessFanOut : openPostgresFanOut({ database, listenUrl, onError, heartbeatMs });
  const notifications = openNotifications({ reader: database, fanOut, pollMs, onError });
  ends.push(async () => {
    notifications.stop();
    await fanOut.close();
    await database.close();
  });
  if (listenUrl !== null) await eventually(() => fanOut.figures().isListening);
  return { notifications, database, errors };
}

/** Notes the events of the basket's stream. */
function watch({ notifications }: Member, basket: Pick<Basket, 'id'>): OutcomeEvent[] {
  const events: OutcomeEvent[] = [];
  watchBasket(notifications, basket.id, 0, (event) => events.push(event));
  return events;
}

/** A basket with an order that `end` ends, without telling anybody. */
async function orderedBasket(url = testDatabase.url) {
  const basket = await insertBasket(url);
  const orderId = await insertOrder(url, basket);
  const end = (beforeCommit?: () => Promise<unknown>): Promise<OutcomeEvent> =>
    endOrder(url, basket, orderId, 'completed', beforeCommit);
  return { basket, end };
}

/** Events of as many baskets, none of which exist. */
function made(count: number): OutcomeEvent[] {
  const about = { offset: 1, kind: 'completed' } as const;
  return Array.from({ length: count }, () => ({ id: newId(), basketId: newId(), orderId: newId(), ...about }));
}

/** What the table holds, each stream in its order. */
function readOutcomes(): Promise<OutcomeEvent[]> {
  return onServer(testDatabase.url, async (client) => {
    const { rows } = await client.query<OutcomeEvent>(
      `SELECT id, basket_id AS "basketId", stream_offset::int AS "offset", order_id AS "orderId", kind
         FROM events ORDER BY basket_id, stream_offset`,
    );
    return rows;
  });
}

/** In the order of their times. */
function readEvents(): Promise<Array<{ id: string }>> {
  return onServer(testDatabase.url, async (client) => {
    const { rows } = await client.query<{ id: string }>('SELECT id FROM events ORDER BY created_at');
    return rows;
  });
}

async function throughProxy(options: TcpProxyOptions = {}): Promise<TcpProxy> {
  const proxy = await openTcpProxy(testDatabase.url, options);
  ends.push(() => proxy.close());
  return proxy;
}

async function endListeners(url: string): Promise<void> {
  await onServer(url, (client) =>
    client.query(
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE application_name = 'scalecommerce listen' AND datname = current_database()`,
    ),
  );
}

describe('an event', () => {
  test('that one process announces reaches the watchers of every other, without waiting for the next look into the table', async () => {
    const [first, second, third] = [await join(), await join(), await join()];
    const { basket, end } = await orderedBasket();
    const told = [first, second, third].map((member) => watch(member, basket));
    const event = await end();
    announce(first.notifications, event);
    expect(told[0]).toEqual([event]);
    await expectSoon(() => told).toEqual([[event], [event], [event]]);
    expect([first, second, third].map(({ notifications }) => notifications.figures())).toEqual([
      { published: 1, received: 0, dropped: 0, isListening: true, found: 0, watchers: 1 },
      { published: 0, received: 1, dropped: 0, isListening: true, found: 0, watchers: 1 },
      { published: 0, received: 1, dropped: 0, isListening: true, found: 0, watchers: 1 },
    ]);
  });

  test('is one of many that are announced at once, and all of them arrive', async () => {
    const [teller, hearer] = [await join(), await join()];
    const told: OutcomeEvent[][] = [];
    for (let count = 0; count < 20; count++) {
      const basket = await insertBasket(testDatabase.url);
      told.push(watch(hearer, basket));
      await cancelManyOrders(testDatabase.url, basket, 250);
    }
    const events = await readOutcomes();
    for (const event of events) announce(teller.notifications, event);
    await expectSoon(() => told.flat().length).toBe(5_000);
    const streams = Map.groupBy(events, ({ basketId }) => basketId);
    for (const stream of told) expect(stream).toEqual(streams.get(stream[0]?.basketId ?? ''));
    expect(hearer.notifications.figures()).toMatchObject({ received: 5_000, found: 0 });
  });

  test('that is not in the table is told to nobody, and thousands of them do not keep a true one back', async () => {
    const [teller, hearer] = [await join(), await join()];
    const untrue = made(5_000);
    const toldUntrue = untrue.map(({ basketId }) => watch(hearer, { id: basketId }));
    const { basket, end } = await orderedBasket();
    const told = watch(hearer, basket);
    const event = { offset: 1, kind: 'failed', id: newId(), basketId: basket.id, orderId: newId() } as const;
    for (const one of [event, ...untrue]) announce(teller.notifications, one);
    await eventually(() => hearer.notifications.figures().received === 5_001);
    const committed = await end();
    announce(teller.notifications, committed);
    await expectSoon(() => told).toEqual([committed]);
    expect(toldUntrue.flat()).toEqual([]);
  });

  test('that overtakes the one before it is held until the table tells of both, in order', async () => {
    const [teller, hearer] = [await join(), await join({ pollMs: 50 })];
    const { basket, end } = await orderedBasket();
    const told = watch(hearer, basket);
    const first = await end();
    const second = await endOrder(testDatabase.url, basket, first.orderId, 'refunded');
    announce(teller.notifications, second);
    announce(teller.notifications, first);
    await expectSoon(() => told).toEqual([first, second]);
  });

  test('is found in the table where nobody tells of it', async () => {
    const [teller, hearer] = [await join({ listenUrl: null }), await join({ listenUrl: null, pollMs: 20 })];
    const { basket, end } = await orderedBasket();
    const told = watch(hearer, basket);
    const event = await end();
    announce(teller.notifications, event);
    await expectSoon(() => told).toEqual([event]);
    expect(hearer.notifications.figures()).toMatchObject({ received: 0, found: 1, isListening: null });
  });

  test('is found among very many streams that have nothing new', async () => {
    const hearer = await join({ listenUrl: null, pollMs: 50 });
    for (let other = 0; other < 5_500; other++) watchBasket(hearer.notifications, newId(), 0, () => undefined);
    const { basket, end } = await orderedBasket();
    const told = watch(hearer, basket);
    const event = await end();
    await expectSoon(() => told).toEqual([event]);
  });
});

describe('who announces', () => {
  test('drops what is more than the line of those to be published holds', async () => {
    const teller = await join();
    for (const event of made(12_000)) announce(teller.notifications, event);
    await eventually(() => teller.notifications.figures().published > 10_000);
    // One had left already, and 10,000 waited for it.
    expect(teller.notifications.figures()).toMatchObject({ published: 10_001, dropped: 1_999 });
    expect(teller.errors).toEqual([]);
  });

  test('goes on where nothing can be published', async () => {
    const proxy = await throughProxy();
    const teller = await join({ url: proxy.url });
    const { basket, end } = await orderedBasket();
    const told = watch(teller, basket);
    const event = await end();
    await proxy.close();
    announce(teller.notifications, event);
    expect(told).toEqual([event]);
    await eventually(() => teller.notifications.figures().dropped === 1);
    expect(teller.notifications.figures().published).toBe(0);
  });
});

describe('of two events of which the older one is committed last, none is lost', () => {
  test.each([
    { way: 'with the fan-out', listens: true, isSilent: false, pollMs: never },
    { way: 'with all notifications lost on the way', listens: true, isSilent: true, pollMs: 20 },
    { way: 'by the table alone', listens: false, isSilent: false, pollMs: 20 },
  ])('$way', async ({ listens, isSilent, pollMs }) => {
    const proxy = await throughProxy();
    const [teller, hearer] = [await join(), await join({ listenUrl: listens ? proxy.url : null, pollMs })];
    const [older, newer] = [await orderedBasket(), await orderedBasket()];
    const [toldOfOlder, toldOfNewer] = [watch(hearer, older.basket), watch(hearer, newer.basket)];
    if (isSilent) proxy.fallSilent();
    const written = Promise.withResolvers<void>();
    const released = Promise.withResolvers<void>();
    const olderEvent = older.end(() => {
      written.resolve();
      return released.promise;
    });
    await written.promise;
    const newerEvent = await newer.end();
    announce(teller.notifications, newerEvent);
    await expectSoon(() => toldOfNewer).toEqual([newerEvent]);
    released.resolve();
    announce(teller.notifications, await olderEvent);
    await expectSoon(() => toldOfOlder).toEqual([await olderEvent]);
    const [first, last] = await readEvents();
    expect([first?.id, last?.id]).toEqual([(await olderEvent).id, newerEvent.id]);
    const { received, found } = hearer.notifications.figures();
    expect({ received, found }).toEqual(pollMs === never ? { received: 2, found: 0 } : { received: 0, found: 2 });
  });
});

describe('who listens', () => {
  test('finds at once what it missed while its connection was lost, and hears again', async () => {
    const [teller, hearer] = [await join(), await join()];
    const [missed, later] = [await orderedBasket(), await orderedBasket()];
    const [toldOfMissed, toldOfLater] = [watch(hearer, missed.basket), watch(hearer, later.basket)];
    await endListeners(testDatabase.url);
    // Nobody announces it: only a look into the table can tell.
    const event = await missed.end();
    await expectSoon(() => toldOfMissed).toEqual([event]);
    await eventually(() => hearer.notifications.figures().isListening);
    const heard = await later.end();
    announce(teller.notifications, heard);
    await expectSoon(() => toldOfLater).toEqual([heard]);
    expect(hearer.notifications.figures()).toMatchObject({ received: 1, found: 1 });
    expect(String(hearer.errors[0])).toContain('Notifications on scalecommerce_events are not heard');
  });

  test('learns by itself that its network swallows everything, and comes back by another connection', async () => {
    const proxy = await throughProxy();
    const hearer = await join({ listenUrl: proxy.url, heartbeatMs: 200 });
    const { basket, end } = await orderedBasket();
    const told = watch(hearer, basket);
    proxy.fallSilent();
    const event = await end();
    await expectSoon(() => told).toEqual([event]);
    await eventually(() => hearer.notifications.figures().isListening);
  });

  test('says where to look when it turns out not to listen, as behind a pooler', async () => {
    const pooler = await throughProxy({ spoil: 'scalecommerce_events' });
    const hearer = await join({ listenUrl: pooler.url, heartbeatMs: 50 });
    await expectSoon(() => String(hearer.errors[0])).toContain('Does DATABASE_DIRECT_URL lead past the pooler?');
  });

  test('hears again after a restart of the database, and nothing is lost', { timeout: 240_000 }, async () => {
    const server = await openPrivatePostgres();
    ends.push(() => server.close());
    await migrate(server.url);
    const [teller, hearer] = [await join({ url: server.url }), await join({ url: server.url })];
    const [before, after] = [await orderedBasket(server.url), await orderedBasket(server.url)];
    const told = [watch(hearer, before.basket), watch(hearer, after.basket)];
    await server.kill();
    await eventually(() => !hearer.notifications.figures().isListening);
    await server.start();
    const missed = await before.end();
    await eventually(() => hearer.notifications.figures().isListening);
    await expectSoon(() => told[0]).toEqual([missed]);
    const heard = await after.end();
    announce(teller.notifications, heard);
    await expectSoon(() => told[1]).toEqual([heard]);
  });

  test('stops at once where its network swallows everything', async () => {
    const proxy = await throughProxy();
    const hearer = await join({ listenUrl: proxy.url });
    proxy.swallow();
    await hearer.notifications.fanOut.close();
    expect(hearer.notifications.figures().isListening).toBe(false);
  });
});
