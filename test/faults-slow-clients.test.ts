import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { expect, test } from 'vitest';
import { WebSocket } from 'ws';
import { eventually } from './support/eventually.ts';
import { faultTimeoutMs, onFaultStage } from './support/fault-stage.ts';
import { type Answer, RemoteShopper, type ShopProcess } from './support/process.ts';
import { addProduct } from './support/shop.ts';

const idleSockets = 10_000;
const openedAtOnce = 200;
/** With nothing else to do an answer takes some milliseconds, on a busy machine more. */
const promptMs = 20_000;
/** A socket that says nothing takes some 10 KB. */
const mostGrowthMb = 500;
const dripping = 500;
/** A hundred answers of 50 connections each, some of them not collected yet; of all that is asked for it would be 15 GB. */
const mostUnreadMb = 2_000;

test(
  '10,000 idle sockets and clients that never finish a request hold up nobody, and memory stays bounded',
  () =>
    onWarmShop(async ({ shop, product, before }) => {
      const idle = await openIdle(shop);
      const drips = await Promise.all(Array.from({ length: dripping }, (_, index) => drip(shop, index)));
      await expectPrompt(shop, product);
      expect(idle.filter((socket) => socket.readyState === WebSocket.OPEN)).toHaveLength(idleSockets);
      expect(memoryMb(shop) - before).toBeLessThan(mostGrowthMb);
      // Whoever does not finish its request is sent away in time.
      await eventually(() => drips.every((socket) => socket.destroyed), 120_000);
      for (const socket of idle) socket.terminate();
      await expectPrompt(shop, product);
    }),
  faultTimeoutMs,
);

test(
  'clients that ask for much and read nothing take a bounded part of memory',
  () =>
    onWarmShop(async ({ shop, product, before }) => {
      const deaf = await Promise.all(Array.from({ length: 50 }, () => askAndNeverRead(shop)));
      await expectPrompt(shop, product);
      expect(memoryMb(shop) - before).toBeLessThan(mostUnreadMb);
      for (const socket of deaf) socket.destroy();
    }),
  faultTimeoutMs,
);

/** Gives `play` a shop that has sold something, and how much memory it takes then. */
function onWarmShop(
  play: (about: Readonly<{ shop: ShopProcess; product: string; before: number }>) => Promise<void>,
): Promise<void> {
  return onFaultStage(async (stage) => {
    const product = await addProduct(stage.ledger, { stock: 10_000 });
    const shop = await stage.start('all');
    await expectPrompt(shop, product);
    await play({ shop, product, before: memoryMb(shop) });
  });
}

/** A shopper who comes now is served. */
async function expectPrompt(shop: ShopProcess, product: string): Promise<void> {
  const shopper = new RemoteShopper(shop.address);
  const startMs = performance.now();
  const answers: Answer[] = [await shopper.put(product, 1), await shopper.checkout('v1')];
  expect(answers.map(({ status }) => status)).toEqual([201, 201]);
  expect(performance.now() - startMs).toBeLessThan(promptMs);
}

function memoryMb({ pid }: ShopProcess): number {
  return Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1_024;
}

async function openIdle(shop: ShopProcess): Promise<WebSocket[]> {
  const sockets: WebSocket[] = [];
  while (sockets.length < idleSockets) {
    const more = Array.from({ length: openedAtOnce }, () => openSocket(shop));
    sockets.push(...(await Promise.all(more)));
  }
  return sockets;
}

async function openSocket(shop: ShopProcess): Promise<WebSocket> {
  const socket = new WebSocket(`${shop.address.replace('http', 'ws')}/cable`, ['actioncable-v1-json']);
  await once(socket, 'open');
  return socket;
}

/** A request of which the head, or the body, is never sent to its end. */
async function drip(shop: ShopProcess, index: number): Promise<Socket> {
  const socket = connect(Number(new URL(shop.address).port), '127.0.0.1');
  socket.on('error', () => socket.destroy()).on('end', () => socket.destroy());
  await once(socket, 'connect');
  const body = '\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"product":';
  socket.write(`POST /api/v1/shopping_basket/products HTTP/1.1\r\nHost: shop${index % 2 === 0 ? body : ''}`);
  socket.resume();
  return socket;
}

async function askAndNeverRead(shop: ShopProcess): Promise<Socket> {
  const socket = connect(Number(new URL(shop.address).port), '127.0.0.1');
  socket.on('error', () => socket.destroy());
  await once(socket, 'connect');
  socket.pause();
  socket.write('GET /openapi.json HTTP/1.1\r\nHost: shop\r\n\r\n'.repeat(2_000));
  return socket;
}
