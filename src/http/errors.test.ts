import { Writable } from 'node:stream';
import { pino } from 'pino';
import { expect, it } from 'vitest';
import { createServer } from './server.ts';

it('tells in the log which request and which route met a fault', async () => {
  const lines: string[] = [];
  const destination = new Writable({
    write: (chunk, _, done) => {
      lines.push(String(chunk));
      done();
    },
  });
  const app = createServer({ logger: pino(destination), allowedOrigins: [] });
  app.get('/broken/:id', async ({ params }) => {
    throw new Error(`The fault of ${(params as { id: string }).id}`);
  });
  for (const id of ['one', 'two']) expect((await app.inject(`/broken/${id}`)).statusCode).toBe(500);
  const told = lines.map((line) => JSON.parse(line));
  expect(told).toMatchObject([
    { level: 50, msg: 'request failed', route: '/broken/:id', err: { message: 'The fault of one' } },
    { level: 50, msg: 'request failed', route: '/broken/:id', err: { message: 'The fault of two' } },
  ]);
  expect(new Set(told.map(({ reqId }) => reqId))).toEqual(new Set([expect.any(String), expect.any(String)]));
  await app.close();
});
