import { once } from 'node:events';
import { type AddressInfo, connect, type Socket } from 'node:net';
import type { FastifyInstance } from 'fastify';
import { pino } from 'pino';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { drainOf } from './drain.ts';
import { createServer } from './server.ts';
import { WaitingRequests } from './waiting-requests.ts';

/** Longer than a test may take: who waits for it has failed. */
const tooLongMs = 60_000;

let app: FastifyInstance;
let waiting: WaitingRequests;
let timeoutMs: number;
/** How many waits were ended by their signal. */
let aborted: number;
let happen: () => void;

beforeEach(async () => {
  app = createServer({ logger: pino({ level: 'silent' }), allowedOrigins: [] });
  waiting = new WaitingRequests(app, 2);
  [timeoutMs, aborted] = [tooLongMs, 0];
  const happened = Promise.withResolvers<void>();
  happen = happened.resolve;
  app.get('/wait', async (_, reply) => {
    await waiting.wait(reply, timeoutMs, (signal) => Promise.race([happened.promise, abortion(signal)]));
    return { done: true };
  });
  await app.listen({ host: '127.0.0.1', port: 0 });
});
afterEach(async () => {
  app.server.closeAllConnections();
  await app.close();
});

async function abortion(signal: AbortSignal): Promise<void> {
  await once(signal, 'abort');
  aborted++;
}

async function ask(): Promise<Socket> {
  const socket = connect((app.server.address() as AddressInfo).port, '127.0.0.1');
  await once(socket, 'connect');
  socket.setEncoding('utf8').write('GET /wait HTTP/1.1\r\nHost: shop.example\r\n\r\n');
  return socket;
}

async function beginOf(socket: Socket): Promise<string> {
  const [text] = await once(socket, 'data');
  return String(text);
}

const waitingAre = (count: number) => expect.poll(() => waiting.size).toBe(count);

it('a request is answered when what it waits for happens', async () => {
  const socket = await ask();
  await waitingAre(1);
  happen();
  expect(await beginOf(socket)).toMatch(/^HTTP\/1\.1 200 OK[\s\S]*\{"done":true\}$/);
  expect([waiting.size, aborted]).toEqual([0, 0]);
});

it('a request is answered when its time is over', async () => {
  timeoutMs = 10;
  expect(await beginOf(await ask())).toMatch(/^HTTP\/1\.1 200 OK/);
  expect([waiting.size, aborted]).toEqual([0, 1]);
});

it('one request too many is refused with 503 until the client of another has gone', async () => {
  const [first] = [await ask(), await ask()];
  await waitingAre(2);
  expect(await beginOf(await ask())).toMatch(/^HTTP\/1\.1 503 [\s\S]*\r\nretry-after: 1\r\n/);
  first.destroy();
  await waitingAre(1);
  await ask();
  await waitingAre(2);
});

it('a server that closes answers those who wait', async () => {
  const sockets = [await ask(), await ask()];
  await waitingAre(2);
  const answers = sockets.map(beginOf);
  await drainOf(app).close(tooLongMs);
  for (const answer of answers) expect(await answer).toMatch(/^HTTP\/1\.1 200 OK[\s\S]*\r\nconnection: close\r\n/i);
});
