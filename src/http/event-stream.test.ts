import { once } from 'node:events';
import { type AddressInfo, connect, type Socket } from 'node:net';
import type { FastifyInstance } from 'fastify';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { drainOf } from './drain.ts';
import { type EventStream, type EventStreamLimits, EventStreams } from './event-stream.ts';
import { createServer } from './server.ts';

/** Longer than a test may take: who waits for it has failed. */
const tooLongMs = 60_000;
const limits: EventStreamLimits = { open: 3, buffered: 100_000, heartbeatMs: tooLongMs };
const megabyte = 'x'.repeat(1_000_000);

let app: FastifyInstance;
let streams: EventStreams;
let opened: EventStream[];
/** What has been told of the ends of streams of this server. */
let closed: true[];
const sockets: Socket[] = [];

beforeEach(() => serve(limits));
afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy();
  app.server.closeAllConnections();
  await app.close();
});

async function serve(chosen: EventStreamLimits): Promise<void> {
  await app?.close();
  app = createServer({ logger: pino({ level: 'silent' }), allowedOrigins: [] });
  streams = new EventStreams(app, chosen);
  const ends: true[] = [];
  [opened, closed] = [[], ends];
  app.get('/events', async (_, reply) => {
    const stream = streams.open(reply, () => ends.push(true));
    if (stream) opened.push(stream);
    return reply;
  });
  await app.listen({ host: '127.0.0.1', port: 0 });
}

/** A client that reads as fast as it can, until it is paused. */
async function ask(method = 'GET'): Promise<{ socket: Socket; text: () => string }> {
  const socket = connect((app.server.address() as AddressInfo).port, '127.0.0.1');
  sockets.push(socket.on('error', () => undefined));
  await once(socket, 'connect');
  let text = '';
  socket.setEncoding('utf8').on('data', (chunk: string) => {
    text += chunk;
  });
  socket.write(`${method} /events HTTP/1.1\r\nHost: shop.example\r\n\r\n`);
  return { socket, text: () => text };
}

/** The stream of a client that has read its beginning. */
async function listen(): Promise<{ socket: Socket; text: () => string; stream: EventStream }> {
  const client = await ask();
  await expect.poll(client.text).toMatch(/retry: \d+\n\n/);
  const stream = opened.at(-1);
  if (!stream) throw new Error('No stream was opened');
  return { ...client, stream };
}

const fill = (stream: EventStream): void => {
  for (let id = 1; id <= 20; id++) stream.send({ id, event: 'large', data: megabyte });
};

describe('a stream', () => {
  it('says how it is sent, then each event with its id', async () => {
    const { stream, text } = await listen();
    stream.send({ id: 7, event: 'news', data: '{"a":1}' });
    await expect.poll(text).toContain('id: 7\nevent: news\ndata: {"a":1}\n\n');
    expect(text()).toMatch(/^HTTP\/1\.1 200 OK\r\n/);
    for (const line of [
      'content-type: text/event-stream',
      'cache-control: no-store',
      'x-content-type-options: nosniff',
    ])
      expect(text()).toContain(`\r\n${line}\r\n`);
  });

  it('gives a sign of life when there is nothing to tell', async () => {
    await serve({ ...limits, heartbeatMs: 30 });
    const { text } = await listen();
    await expect.poll(text).toMatch(/\n\n[\s\S]*:\n\n[\s\S]*:\n\n/);
  });

  it('is cut off when its client does not read, while others go on', async () => {
    const [slow, other] = [await listen(), await listen()];
    slow.socket.pause();
    fill(slow.stream);
    await expect.poll(() => [streams.size, closed.length]).toEqual([1, 1]);
    other.stream.send({ id: 1, event: 'news', data: '{}' });
    await expect.poll(other.text).toContain('event: news');
  });

  it('is forgotten when its client goes away, and what is sent to it afterwards is no error', async () => {
    const { socket, stream } = await listen();
    socket.destroy();
    await expect.poll(() => [streams.size, closed.length]).toEqual([0, 1]);
    stream.send({ id: 1, event: 'news', data: '{}' });
    stream.end();
    expect([streams.size, closed.length]).toEqual([0, 1]);
  });

  it('ends the connection when it ends', async () => {
    const { socket, stream, text } = await listen();
    const ended = once(socket, 'close');
    stream.send({ id: 1, event: 'last', data: '{}' });
    stream.end();
    stream.send({ id: 2, event: 'late', data: '{}' });
    await ended;
    expect(text()).toMatch(/event: last\ndata: \{\}\n\n\r\n0\r\n\r\n$/);
    expect([streams.size, closed.length]).toEqual([0, 1]);
  });

  it('is not begun for HEAD', async () => {
    const { socket, text } = await ask('HEAD');
    await once(socket, 'close');
    expect(text()).toMatch(/^HTTP\/1\.1 200 OK\r\n[\s\S]*text\/event-stream[\s\S]*\r\n\r\n$/);
    expect(streams.size).toBe(0);
  });
});

it('one stream too many is refused with 503 until another has ended', async () => {
  const [first] = [await listen(), await listen(), await listen()];
  const late = await ask();
  await expect.poll(late.text).toMatch(/^HTTP\/1\.1 503 [\s\S]*\r\nretry-after: 5\r\n[\s\S]*"code":503/);
  first.socket.destroy();
  await expect.poll(() => streams.size).toBe(2);
  await listen();
});

describe('a server that closes', () => {
  it('ends its streams whole', async () => {
    const clients = [await listen(), await listen()];
    await drainOf(app).close(tooLongMs);
    expect(closed.length).toBe(2);
    for (const { text } of clients) await expect.poll(text).toMatch(/0\r\n\r\n$/);
  });

  it('does not wait for a client that does not read', async () => {
    await serve({ ...limits, buffered: 100 * megabyte.length });
    const { socket, stream } = await listen();
    socket.pause();
    fill(stream);
    stream.end();
    await drainOf(app).close(tooLongMs);
    expect([streams.size, closed.length]).toEqual([0, 1]);
  });
});
