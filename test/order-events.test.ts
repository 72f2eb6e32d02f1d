import { EventSource } from 'eventsource';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { announce } from '../src/modules/notifications/notifications.service.ts';
import { eventsPath, ticketFor } from '../src/modules/orders/tickets.service.ts';
import { newId } from '../src/shared/ids.ts';
import { type EventListener, listenTo } from './support/event-listener.ts';
import { expectSoon } from './support/expect-soon.ts';
import { type OrderServer, type OrderServerOptions, startOrderServer } from './support/order-server.ts';
import { type Basket, type Ending, endOrder, insertBasket, insertOrder } from './support/ordered-basket.ts';
import { choosePort } from './support/port.ts';
import { openTestShop, Shopper, type TestShop } from './support/shop.ts';

const listed = 'https://shop.example';
const ends: Array<() => unknown> = [];
let shop: TestShop;

beforeAll(async () => {
  shop = await openTestShop({ ROLE: 'web', ALLOWED_ORIGINS: listed });
});
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});
afterAll(() => shop.close());

async function start(options?: OrderServerOptions): Promise<OrderServer> {
  const server = await startOrderServer(shop, options);
  ends.push(server.stop);
  return server;
}

async function listen(url: string, headers?: Record<string, string>): Promise<EventListener> {
  const listener = await listenTo(url, headers);
  ends.push(listener.leave);
  return listener;
}

type Ordered = Readonly<{ basket: Basket; id: string; path: string; end(kind: Ending): ReturnType<typeof endOrder> }>;

async function order(of?: Basket): Promise<Ordered> {
  const basket = of ?? (await insertBasket(shop.url));
  const id = await insertOrder(shop.url, basket);
  const path = eventsPath(shop.resources.shop.ticketKey, id);
  return { basket, id, path, end: (kind) => endOrder(shop.url, basket, id, kind) };
}

const watched = (): number => shop.resources.notifications.streams.watched().length;
const now = (): number => Math.floor(Date.now() / 1_000);
const bearer = (token: string) => ({ authorization: `Bearer ${token}` });
const kindsOf = (listener: EventListener) => listener.events().map(({ id, event }) => [id, event]);

describe('who listens to an order', () => {
  it('is told of its completion as soon as it is announced, and of a refund, each with its place in the stream', async () => {
    const { address } = await start();
    const { path, id, end } = await order();
    const listener = await listen(address + path);
    expect([listener.status, listener.headers]).toMatchObject([
      200,
      { 'content-type': 'text/event-stream', 'cache-control': 'no-store', 'x-accel-buffering': 'no' },
    ]);
    expect(listener.headers).not.toHaveProperty('content-length');
    await expectSoon(listener.text).toMatch(/^: \w+\nretry: \d+\n\n$/);
    const completed = await end('completed');
    announce(shop.resources.notifications, completed);
    const message = { status: 'completed', order: { id }, order_id: id, event_id: completed.id };
    await expectSoon(listener.events).toMatchObject([{ id: '1', event: 'completed', data: message }]);
    expect(listener.end()).toBeNull();
    const refunded = await end('refunded');
    await expectSoon(listener.events).toMatchObject([
      { id: '1' },
      { id: '2', event: 'refunded', data: { ...message, status: 'refunded', event_id: refunded.id } },
    ]);
    await expectSoon(listener.end).toBe('whole');
  });

  it.each([
    { kind: 'failed', error: { code: 'payment_required', message: 'Insufficient funds' } },
    { kind: 'cancelled', error: { code: 'cancelled', message: 'Order was cancelled' } },
  ] as const)('is told that it was $kind, and that was all', async ({ kind, error }) => {
    const { address } = await start();
    const { path, id, end } = await order();
    const listener = await listen(address + path);
    const event = await end(kind);
    await expectSoon(listener.end).toBe('whole');
    expect(listener.events()).toEqual([
      { id: '1', event: kind, data: { status: 'failed', error, order_id: id, event_id: event.id } },
    ]);
  });

  it('is told at once of all that has happened before', async () => {
    const { address } = await start();
    const { path, end } = await order();
    await end('completed');
    const open = await listen(address + path);
    await expectSoon(() => kindsOf(open)).toEqual([['1', 'completed']]);
    expect(open.end()).toBeNull();
    await end('refunded');
    const late = await listen(address + path);
    await expectSoon(late.end).toBe('whole');
    expect(kindsOf(late)).toEqual([
      ['1', 'completed'],
      ['2', 'refunded'],
    ]);
  });

  it('is told nothing of other orders of the same basket', async () => {
    const { address } = await start();
    const first = await order();
    await first.end('completed');
    const second = await order(first.basket);
    const [ofFirst, ofSecond] = [await listen(address + first.path), await listen(address + second.path)];
    await second.end('failed');
    await expectSoon(ofSecond.end).toBe('whole');
    expect(kindsOf(ofSecond)).toEqual([['2', 'failed']]);
    await first.end('refunded');
    await expectSoon(ofFirst.end).toBe('whole');
    expect(kindsOf(ofFirst)).toEqual([
      ['1', 'completed'],
      ['3', 'refunded'],
    ]);
  });

  it('is told of what happens between the look-up and the subscription', async () => {
    let happen: (() => Promise<unknown>) | undefined;
    const { address } = await start({
      afterRead: ({ name }) => (name === 'order_events.of_orders' ? happen?.() : undefined),
    });
    const { path, end } = await order();
    happen = async () => {
      happen = undefined;
      announce(shop.resources.notifications, await end('failed'));
    };
    const listener = await listen(address + path);
    await expectSoon(listener.end).toBe('whole');
    expect(kindsOf(listener)).toEqual([['1', 'failed']]);
  });
});

describe('who comes back', () => {
  it('is told of nothing that it has, and of all that it has not', async () => {
    const { address } = await start();
    const { path, end } = await order();
    await end('completed');
    const listener = await listen(address + path, { 'last-event-id': '1' });
    await end('refunded');
    await expectSoon(listener.end).toBe('whole');
    expect(kindsOf(listener)).toEqual([['2', 'refunded']]);
  });

  it('gets 204 when it has all that can come', async () => {
    const { address } = await start();
    const { path, end } = await order();
    await end('failed');
    const listener = await listen(address + path, { 'last-event-id': '1' });
    expect([listener.status, listener.headers['cache-control']]).toEqual([204, 'no-store']);
  });

  it.each(['', 'abc', '-1', '1.5', '2', '999999999999999999999'])(
    'with the strange id "%s" is told of all',
    async (id) => {
      const { address } = await start();
      const { path, end } = await order();
      await end('failed');
      const listener = await listen(address + path, { 'last-event-id': id });
      await expectSoon(listener.end).toBe('whole');
      expect(kindsOf(listener)).toEqual([['1', 'failed']]);
    },
  );
});

describe('an EventSource', () => {
  function follow(url: string) {
    const source = new EventSource(url);
    const log: string[] = [];
    ends.push(() => source.close());
    for (const kind of ['open', 'completed', 'failed', 'cancelled', 'refunded'])
      source.addEventListener(kind, ({ lastEventId }: { lastEventId?: string }) =>
        log.push(lastEventId === undefined ? kind : `${lastEventId} ${kind}`),
      );
    return { source, log };
  }

  it('is told once, and stops by itself after the last event', async () => {
    const { address } = await start();
    const { path, end } = await order();
    const { source, log } = follow(address + path);
    await expectSoon(() => log).toEqual(['open']);
    await end('failed');
    await expectSoon(() => source.readyState).toBe(source.CLOSED);
    expect(log).toEqual(['open', '1 failed']);
  });

  it('is told after a restart of the server of what happened meanwhile, and of nothing twice', async () => {
    const first = await start({ port: await choosePort() });
    const { path, end } = await order();
    const { source, log } = follow(first.address + path);
    await expectSoon(() => log).toEqual(['open']);
    await end('completed');
    await expectSoon(() => log).toEqual(['open', '1 completed']);
    await first.stop();
    await expectSoon(() => source.readyState).toBe(source.CONNECTING);
    await end('refunded');
    await start({ port: first.port });
    await expectSoon(() => source.readyState).toBe(source.CLOSED);
    expect(log).toEqual(['open', '1 completed', 'open', '2 refunded']);
  });
});

describe('events are open', () => {
  it("to the basket's token, without a ticket", async () => {
    const { address } = await start();
    const { basket, id, end } = await order();
    const listener = await listen(`${address}/api/v2/orders/${id}/events`, bearer(basket.token));
    await end('failed');
    await expectSoon(() => kindsOf(listener)).toEqual([['1', 'failed']]);
  });

  it('to the ticket in the answer to a checkout, and in the order', async () => {
    const { address } = await start();
    const { basket, id } = await order();
    const shown = await fetch(`${address}/api/v2/orders/${id}`, { headers: bearer(basket.token) });
    const { events_url: path } = (await shown.json()) as { events_url: string };
    expect((await listen(address + path)).status).toBe(200);
  });

  it('to pages of listed origins', async () => {
    const { address } = await start();
    const { path } = await order();
    const listener = await listen(address + path, { origin: listed });
    expect(listener.headers).toMatchObject({
      'access-control-allow-origin': listed,
      'x-content-type-options': 'nosniff',
    });
    const foreign = await listen(address + path, { origin: 'https://evil.example' });
    expect(foreign.headers).not.toHaveProperty('access-control-allow-origin');
  });
});

describe('events are not there', () => {
  const ticket = (id: string, expiry = now() + 60) => ticketFor(shop.resources.shop.ticketKey, id, expiry);

  it.each<{ for: string; query: (id: string) => string; headers?: Record<string, string> }>([
    { for: 'nobody', query: () => '' },
    { for: 'the ticket of another order', query: () => `?ticket=${ticket(newId())}` },
    { for: 'a ticket that has expired', query: (id) => `?ticket=${ticket(id, now() - 1)}` },
    { for: 'a ticket whose expiry was changed', query: (id) => `?ticket=${ticket(id).replace(/^\d+/, '9999999999')}` },
    { for: 'a ticket whose tag was changed', query: (id) => `?ticket=${ticket(id).replace(/..$/, '--')}` },
    { for: 'an empty ticket', query: () => '?ticket=' },
    { for: 'a very long ticket', query: (id) => `?ticket=${ticket(id)}${'A'.repeat(5_000)}` },
    { for: 'the token of another basket', query: () => '', headers: bearer(newId()) },
  ])('for $for: 404, as if there were no such order', async ({ query, headers }) => {
    const { address } = await start();
    const { id, end } = await order();
    await end('completed');
    const response = await fetch(`${address}/api/v2/orders/${id}/events${query(id)}`, { headers: headers ?? {} });
    expect([response.status, await response.json()]).toEqual([
      404,
      { error: { code: 404, messages: [`Couldn't find Order with 'id'="${id}"`] } },
    ]);
  });

  it.each(['abc', newId(), `${newId()}1`])('for the order %s, which is none', async (id) => {
    const { address } = await start();
    const response = await fetch(`${address}/api/v2/orders/${id}/events?ticket=${ticket(id)}`);
    expect(response.status).toBe(404);
  });
});

it.each(['shopping_basket_id', 'token', 'access_token', 'ticket'])(
  "a basket's token in the address, as %s, is refused and not repeated",
  async (name) => {
    const { address } = await start();
    const { basket, id } = await order();
    const response = await fetch(`${address}/api/v2/orders/${id}/events?${name}=${basket.token}`);
    const text = await response.text();
    expect([response.status, text]).toEqual([400, expect.stringContaining('Authorization: Bearer')]);
    expect(text).not.toContain(basket.token);
  },
);

it("a stream ends with its ticket, by the database's clock, and cannot be opened again with it", async () => {
  const expiry = now() + 3_600;
  let readAt = expiry - 1;
  const { address } = await start({
    afterRead: async ({ name }, rows) => {
      if (name === 'order_events.of_orders') Object.assign(rows[0] ?? {}, { read_at: readAt });
    },
  });
  const { id } = await order();
  const path = `/api/v2/orders/${id}/events?ticket=${ticketFor(shop.resources.shop.ticketKey, id, expiry)}`;
  const listener = await listen(address + path);
  expect([listener.status, listener.end()]).toEqual([200, null]);
  await expectSoon(listener.end).toBe('whole');
  expect(listener.events()).toEqual([]);
  readAt = expiry;
  expect((await listen(address + path)).status).toBe(404);
});

it('a client that goes away leaves nothing behind', async () => {
  const server = await start();
  const { path, end } = await order();
  await end('completed');
  const listeners = await Promise.all(Array.from({ length: 10 }, () => listen(server.address + path)));
  await expectSoon(watched).toBe(1);
  for (const listener of listeners) listener.leave();
  await expectSoon(watched).toBe(0);
  await expect.poll(server.connections, { timeout: 60_000 }).toBe(0);
});

it('a thousand streams are told at the same time, each of its own order, once', async () => {
  const { address } = await start();
  const orders = await Promise.all(Array.from({ length: 10 }, () => order()));
  const streams = await Promise.all(
    orders.flatMap(({ path, id }) =>
      Array.from({ length: 100 }, async () => ({ id, listener: await listen(address + path) })),
    ),
  );
  await expectSoon(watched).toBe(10);
  for (const { end } of orders) announce(shop.resources.notifications, await end('failed'));
  await expectSoon(() => streams.filter(({ listener }) => listener.end() === 'whole').length).toBe(1_000);
  for (const { id, listener } of streams)
    expect(listener.events()).toMatchObject([{ id: '1', event: 'failed', data: { order_id: id } }]);
  await expectSoon(watched).toBe(0);
});

it('a server that stops ends its streams at once', async () => {
  const server = await start();
  const { path } = await order();
  const listeners = await Promise.all(Array.from({ length: 20 }, () => listen(server.address + path)));
  await server.stop();
  await expectSoon(() => listeners.map(({ end }) => end())).toEqual(listeners.map(() => 'whole'));
  expect(watched()).toBe(0);
});

describe('the address of the events', () => {
  it('is answered to HEAD without a stream', async () => {
    const { address } = await start();
    const { path, end } = await order();
    const response = await fetch(address + path, { method: 'HEAD' });
    expect([response.status, response.headers.get('content-type'), await response.text()]).toEqual([
      200,
      'text/event-stream',
      '',
    ]);
    await end('failed');
    const headers = { 'last-event-id': '1' };
    expect((await fetch(address + path, { method: 'HEAD', headers })).status).toBe(204);
    expect((await fetch(`${address}${path}x`, { method: 'HEAD' })).status).toBe(404);
    expect(watched()).toBe(0);
  });

  it('allows nothing but reading', async () => {
    const { address } = await start();
    const { path } = await order();
    const response = await fetch(address + path, { method: 'POST' });
    expect([response.status, response.headers.get('allow')]).toEqual([405, 'GET, HEAD, OPTIONS']);
  });

  it('is the same in every answer about the order, so that its ETag changes only with the order', async () => {
    const shopper = new Shopper(shop.app);
    const { basket, id, path, end } = await order();
    shopper.token = basket.token;
    const [first, second] = [await shopper.order(id), await shopper.order(id)];
    expect([first.json().events_url, first.headers.etag]).toEqual([path, second.headers.etag]);
    await end('completed');
    expect((await shopper.order(id)).json().events_url).toBe(path);
  });
});
