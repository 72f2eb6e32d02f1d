import { once } from 'node:events';
import { type AddressInfo, connect, type Socket } from 'node:net';
import type { FastifyInstance } from 'fastify';
import { pino } from 'pino';
import { beforeEach, describe, expect, it } from 'vitest';
import { type Drain, drainOf } from './drain.ts';
import { createServer } from './server.ts';

/** Longer than a test may take: who waits for it has failed. */
const tooLongMs = 60_000;

let app: FastifyInstance;
let drain: Drain;
let letGo: () => void;
let begun: Promise<unknown>;
let requests: number;

beforeEach(async () => {
  app = createServer({ logger: pino({ level: 'silent' }), allowedOrigins: [] });
  drain = drainOf(app);
  const [asked, work] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  begun = asked.promise;
  letGo = work.resolve;
  requests = 0;
  app.all('/work', async () => {
    requests++;
    asked.resolve();
    await work.promise;
    return { done: true };
  });
  await app.listen({ host: '127.0.0.1', port: 0 });
});

/** Sends `text` on a connection of its own. */
async function send(text: string): Promise<Socket> {
  const socket = connect((app.server.address() as AddressInfo).port, '127.0.0.1');
  await once(socket, 'connect');
  socket.setEncoding('utf8').write(text);
  return socket;
}

const read = { name: 'a read', text: 'GET /work HTTP/1.1\r\nHost: shop.example\r\n\r\n' };
const head = 'POST /work HTTP/1.1\r\nHost: shop.example\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n';
const write = { name: 'a write', text: `${head}{}` };

describe.each([read, write])('a server that is closed during $name', ({ text }) => {
  it('answers it first, and says that the connection ends', async () => {
    const socket = await send(text);
    await begun;
    const closed = drain.close(tooLongMs);
    await expect.poll(() => app.server.listening).toBe(false);
    letGo();
    const answer = (await socket.toArray()).join('');
    expect(answer).toMatch(/^HTTP\/1\.1 200 OK\r\n/);
    expect(answer).toMatch(/\r\nconnection: close\r\n/i);
    expect(answer).toMatch(/\{"done":true\}$/);
    await closed;
  });

  it('does not wait for it once its client has gone, during or before', async () => {
    const earlier = await send(text);
    await begun;
    earlier.destroy();
    const later = await send(text);
    await expect.poll(connections).toBe(1);
    const closed = drain.close(tooLongMs);
    later.destroy();
    await closed;
  });

  it('waits no longer than it was told', async () => {
    const socket = await send(text);
    await begun;
    const ended = endOf(socket);
    await drain.close(50);
    await ended;
  });
});

describe('a server that is closed while a request is under way', () => {
  it('answers what comes on another open connection as the contract says: 503, come back later, connection ends', async () => {
    const underWay = await send(read.text);
    await begun;
    // The answer to the first tells that the server has read the beginning of the second.
    const late = await send('GET /nothing HTTP/1.1\r\nHost: shop.example\r\n\r\nGET /anything HTTP/1.1\r\n');
    await once(late, 'data');
    const closed = drain.close(tooLongMs);
    late.write('Host: shop.example\r\n\r\n');
    const [head = '', body = ''] = (await late.toArray()).join('').split('\r\n\r\n');
    expect(head).toMatch(/^HTTP\/1\.1 503 Service Unavailable\r\n/);
    expect(head).toMatch(/\r\nconnection: close\r\n/i);
    expect(head).toMatch(/\r\nretry-after: \d+\r\n/i);
    expect(head).toMatch(/\r\ncontent-type: application\/json; charset=utf-8\r\n/i);
    expect(JSON.parse(body)).toEqual({ error: { code: 503, messages: ['The service is busy, please try again'] } });
    letGo();
    await underWay.toArray();
    await closed;
  });

  it('answers all that were sent on one connection, and ends it after the last', async () => {
    const socket = await send(read.text + read.text);
    await begun;
    await expect.poll(() => requests).toBe(2);
    const closed = drain.close(tooLongMs);
    await expect.poll(() => app.server.listening).toBe(false);
    letGo();
    const answers = (await socket.toArray()).join('').split('HTTP/1.1 200 OK').slice(1);
    expect(answers.map((answer) => /\r\nconnection: close\r\n/i.test(answer))).toEqual([false, true]);
    await closed;
  });
});

it('does not wait for a request that has not arrived whole', async () => {
  const socket = await send(`${head}{`);
  await expect.poll(connections).toBe(1);
  const ended = endOf(socket);
  await drain.close(tooLongMs);
  await ended;
});

function endOf(socket: Socket): Promise<unknown> {
  return new Promise((resolve) => socket.on('error', () => undefined).on('close', resolve));
}

function connections(): Promise<number> {
  return new Promise((resolve) => app.server.getConnections((_, count) => resolve(count)));
}
