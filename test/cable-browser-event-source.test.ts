import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, afterEach, beforeAll, test } from 'vitest';
import { announce } from '../src/modules/notifications/notifications.service.ts';
import { openBrowser, type Visits } from './support/browser.ts';
import { expectSoon } from './support/expect-soon.ts';
import { type OrderServer, startOrderServer } from './support/order-server.ts';
import { type Ending, endOrder, insertBasket, insertOrder } from './support/ordered-basket.ts';
import { choosePort } from './support/port.ts';
import { openTestShop, type TestShop } from './support/shop.ts';

const testTimeoutMs = 120_000;
const html = '<!doctype html><title>A shop front</title><link rel="icon" href="data:,">';

/** Pages of another origin than the shop's. */
const front = createServer((_, response) => void response.setHeader('content-type', 'text/html').end(html));
const ends: Array<() => unknown> = [];
let origin: string;
let shop: TestShop;
let browser: Visits;

beforeAll(async () => {
  await once(front.listen(0, '127.0.0.1'), 'listening');
  origin = `http://127.0.0.1:${(front.address() as AddressInfo).port}`;
  shop = await openTestShop({ ROLE: 'web', ALLOWED_ORIGINS: origin });
  browser = await openBrowser();
}, testTimeoutMs);

afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

afterAll(async () => {
  await browser.close();
  front.close();
  await shop.close();
});

async function start(port = 0): Promise<OrderServer> {
  const server = await startOrderServer(shop, { port });
  ends.push(server.stop);
  return server;
}

/** An order on its way, and where its shopper may listen for its events. */
async function orderAt({ address }: OrderServer) {
  const basket = await insertBasket(shop.url);
  const id = await insertOrder(shop.url, basket);
  const headers = { authorization: `Bearer ${basket.token}` };
  const shown = await fetch(`${address}/api/v2/orders/${id}`, { headers });
  const { events_url: path } = (await shown.json()) as { events_url: string };
  const end = (kind: Ending) => endOrder(shop.url, basket, id, kind);
  return { url: address + path, end };
}

/** What an EventSource in a page has been told, with the id of each event; and its state, 2 once it has stopped. */
type Followed = Readonly<{ log: string[]; state: number }>;

/** Follows `url` with the browser's own EventSource. Returns what it has noted, whenever it is asked. */
async function follow(url: string): Promise<() => Promise<Followed>> {
  const { page } = await browser.open();
  ends.push(() => page.close());
  await page.goto(origin);
  await page.evaluate(`
    window.source = new EventSource(${JSON.stringify(url)});
    window.log = [];
    source.onopen = () => log.push('open');
    for (const kind of ['completed', 'failed', 'cancelled', 'refunded'])
      source.addEventListener(kind, ({ lastEventId, data }) => log.push(lastEventId + ' ' + JSON.parse(data).status));
  `);
  return async () => JSON.parse((await page.evaluate('JSON.stringify({ log, state: source.readyState })')) as string);
}

const [connecting, closed] = [0, 2];

test(
  'a plain EventSource is told of the outcome as it comes, and stops after the last event',
  async () => {
    const order = await orderAt(await start());
    const followed = await follow(order.url);
    await expectSoon(async () => (await followed()).log).toEqual(['open']);
    announce(shop.resources.notifications, await order.end('completed'));
    await expectSoon(async () => (await followed()).log).toEqual(['open', '1 completed']);
    announce(shop.resources.notifications, await order.end('refunded'));
    await expectSoon(followed).toEqual({ log: ['open', '1 completed', '2 refunded'], state: closed });
  },
  testTimeoutMs,
);

test(
  'a plain EventSource comes back to a server that was started again, and is told of nothing twice',
  async () => {
    const first = await start(await choosePort());
    const order = await orderAt(first);
    const followed = await follow(order.url);
    await order.end('completed');
    await expectSoon(followed).toMatchObject({ log: ['open', '1 completed'] });
    await first.stop();
    await expectSoon(followed).toMatchObject({ state: connecting });
    await start(first.port);
    await expectSoon(followed).toMatchObject({ log: ['open', '1 completed', 'open'] });
    await order.end('refunded');
    await expectSoon(followed).toEqual({ log: ['open', '1 completed', 'open', '2 refunded'], state: closed });
  },
  testTimeoutMs,
);
