import Fastify, { type FastifyInstance } from 'fastify';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { answerInTime } from './deadline.ts';
import { type EventStream, EventStreams } from './event-stream.ts';
import { followRequests } from './open-requests.ts';

let app: FastifyInstance;
let address: string;
let letGo: () => void;
let stream: EventStream | null;

beforeEach(async () => {
  app = Fastify();
  answerInTime(app, followRequests(app), { afterMs: 100, lookEveryMs: 10 });
  const { promise, resolve } = Promise.withResolvers<void>();
  letGo = resolve;
  app.get('/at-once', () => ({ done: true }));
  app.all('/late', async () => promise.then(() => ({ done: true })));
  app.get('/half', (_, reply) => reply.send(new ReadableStream({ start: (stream) => stream.enqueue('half') })));
  const streams = new EventStreams(app);
  app.get('/events', async (_, reply) => {
    stream = streams.open(reply, () => undefined);
    return reply;
  });
  address = await app.listen({ host: '127.0.0.1', port: 0 });
});
afterEach(async () => {
  letGo();
  app.server.closeAllConnections();
  await app.close();
});

const outcomeUnknown = { error: { code: 504, messages: ['The request took too long; its outcome is unknown'] } };
const writing = { method: 'POST', headers: { 'content-type': 'application/json' }, body: '{}' };

describe('a request that is not answered in time', () => {
  it.each([
    ['without a body', {}],
    ['with a body', writing],
  ])('gets 504, %s', async (_, init) => {
    const response = await fetch(`${address}/late`, init);
    expect([response.status, await response.json()]).toEqual([504, outcomeUnknown]);
  });

  it('gets nothing more when its handler is done at last', async () => {
    expect((await fetch(`${address}/late`, writing)).status).toBe(504);
    letGo();
    expect(await (await fetch(`${address}/at-once`)).json()).toEqual({ done: true });
  });

  it('is cut off when half of its answer has left', async () => {
    const response = await fetch(`${address}/half`);
    await expect(response.text()).rejects.toThrow('terminated');
  });
});

it('a stream of events goes on, however long ago it was asked for', async () => {
  const response = await fetch(`${address}/events`);
  await fetch(`${address}/late`);
  stream?.send({ id: 1, event: 'news', data: '{}' });
  stream?.end();
  expect(await response.text()).toMatch(/event: news\ndata: \{\}\n\n$/);
});

describe('a request before its time has come', () => {
  it('is answered by its handler, also behind one that is late', async () => {
    const late = fetch(`${address}/late`);
    const response = await fetch(`${address}/at-once`);
    expect([response.status, await response.json()]).toEqual([200, { done: true }]);
    expect((await late).status).toBe(504);
  });
});
