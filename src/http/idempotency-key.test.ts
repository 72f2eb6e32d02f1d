import { once } from 'node:events';
import { type IncomingMessage, request } from 'node:http';
import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { idempotencyKeyOf, KeysUnderWay, sendKeyUnderWay } from './idempotency-key.ts';
import { createServer } from './server.ts';

const app = createServer({ logger: pino({ level: 'silent' }), allowedOrigins: [] });
const underWay = new KeysUnderWay();
const basket = '018f0000-0000-7000-8b00-000000000001';
const otherBasket = '018f0000-0000-7000-8b00-000000000002';
let address = '';
let begun = 0;
let letGo = (): void => undefined;

function untilLetGo(): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  letGo = resolve;
  return promise;
}

beforeAll(async () => {
  app.get('/key', async (asked) => ({ key: idempotencyKeyOf(asked) }));
  app.get('/work/:how', async (asked, reply) => {
    const done = await underWay.run(asked, async () => {
      begun++;
      if (asked.url.endsWith('/fails')) throw new Error('The work fails');
      if (asked.url.endsWith('/takes-long')) await untilLetGo();
      return 'done';
    });
    return done === null ? sendKeyUnderWay(asked, reply) : { done };
  });
  address = await app.listen({ port: 0, host: '127.0.0.1' });
});
afterAll(() => app.close());

/** With node:http, which sends a header of several values as so many headers. */
async function ask(
  path: string,
  key: string | string[] | null,
  token: string | null = basket,
): Promise<[number, unknown]> {
  const headers = {
    ...(key !== null && { 'idempotency-key': key }),
    ...(token && { authorization: `Bearer ${token}` }),
  };
  const [response] = (await once(request(address + path, { agent: false, headers }).end(), 'response')) as [
    IncomingMessage,
  ];
  const body = JSON.parse(Buffer.concat(await response.toArray()).toString());
  return [response.statusCode ?? 0, body];
}

describe('the key of a request', () => {
  it.each([
    [null, null],
    ['abc', 'abc'],
    ['"abc"', 'abc'],
    ['"a\\"b\\\\c"', 'a"b\\c'],
    ['a"b\\c', 'a"b\\c'],
    ['k'.repeat(255), 'k'.repeat(255)],
    [`"${'\\"'.repeat(255)}"`, '"'.repeat(255)],
  ])('sent as %s is %s', async (sent, key) => {
    expect(await ask('/key', sent)).toEqual([200, { key }]);
  });

  it.each([
    [''],
    ['""'],
    ['a b'],
    ['"a b"'],
    ['"a'],
    ['"a"b'],
    ['"a\\b"'],
    ['ü'],
    ['k'.repeat(256)],
    [`"${'k'.repeat(256)}"`],
  ])('cannot be %s', async (sent) => {
    expect((await ask('/key', sent))[0]).toBe(400);
  });

  it.each([[['a', 'b']], [['a', 'a']], [['"a"', '"b"']], [['', 'a']]])('cannot be given as %j', async (sent) => {
    expect((await ask('/key', sent))[0]).toBe(400);
  });
});

describe('while a request with a key is under way', () => {
  it('its twin is turned away, and nobody else', async () => {
    const first = ask('/work/takes-long', 'key');
    await expect.poll(() => begun).toBe(1);
    expect(await ask('/work/takes-long', 'key')).toEqual([
      409,
      { error: { code: 409, messages: ['A request with this Idempotency-Key is being processed'] } },
    ]);
    for (const [key, token] of [
      ['other', basket],
      ['key', otherBasket],
      ['key', null],
      [null, basket],
    ] as const)
      expect((await ask('/work/ends', key, token))[0]).toBe(200);
    letGo();
    expect((await first)[0]).toBe(200);
    const again = ask('/work/takes-long', 'key');
    await expect.poll(() => begun).toBe(6);
    letGo();
    expect((await again)[0]).toBe(200);
  });

  it('and fails, the next one is not its twin any more', async () => {
    for (const _ of ['first', 'next']) expect((await ask('/work/fails', 'fails'))[0]).toBe(500);
  });
});
