import { once } from 'node:events';
import { connect } from 'node:net';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { expectMostly } from './support/expect-mostly.ts';
import { RemoteShopper, type ShopProcess, startProcess } from './support/process.ts';
import { addProduct, openTestShop, type TestShop } from './support/shop.ts';

// On a busy machine.
vi.setConfig({ testTimeout: 240_000, hookTimeout: 120_000 });

const writes = 20_000;
/** More than may wait for one basket. */
const connections = 200;
/** Nobody else is to wait longer than 1 s; the rest is for a busy machine, on which the flood is made as well. */
const soonMs = 2_000;

let shop: TestShop;
let web: ShopProcess;
beforeAll(async () => {
  shop = await openTestShop({ ROLE: 'web' });
  web = await startProcess(shop.url);
});
afterAll(async () => {
  await web.end('SIGTERM');
  await shop.close();
});

type Flood = { answered: number; statuses: Map<string, number>; withoutRetryAfter: number };

/** Sends `count` requests over one connection, each when the one before it is answered, and counts the answers. */
async function pour(address: string, bytes: string, count: number, flood: Flood): Promise<void> {
  const { hostname, port } = new URL(address);
  const socket = connect(Number(port), hostname);
  let [answered, text] = [0, ''];
  socket.setEncoding('latin1').on('data', (chunk: string) => {
    text += chunk;
    if (!/^HTTP.*\r\n\r\n.*\}$/s.test(text)) return;
    note(text, flood);
    text = '';
    if (++answered === count) socket.end();
    else socket.write(bytes);
  });
  socket.write(bytes);
  await once(socket, 'close');
}

function note(answer: string, flood: Flood): void {
  const status = answer.slice(9, 12);
  flood.answered++;
  flood.statuses.set(status, (flood.statuses.get(status) ?? 0) + 1);
  if (status !== '201' && !/\r\nretry-after: \d/i.test(answer)) flood.withoutRetryAfter++;
}

/** How long `ask` took each time, asked again and again until the flood is over. */
async function waitsMs(isOver: () => boolean, ask: () => Promise<number>): Promise<number[]> {
  const waits: number[] = [];
  while (!isOver()) {
    const startMs = performance.now();
    expect([200, 201]).toContain(await ask());
    waits.push(performance.now() - startMs);
  }
  return waits;
}

it('20,000 writes to one basket hold up no other basket, nor the process', async () => {
  const product = await addProduct(shop, { stock: 1_000_000 });
  const flooded = new RemoteShopper(web.address);
  await flooded.put(product, 1);
  const body = JSON.stringify({ product: { product_id: product, quantity: 2 } });
  const bytes =
    `POST /api/v2/shopping_basket/products HTTP/1.1\r\nHost: shop\r\nAuthorization: Bearer ${flooded.token}\r\n` +
    `Content-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
  const flood: Flood = { answered: 0, statuses: new Map(), withoutRetryAfter: 0 };
  let isOver = false;
  const others = Array.from({ length: 8 }, () => new RemoteShopper(web.address));
  for (const other of others) expect((await other.put(product, 1)).status).toBe(201);
  const waits = [
    ...others.map((other) =>
      waitsMs(
        () => isOver,
        async () => (await other.put(product, 3)).status,
      ),
    ),
    waitsMs(
      () => isOver,
      async () => (await fetch(`${web.address}/up`)).status,
    ),
  ];
  await Promise.all(Array.from({ length: connections }, () => pour(web.address, bytes, writes / connections, flood)));
  isOver = true;
  for (const each of await Promise.all(waits)) expectMostly(each, soonMs);
  expect(flood.answered).toBe(writes);
  // Where a batch takes long, the last of the 64 that may wait have waited for too long: 503.
  expect([...flood.statuses.keys()].filter((status) => status !== '503').sort()).toEqual(['201', '429']);
  expect(flood.withoutRetryAfter).toBe(0);
  expect(await flooded.lines()).toEqual({ [product]: 2 });
});
