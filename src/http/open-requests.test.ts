import { once } from 'node:events';
import { type AddressInfo, connect, type Socket } from 'node:net';
import type { FastifyInstance } from 'fastify';
import { pino } from 'pino';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { openRequestsOf } from './open-requests.ts';
import { createServer } from './server.ts';

const get = 'GET /work HTTP/1.1\r\nHost: shop.example\r\n\r\n';

let app: FastifyInstance;
let letGo: () => void;

beforeEach(async () => {
  app = createServer({ logger: pino({ level: 'silent' }), allowedOrigins: [] });
  const work = Promise.withResolvers<void>();
  letGo = work.resolve;
  app.get('/work', async () => {
    await work.promise;
    return { done: true };
  });
  await app.listen({ host: '127.0.0.1', port: 0 });
});
afterEach(async () => {
  letGo();
  app.server.closeAllConnections();
  await app.close();
});

async function send(text: string): Promise<Socket> {
  const socket = connect((app.server.address() as AddressInfo).port, '127.0.0.1');
  socket.on('error', () => undefined);
  await once(socket, 'connect');
  socket.setEncoding('utf8').write(text);
  return socket;
}

it('requests sent one behind the other are all open, and none is once their client has gone', async () => {
  const socket = await send(get.repeat(3));
  await expect.poll(() => openRequestsOf(app).size).toBe(3);
  socket.destroy();
  await expect.poll(() => openRequestsOf(app).size).toBe(0);
});

it('a hundred requests sent one behind the other are answered', async () => {
  const socket = await send(get.repeat(100));
  await expect.poll(() => openRequestsOf(app).size).toBe(100);
  let answers = '';
  socket.on('data', (text: string) => {
    answers += text;
  });
  letGo();
  await expect.poll(() => answers.split('{"done":true}').length - 1).toBe(100);
  socket.destroy();
});

it('a connection with more of them is cut, and others are not', async () => {
  const other = await send(get);
  const socket = await send(get.repeat(101));
  socket.resume();
  await once(socket, 'close');
  await expect.poll(() => openRequestsOf(app).size).toBe(1);
  letGo();
  const [answer] = (await once(other, 'data')) as [string];
  expect(answer).toMatch(/^HTTP\/1\.1 200 OK\r\n/);
  other.destroy();
});
