import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { announce } from '../src/modules/notifications/notifications.service.ts';
import { openBrowser, type Visits } from './support/browser.ts';
import { type Heard, listenInPage, serveCablePage } from './support/cable-page.ts';
import { type CableServer, startCableServer } from './support/cable-server.ts';
import { expectSoon } from './support/expect-soon.ts';
import { type Basket, endOrder, insertBasket, insertOrder } from './support/ordered-basket.ts';
import { type ClientKind, clientKinds } from './support/outcome-clients.ts';
import { choosePort } from './support/port.ts';
import { createTestDatabase, type TestDatabase } from './support/postgres.ts';
import { openTcpProxy } from './support/tcp-proxy.ts';

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

/** Listens with every client, in one page of the shop that answers at `port`. */
async function visit(port: number, basket: Basket) {
  const { page } = await browser.open();
  ends.push(() => page.close());
  const where = { kinds: clientKinds, token: basket.token, pingMs };
  return listenInPage(page, `http://127.0.0.1:${port}`, where);
}

const each = (heard: Readonly<Record<ClientKind, Heard>>, read: (heard: Heard) => unknown) =>
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
