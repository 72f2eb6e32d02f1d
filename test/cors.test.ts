import type { FastifyInstance, LightMyRequestResponse as Response } from 'fastify';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { addProduct, openTestShop, Shopper, type TestShop } from './support/shop.ts';

const listed = 'https://shop.example';
const foreign = 'https://evil.example';
const products = '/api/v1/shopping_basket/products';

let open: TestShop;
let closed: TestShop;
let openLamp: string;
let closedLamp: string;

beforeAll(async () => {
  open = await openTestShop({ ROLE: 'web', ALLOWED_ORIGINS: `${listed}, http://localhost:5173` });
  closed = await openTestShop({ ROLE: 'web' });
  [openLamp, closedLamp] = [await addProduct(open), await addProduct(closed)];
});
afterAll(() => Promise.all([open.close(), closed.close()]));

const corsHeaders = (response: Response): string[] =>
  Object.keys(response.headers).filter((name) => name.startsWith('access-control-'));

const wordsOf = (header: unknown): string[] => String(header).split(', ').toSorted();

function preflight(app: FastifyInstance, origin: string, url = products): Promise<Response> {
  const headers = {
    origin,
    'access-control-request-method': 'POST',
    'access-control-request-headers': 'authorization,content-type',
  };
  return app.inject({ method: 'OPTIONS', url, headers });
}

function put(shop: TestShop, productId: string, headers: Record<string, string>): Promise<Response> {
  const payload = { product: { product_id: productId, quantity: 1 } };
  return shop.app.inject({ method: 'POST', url: products, headers, payload });
}

describe('a page of a listed origin', () => {
  it.each([products, '/api/v2/shopping_basket/checkout', '/api/v1/shopping_basket', '/api/v2/orders/1'])(
    'is told before it asks what it may send to %s',
    async (url) => {
      const response = await preflight(open.app, listed, url);
      expect([response.statusCode, response.body]).toEqual([204, '']);
      expect(response.headers).toMatchObject({
        'access-control-allow-origin': listed,
        'access-control-allow-methods': 'GET, HEAD, POST',
        'access-control-max-age': '600',
        allow: expect.stringContaining('OPTIONS'),
      });
      expect(wordsOf(response.headers['access-control-allow-headers'])).toEqual(
        expect.arrayContaining(['Authorization', 'Content-Type', 'Idempotency-Key', 'If-None-Match']),
      );
      expect(wordsOf(response.headers.vary)).toContain('Origin');
    },
  );

  it('may write, and read the token, the validator and the address that it needs', async () => {
    const response = await put(open, openLamp, { origin: listed });
    expect(response.statusCode).toBe(201);
    expect(response.headers['access-control-allow-origin']).toBe(listed);
    expect(wordsOf(response.headers['access-control-expose-headers'])).toEqual(
      expect.arrayContaining(['ETag', 'Location', 'Retry-After', 'Shopping-Basket-ID']),
    );
    expect(response.headers).not.toHaveProperty('access-control-allow-credentials');
  });

  it('may read errors', async () => {
    const shopper = new Shopper(open.app);
    const headers = { origin: listed };
    const { headers: notFound } = await shopper.request({ url: '/api/v1/products/1', headers });
    const refused = await put(open, 'nothing', headers);
    expect([refused.statusCode, refused.headers['access-control-allow-origin']]).toEqual([404, listed]);
    expect(notFound['access-control-allow-origin']).toBe(listed);
  });
});

describe('an answer', () => {
  it('that depends on the token varies with both, whoever asks', async () => {
    for (const headers of [{}, { origin: listed }, { origin: foreign }]) {
      const response = await open.app.inject({ url: '/api/v1/shopping_basket', headers });
      expect(wordsOf(response.headers.vary)).toEqual(['Authorization', 'Origin']);
      const etag = String(response.headers.etag);
      const again = await open.app.inject({
        url: '/api/v1/shopping_basket',
        headers: { ...headers, 'if-none-match': etag },
      });
      expect([again.statusCode, wordsOf(again.headers.vary)]).toEqual([304, ['Authorization', 'Origin']]);
    }
  });

  it('that anybody may keep varies with the origin', async () => {
    const response = await open.app.inject('/api/v1/products');
    expect([response.headers['cache-control'], response.headers.vary]).toEqual(['public, no-cache', 'Origin']);
  });

  it('of a shop that lists nobody varies with the token only', async () => {
    const response = await closed.app.inject('/api/v1/shopping_basket');
    expect(response.headers.vary).toBe('Authorization');
    expect((await closed.app.inject('/api/v1/products')).headers).not.toHaveProperty('vary');
  });
});

describe('a page of another origin', () => {
  it.each([foreign, 'null', 'http://shop.example', `${listed}.evil.example`, `${listed}:444`, 'http://localhost:5174'])(
    'may not write nor be told anything: %s',
    async (origin) => {
      expect((await preflight(open.app, origin)).headers).not.toHaveProperty('access-control-allow-origin');
      const written = await put(open, openLamp, { origin });
      expect(written.statusCode).toBe(403);
      expect(written.headers).not.toHaveProperty('access-control-allow-origin');
      expect(written.headers).not.toHaveProperty('shopping-basket-id');
      const read = await open.app.inject({ url: '/api/v1/products', headers: { origin } });
      expect(read.headers).not.toHaveProperty('access-control-allow-origin');
    },
  );

  it('may not even where a shop lists nobody', async () => {
    const answer = await preflight(closed.app, listed);
    expect([answer.statusCode, answer.headers.allow, corsHeaders(answer)]).toEqual([204, 'POST, OPTIONS', []]);
    expect((await put(closed, closedLamp, { origin: listed })).statusCode).toBe(403);
    expect(corsHeaders(await closed.app.inject({ url: '/up', headers: { origin: listed } }))).toEqual([]);
  });
});

describe('a page of the shop itself, and a program', () => {
  it.each([
    { origin: 'http://localhost', host: 'localhost' },
    { origin: 'https://api.example', host: 'api.example:443' },
    { host: 'api.example' },
  ])('may write: %j', async (headers) => {
    expect((await put(closed, closedLamp, headers)).statusCode).toBe(201);
    expect((await put(open, openLamp, headers)).statusCode).toBe(201);
  });

  it('may ask for the methods of a resource without being a preflight', async () => {
    const response = await open.app.inject({ method: 'OPTIONS', url: products });
    expect([response.statusCode, response.body, response.headers.allow]).toEqual([204, '', 'POST, OPTIONS']);
  });
});
