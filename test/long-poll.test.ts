import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { announce } from '../src/modules/notifications/notifications.service.ts';
import { newId } from '../src/shared/ids.ts';
import { expectSoon } from './support/expect-soon.ts';
import { type OrderServer, startOrderServer } from './support/order-server.ts';
import { type Basket, type Ending, endOrder, insertBasket, insertOrder } from './support/ordered-basket.ts';
import { openTestShop, type TestShop } from './support/shop.ts';

let shop: TestShop;
let server: OrderServer;
/** How often orders were looked at. */
let looks: number;
/** What happens right after the first look. */
let afterFirstLook: (() => Promise<unknown>) | undefined;

beforeAll(async () => {
  shop = await openTestShop({ ROLE: 'web' });
});
beforeEach(async () => {
  [looks, afterFirstLook] = [0, undefined];
  const afterRead = ({ name }: { name: string }) =>
    name === 'orders.order' && looks++ === 0 ? afterFirstLook?.() : undefined;
  server = await startOrderServer(shop, { afterRead });
});
afterEach(() => server.stop());
afterAll(() => shop.close());

type Ordered = Readonly<{ basket: Basket; id: string; end(kind: Ending): ReturnType<typeof endOrder> }>;

async function order(of?: Basket): Promise<Ordered> {
  const basket = of ?? (await insertBasket(shop.url));
  const id = await insertOrder(shop.url, basket);
  return { basket, id, end: (kind) => endOrder(shop.url, basket, id, kind) };
}

type Asked = Readonly<{ wait?: number; etag?: string; method?: string; signal?: AbortSignal }>;

function ask({ basket, id }: Pick<Ordered, 'basket' | 'id'>, asked: Asked = {}): Promise<Response> {
  const { wait, etag, ...init } = asked;
  const headers = {
    authorization: `Bearer ${basket.token}`,
    ...(wait === undefined ? {} : { prefer: `wait=${wait}` }),
    ...(etag === undefined ? {} : { 'if-none-match': etag }),
  };
  return fetch(`${server.address}/api/v2/orders/${id}`, { ...init, headers });
}

async function etagOf(ordered: Ordered): Promise<string> {
  const { headers } = await ask(ordered);
  looks = 0;
  return String(headers.get('etag'));
}

const watched = (): number => shop.resources.notifications.streams.watched().length;
const applied = (response: Response): string | null => response.headers.get('preference-applied');
const statusIn = async (response: Response): Promise<unknown> => ((await response.json()) as { status: string }).status;

describe('who asks after an order and would wait', () => {
  it.each(['completed', 'failed', 'cancelled'] as const)('is answered when it is %s', async (kind) => {
    const pending = await order();
    const asked = ask(pending, { wait: 25 });
    await expectSoon(watched).toBe(1);
    announce(shop.resources.notifications, await pending.end(kind));
    const response = await asked;
    expect([response.status, applied(response), await statusIn(response)]).toEqual([200, 'wait=25', kind]);
    expect([looks, watched()]).toEqual([2, 0]);
  });

  it('is answered with the new state when the client has the old one', async () => {
    const pending = await order();
    const etag = await etagOf(pending);
    const asked = ask(pending, { wait: 25, etag });
    await expectSoon(watched).toBe(1);
    await pending.end('completed');
    const response = await asked;
    expect([response.status, await statusIn(response)]).toEqual([200, 'completed']);
    expect(response.headers.get('etag')).not.toBe(etag);
  });

  it('is answered with the state as it is when the time is over', async () => {
    const pending = await order();
    const response = await ask(pending, { wait: 1 });
    expect([response.status, applied(response), await statusIn(response)]).toEqual([200, 'wait=1', 'pending']);
    expect([looks, watched()]).toEqual([2, 0]);
  });

  it('gets 304 when the time is over and the client has that state', async () => {
    const pending = await order();
    const etag = await etagOf(pending);
    const response = await ask(pending, { wait: 1, etag });
    expect([response.status, applied(response), response.headers.get('etag')]).toEqual([304, 'wait=1', etag]);
    expect(looks).toBe(2);
  });

  it('misses nothing that happens right after the first look', async () => {
    const pending = await order();
    afterFirstLook = async () => announce(shop.resources.notifications, await pending.end('completed'));
    const response = await ask(pending, { wait: 25 });
    expect([await statusIn(response), looks]).toEqual(['completed', 2]);
  });

  it('is not answered because of another order of the same basket', async () => {
    const first = await order();
    await first.end('completed');
    const second = await order(first.basket);
    const asked = ask(second, { wait: 25 });
    await expectSoon(watched).toBe(1);
    announce(shop.resources.notifications, await first.end('refunded'));
    announce(shop.resources.notifications, await second.end('failed'));
    expect([await statusIn(await asked), looks]).toEqual(['failed', 2]);
  });
});

describe('an answer is given at the first look', () => {
  it.each(['completed', 'failed', 'cancelled', 'refunded'] as const)('to an order that is %s', async (kind) => {
    const ended = await order();
    if (kind === 'refunded') await ended.end('completed');
    await ended.end(kind);
    const first = await ask(ended, { wait: 25 });
    expect([first.status, applied(first), await statusIn(first), looks]).toEqual([200, 'wait=25', kind, 1]);
    const again = await ask(ended, { wait: 25, etag: String(first.headers.get('etag')) });
    expect([again.status, applied(again), looks]).toEqual([304, 'wait=25', 2]);
  });

  it('to a client that has something else', async () => {
    const response = await ask(await order(), { wait: 25, etag: '"something-else"' });
    expect([response.status, await statusIn(response), looks]).toEqual([200, 'pending', 1]);
  });

  it('to who would not wait', async () => {
    const pending = await order();
    const response = await ask(pending);
    expect([response.status, applied(response), looks]).toEqual([200, null, 1]);
    expect(response.headers.get('vary')).toBe('Authorization, Prefer');
  });

  it('to who asks for an order that is not theirs', async () => {
    const { id } = await order();
    const response = await ask({ id, basket: { id: '', token: newId() } }, { wait: 25 });
    expect([response.status, applied(response), looks]).toEqual([404, null, 1]);
  });
});

it('nobody waits for longer than 25 seconds', async () => {
  const ended = await order();
  await ended.end('failed');
  expect(applied(await ask(ended, { wait: 3_600 }))).toBe('wait=25');
});

it('HEAD waits as GET does', async () => {
  const pending = await order();
  const asked = ask(pending, { wait: 25, method: 'HEAD' });
  await expectSoon(watched).toBe(1);
  await pending.end('completed');
  const response = await asked;
  expect([response.status, applied(response), await response.text()]).toEqual([200, 'wait=25', '']);
});

it('a client that goes away leaves nothing behind', async () => {
  const pending = await order();
  const leaving = new AbortController();
  const asked = [1, 2, 3].map(() => ask(pending, { wait: 25, signal: leaving.signal }).catch(() => 'left'));
  await expectSoon(watched).toBe(1);
  leaving.abort();
  expect(await Promise.all(asked)).toEqual(['left', 'left', 'left']);
  await expectSoon(watched).toBe(0);
});

it('a server that stops answers those who wait with the state as it is', async () => {
  const pending = await order();
  const asked = ask(pending, { wait: 25 });
  await expectSoon(watched).toBe(1);
  await server.stop();
  const response = await asked;
  expect([response.status, response.headers.get('connection'), await statusIn(response)]).toEqual([
    200,
    'close',
    'pending',
  ]);
});

it('a thousand who wait are all answered, each for its own order', async () => {
  const orders = await Promise.all(Array.from({ length: 10 }, () => order()));
  const asked = orders.flatMap((each) =>
    Array.from({ length: 100 }, async () => [each.id, await (await ask(each, { wait: 25 })).json()] as const),
  );
  await expectSoon(watched).toBe(10);
  for (const { end } of orders) await end('completed');
  for (const [id, body] of await Promise.all(asked)) expect(body).toMatchObject({ id, status: 'completed' });
  expect(watched()).toBe(0);
});
