import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { announce } from '../src/modules/notifications/notifications.service.ts';
import { openBrowser, type Visits } from './support/browser.ts';
import { type Heard, type HeardInPage, listenInPage, type PageOptions, serveCablePage } from './support/cable-page.ts';
import { type CableServer, startCableServer } from './support/cable-server.ts';
import { expectSoon } from './support/expect-soon.ts';
import { type Basket, type Ending, endOrder, insertBasket, insertOrder } from './support/ordered-basket.ts';
import { clientKinds } from './support/outcome-clients.ts';
import { choosePort } from './support/port.ts';
import { createTestDatabase, onServer, type TestDatabase } from './support/postgres.ts';
import { openTcpProxy, type TcpProxy } from './support/tcp-proxy.ts';

const pollMs = 20;
const pingMs = 100;
const testTimeoutMs = 120_000;

let database: TestDatabase;
let browser: Visits;
const ends: Array<() => unknown> = [];

beforeAll(async () => {
  database = await createTestDatabase();
  browser = await openBrowser();
}, testTimeoutMs);

afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

afterAll(async () => {
  await browser.close();
  await database.drop();
});

/** Only pages of its own origin may listen. */
async function start(port = 0): Promise<CableServer> {
  const isAllowedOrigin = (origin?: string, host?: string): boolean =>
    /^http:\/\/(.*)$/.exec(origin ?? '')?.[1] === host;
  const options = { databaseUrl: database.url, pollMs, pingMs, port, isAllowedOrigin, onRequest: serveCablePage };
  return startCableServer(options);
}

type Visiting = Pick<PageOptions, 'historySince' | 'isTwice'>;

/** Listens with every client, in one page of the shop that answers at `port`. */
async function listenIn(port: number, { token }: Basket, more: Visiting): Promise<() => Promise<HeardInPage>> {
  const { page } = await browser.open();
  ends.push(() => page.close());
  return listenInPage(page, `http://127.0.0.1:${port}`, { kinds: clientKinds, token, pingMs, ...more });
}

async function visit(port: number, basket: Basket, more: Visiting = {}): Promise<() => Promise<HeardInPage['once']>> {
  const hear = await listenIn(port, basket, more);
  return async () => (await hear()).once;
}

const each = (heard: HeardInPage['once'], read: (heard: Heard) => unknown) =>
  clientKinds.map((kind) => read(heard[kind]));
const forEach = (value: unknown) => clientKinds.map(() => value);

async function orderedBasket(): Promise<{ basket: Basket; end: () => Promise<Parameters<typeof announce>[1]> }> {
  const basket = await insertBasket(database.url);
  const orderId = await insertOrder(database.url, basket);
  return { basket, end: () => endOrder(database.url, basket, orderId, 'completed') };
}

const isConnected = ({ states }: Heard): boolean => states.includes('connected');
const isDisconnected = ({ states }: Heard): boolean => states.includes('disconnected');
const told = (heard: Heard): readonly string[] => heard.told;

/** Orders and ends the order, without telling anybody. */
async function orderAndEnd(basket: Basket, ...kinds: Ending[]): Promise<string[]> {
  const orderId = await insertOrder(database.url, basket);
  const ids: string[] = [];
  for (const kind of kinds) ids.push((await endOrder(database.url, basket, orderId, kind)).id);
  return ids;
}

async function proxied({ port }: CableServer): Promise<{ proxy: TcpProxy; port: number }> {
  const proxy = await openTcpProxy(`http://127.0.0.1:${port}`);
  ends.push(proxy.close);
  return { proxy, port: Number(new URL(proxy.url).port) };
}

/** The plain protocol has no history: who comes back with it is told how the latest order ended. */
const historyOr = (all: readonly string[], latest: readonly string[]) =>
  clientKinds.map((kind) => (kind === '@anycable/core, extended' ? all : latest));

test(
  'who opens a page after the order has ended learns how',
  async () => {
    const server = await start();
    ends.push(server.stop);
    const { basket, end } = await orderedBasket();
    const event = await end();
    const hear = await visit(server.port, basket);
    await expectSoon(async () => each(await hear(), told)).toEqual(forEach([event.id]));
  },
  testTimeoutMs,
);

test(
  'a page learns after a cut of the network what it has missed',
  async () => {
    const server = await start();
    const proxy = await openTcpProxy(`http://127.0.0.1:${server.port}`);
    ends.push(server.stop, proxy.close);
    const { basket, end } = await orderedBasket();
    const hear = await visit(Number(new URL(proxy.url).port), basket);
    await expectSoon(async () => each(await hear(), isConnected)).toEqual(forEach(true));
    proxy.swallow();
    proxy.cut();
    const event = await end();
    await expectSoon(async () => each(await hear(), isDisconnected)).toEqual(forEach(true));
    expect(each(await hear(), told)).toEqual(forEach([]));
    proxy.cut();
    proxy.heal();
    await expectSoon(async () => each(await hear(), told)).toEqual(forEach([event.id]));
  },
  testTimeoutMs,
);

test(
  'a page comes back to a server that was started again, and learns what it has missed',
  async () => {
    const server = await start(await choosePort());
    const { basket, end } = await orderedBasket();
    const hear = await visit(server.port, basket);
    await expectSoon(async () => each(await hear(), isConnected)).toEqual(forEach(true));
    await server.stop();
    await expectSoon(async () => each(await hear(), isDisconnected)).toEqual(forEach(true));
    const event = await end();
    const again = await start(server.port);
    ends.push(again.stop);
    await expectSoon(async () => each(await hear(), told)).toEqual(forEach([event.id]));
    const next = await endOrder(database.url, basket, await insertOrder(database.url, basket), 'failed');
    announce(again.notifications, next);
    await expectSoon(async () => each(await hear(), told)).toEqual(forEach([event.id, next.id]));
  },
  testTimeoutMs,
);

test(
  'a page learns how the second checkout of a basket ended whose first has failed',
  async () => {
    const server = await start();
    ends.push(server.stop);
    const basket = await insertBasket(database.url);
    const hear = await visit(server.port, basket);
    await expectSoon(async () => each(await hear(), isConnected)).toEqual(forEach(true));
    const [failed] = await orderAndEnd(basket, 'failed');
    await expectSoon(async () => each(await hear(), told)).toEqual(forEach([failed]));
    const late = await visit(server.port, basket);
    await expectSoon(async () => each(await late(), told)).toEqual(forEach([failed]));
    const [completed] = await orderAndEnd(basket, 'completed');
    await expectSoon(async () => each(await hear(), told)).toEqual(forEach([failed, completed]));
    await expectSoon(async () => each(await late(), told)).toEqual(forEach([failed, completed]));
  },
  testTimeoutMs,
);

test(
  'a page that is cut off from one server learns from another what it has missed, and what comes',
  async () => {
    const [one, other] = [await start(), await start()];
    ends.push(one.stop, other.stop);
    const { proxy, port } = await proxied(one);
    const basket = await insertBasket(database.url);
    const hear = await visit(port, basket);
    await expectSoon(async () => each(await hear(), isConnected)).toEqual(forEach(true));
    const [first] = await orderAndEnd(basket, 'failed');
    await expectSoon(async () => each(await hear(), told)).toEqual(forEach([first]));
    proxy.swallow();
    proxy.redirect(`http://127.0.0.1:${other.port}`);
    proxy.cut();
    const [second] = await orderAndEnd(basket, 'failed');
    await expectSoon(async () => each(await hear(), isDisconnected)).toEqual(forEach(true));
    proxy.cut();
    proxy.heal();
    await expectSoon(async () => each(await hear(), told)).toEqual(forEach([first, second]));
    const [third] = await orderAndEnd(basket, 'completed');
    await expectSoon(async () => each(await hear(), told)).toEqual(forEach([first, second, third]));
    expect(one.notifications.figures().watchers).toBe(0);
  },
  testTimeoutMs,
);

test.each([
  { before: 'something', had: 1 },
  { before: 'nothing', had: 0 },
])(
  'a page that was told of $before and then away for ten minutes learns what it has missed',
  async ({ had }) => {
    const server = await start();
    ends.push(server.stop);
    const { proxy, port } = await proxied(server);
    const basket = await insertBasket(database.url);
    const hear = await visit(port, basket, { historySince: Math.floor(Date.now() / 1_000) - 660 });
    await expectSoon(async () => each(await hear(), isConnected)).toEqual(forEach(true));
    const known = had > 0 ? await orderAndEnd(basket, 'failed') : [];
    await expectSoon(async () => each(await hear(), told)).toEqual(forEach(known));
    proxy.swallow();
    proxy.cut();
    await expectSoon(async () => each(await hear(), isDisconnected)).toEqual(forEach(true));
    const missed = [...(await orderAndEnd(basket, 'failed')), ...(await orderAndEnd(basket, 'completed', 'refunded'))];
    const [latest = ''] = await orderAndEnd(basket, 'failed');
    await onServer(database.url, (client) =>
      client.query(`UPDATE events SET created_at = created_at - interval '10 minutes' WHERE basket_id = $1`, [
        basket.id,
      ]),
    );
    proxy.cut();
    proxy.heal();
    const expected = historyOr([...known, ...missed, latest], [...known, latest]);
    await expectSoon(async () => each(await hear(), told)).toEqual(expected);
  },
  testTimeoutMs,
);

test(
  'a page that subscribes twice is told once each, also after a cut',
  async () => {
    const server = await start();
    ends.push(server.stop);
    const { proxy, port } = await proxied(server);
    const basket = await insertBasket(database.url);
    const hear = await listenIn(port, basket, { isTwice: true });
    const both = async (read: (heard: Heard) => unknown) => {
      const { once, again } = await hear();
      return [each(once, read), each(again, read)];
    };
    const [all, twice] = [forEach(true), (value: unknown) => [forEach(value), forEach(value)]];
    await expectSoon(() => both(isConnected)).toEqual([all, all]);
    const [first] = await orderAndEnd(basket, 'failed');
    await expectSoon(() => both(told)).toEqual(twice([first]));
    proxy.swallow();
    proxy.cut();
    await expectSoon(() => both(isDisconnected)).toEqual([all, all]);
    const [second] = await orderAndEnd(basket, 'failed');
    proxy.cut();
    proxy.heal();
    await expectSoon(() => both(told)).toEqual(twice([first, second]));
    const [third] = await orderAndEnd(basket, 'completed');
    await expectSoon(() => both(told)).toEqual(twice([first, second, third]));
  },
  testTimeoutMs,
);
