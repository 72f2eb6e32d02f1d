import Fastify, { type FastifyInstance, type LightMyRequestResponse as Response } from 'fastify';
import { afterEach, describe, expect, it } from 'vitest';
import { markPrivate, markPublic, sendConditional, type Validity } from './conditional.ts';

const changed = new Date('2026-01-02T03:04:05.678Z');
const lastModified = 'Fri, 02 Jan 2026 03:04:05 GMT';
const later = (seconds: number): Date => new Date(Date.parse('2026-01-02T03:04:05Z') + seconds * 1_000);
const certain = { changedAt: changed, readAt: later(3_600) };

let app: FastifyInstance;
afterEach(() => app.close());

async function get(document: unknown, validity?: Validity, headers: Record<string, string> = {}): Promise<Response> {
  app = Fastify();
  app.get('/', (request, reply) => sendConditional(request, reply, document, validity));
  return app.inject({ url: '/', headers });
}

describe('an ETag', () => {
  it('is strong, and changes if and only if the bytes do', async () => {
    const etag = async (document: unknown): Promise<unknown> => (await get(document)).headers.etag;
    const first = await etag({ name: 'Lamp' });
    expect(first).toMatch(/^"[\w-]{27}"$/);
    expect(await etag({ name: 'Lamp' })).toBe(first);
    expect(await etag({ name: 'Lamp ' })).not.toBe(first);
  });

  it.each([
    ['itself', (etag: string) => etag],
    ['its weak form', (etag: string) => `W/${etag}`],
    ['one of several', (etag: string) => `"a", W/"b",${etag} , "c"`],
    ['anything', () => '*'],
  ])('answers 304 with the same validators to whoever has %s', async (_, noneMatch) => {
    const { headers } = await get({ a: 1 }, certain);
    const response = await get({ a: 1 }, certain, { 'if-none-match': noneMatch(String(headers.etag)) });
    expect([response.statusCode, response.body]).toEqual([304, '']);
    expect(response.headers).toMatchObject({ etag: headers.etag, 'last-modified': lastModified });
  });

  it.each(['"other"', '', 'W/', '"', ',,,', '"other" *'])('answers 200 to If-None-Match: %s', async (noneMatch) => {
    const response = await get({ a: 1 }, certain, { 'if-none-match': noneMatch, 'if-modified-since': lastModified });
    expect([response.statusCode, response.body]).toEqual([200, '{"a":1}']);
  });
});

describe('Last-Modified', () => {
  it('is sent once its second is 10 s past, so that no later change can share it', async () => {
    const sent = async (readAt: Date): Promise<unknown> =>
      (await get({}, { changedAt: changed, readAt })).headers['last-modified'];
    expect(await sent(later(10.999))).toBeUndefined();
    expect(await sent(later(11))).toBe(lastModified);
    expect((await get({})).headers['last-modified']).toBeUndefined();
  });

  it.each([
    [lastModified, 304],
    ['Fri, 02 Jan 2026 03:04:06 GMT', 304],
    ['Fri, 02 Jan 2026 03:04:04 GMT', 200],
    ['9999', 200],
    ['2027-01-01T00:00:00Z', 200],
    ['Fri, 32 Jan 2026 03:04:05 GMT', 200],
    ['Mon, 02 Jan 2026 03:04:05 GMT', 200],
    ['', 200],
    ['soon', 200],
  ])('of a document makes If-Modified-Since: %s answer %i', async (since, statusCode) => {
    expect((await get({}, certain, { 'if-modified-since': since })).statusCode).toBe(statusCode);
  });

  it('that is not sent answers nobody with 304', async () => {
    const fresh = { changedAt: changed, readAt: later(1) };
    expect((await get({}, fresh, { 'if-modified-since': 'Fri, 02 Jan 2037 03:04:05 GMT' })).statusCode).toBe(200);
  });
});

describe('an answer', () => {
  it('may be kept by all, or only by who asked, beside other reasons to vary', async () => {
    app = Fastify();
    app.get('/public', async (_, reply) => markPublic(reply).send('{}'));
    app.get('/private', async (_, reply) => markPrivate(reply.header('Vary', 'Origin')).send('{}'));
    expect((await app.inject('/public')).headers['cache-control']).toBe('public, no-cache');
    expect((await app.inject('/private')).headers).toMatchObject({
      'cache-control': 'private, no-cache',
      vary: 'Origin, Authorization',
    });
  });
});
