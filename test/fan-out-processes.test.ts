import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Value } from '../src/platform/db.ts';
import { type CableClient, connect } from './support/cable-client.ts';
import { expectSoon } from './support/expect-soon.ts';
import { createTestDatabase, onServer, type TestDatabase } from './support/postgres.ts';
import { orderIn, RemoteShopper, type ShopProcess, startProcess } from './support/process.ts';
import { addProduct } from './support/shop.ts';

type Message = Readonly<{ status: string; order_id: string }>;

/** Whole processes start, on a machine that may be busy. */
const timeoutMs = 240_000;

let database: TestDatabase;
let product: string;
const ends: Array<() => unknown> = [];

beforeEach(async () => {
  database = await createTestDatabase();
  product = await addProduct({ query });
});

afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
  await database.drop();
});

async function query<Row>(text: string, values: readonly Value[] = []): Promise<Row[]> {
  return onServer(database.url, async (client) => (await client.query(text, [...values])).rows);
}

async function start(environment: Record<string, string>): Promise<ShopProcess> {
  const process = await startProcess(database.url, environment);
  ends.push(() => process.end('SIGTERM'));
  return process;
}

/** Subscribes to the outcomes of the basket that `token` opens, and returns what it is told. */
async function listen(process: ShopProcess, token: string | null): Promise<CableClient> {
  const client = await connect(Number(new URL(process.address).port));
  ends.push(() => client.socket.terminate());
  const identifier = JSON.stringify({ channel: 'CheckoutNotificationsChannel', shopping_basket_id: token });
  client.send({ command: 'subscribe', identifier });
  await expectSoon(() => client.frames.splice(0)).toEqual([{ identifier, type: 'confirm_subscription' }]);
  return client;
}

function messagesOf({ frames }: CableClient): Message[] {
  return frames.map((frame) => (frame as { message: Message }).message);
}

const told = (answer: Parameters<typeof orderIn>[0]) => [
  expect.objectContaining({ status: 'completed', order_id: orderIn(answer) }),
];

test.each([
  { fanOut: 'postgres', how: 'are told of it' },
  { fanOut: 'in_process', how: 'find it in the table' },
])(
  'subscribers on every process learn how a checkout on one of them ended: with $fanOut they $how',
  {
    timeout: timeoutMs,
  },
  async ({ fanOut }) => {
    const shop = { EVENT_FAN_OUT: fanOut };
    const processes = [await start(shop), await start({ ...shop, ROLE: 'web' }), await start({ ...shop, ROLE: 'web' })];
    const shopper = new RemoteShopper(processes[0]?.address ?? '');
    await shopper.put(product, 1);
    const clients = await Promise.all(processes.map((process) => listen(process, shopper.token)));
    const accepted = await shopper.checkout('v2');
    await expectSoon(() => clients.map(messagesOf)).toEqual(clients.map(() => told(accepted)));
  },
);

test.each(['postgres', 'in_process'])(
  'a checkout that waits in one process learns by %s that a worker in another has ended it',
  {
    timeout: timeoutMs,
  },
  async (fanOut) => {
    const shop = { EVENT_FAN_OUT: fanOut };
    const web = await start({ ...shop, ROLE: 'web' });
    await start({ ...shop, ROLE: 'worker' });
    const shopper = new RemoteShopper(web.address);
    await shopper.put(product, 1);
    expect(await shopper.checkout('v1')).toMatchObject({ status: 201 });
  },
);
