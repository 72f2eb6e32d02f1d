import type { LightMyRequestResponse as Response } from 'fastify';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { addProduct, openTestShop, Shopper, type TestShop } from './support/shop.ts';

let shop: TestShop;
let shopper: Shopper;
let lampId: string;
let orderPath: string;

beforeAll(async () => {
  shop = await openTestShop({ ROLE: 'web' });
  shopper = new Shopper(shop.app);
  lampId = await addProduct(shop);
  await shopper.put(lampId, 1);
  orderPath = String((await shopper.checkout('v2')).headers.location);
});
afterAll(() => shop.close());

/** What there is to read, by names that hold before there is a shop. */
const readable: ReadonlyArray<readonly [name: string, url: () => string, status: number]> = [
  ['products by number', () => '/api/v1/products?page=1', 200],
  ['products by key', () => '/api/v2/products', 200],
  ['a product', () => `/api/v1/products/${lampId}`, 200],
  ['a product that is none', () => '/api/v2/products/1', 404],
  ['the basket', () => '/api/v1/shopping_basket', 200],
  ['an order', () => orderPath, 200],
  ['an order that is none', () => '/api/v2/orders/1', 404],
  ['a page that is none', () => '/api/v2/products?page=1', 400],
  ['a probe', () => '/ready', 200],
  ['the description', () => '/openapi.json', 200],
  ['nothing', () => '/nothing', 404],
];

/** All headers but those of the moment and of the connection. */
function steadyHeaders({ headers }: Response): Record<string, unknown> {
  const { date, connection, 'transfer-encoding': encoding, ...steady } = headers;
  return steady;
}

describe.each(readable)('%s', (_, url, status) => {
  it('is answered to HEAD as to GET, without the body', async () => {
    const got = await shopper.request({ url: url() });
    const head = await shopper.request({ method: 'HEAD', url: url() });
    expect([got.statusCode, head.statusCode, head.body]).toEqual([status, status, '']);
    expect(steadyHeaders(head)).toEqual(steadyHeaders(got));
    expect(head.headers['content-length']).toBe(String(Buffer.byteLength(got.body)));
  });

  it('is the same with a slash at its end', async () => {
    const [path, query = ''] = url().split('?');
    const got = await shopper.request({ url: url() });
    const slashed = await shopper.request({ url: `${path}/`, query });
    expect([slashed.statusCode, slashed.body]).toEqual([got.statusCode, got.body]);
  });

  it('may be asked for with a body that nobody reads', async () => {
    const got = await shopper.request({ url: url() });
    const asked = await shopper.request({ url: url(), headers: { 'content-type': 'text/plain' }, payload: '{' });
    expect([asked.statusCode, asked.body]).toEqual([got.statusCode, got.body]);
  });
});

describe('a validator', () => {
  it.each(readable.filter(([name, , status]) => status === 200 && /product|basket|order/.test(name)))(
    'of %s answers HEAD with 304 as well',
    async (_, url) => {
      const { etag } = (await shopper.request({ url: url() })).headers;
      for (const method of ['GET', 'HEAD'] as const) {
        const again = await shopper.request({ method, url: url(), headers: { 'if-none-match': String(etag) } });
        expect([again.statusCode, again.body, again.headers.etag]).toEqual([304, '', etag]);
      }
    },
  );
});

describe('a write with a slash at the end of its path', () => {
  it('is the same', async () => {
    const payload = { product: { product_id: lampId, quantity: 3 } };
    const response = await shopper.request({ method: 'POST', url: '/api/v2/shopping_basket/products/', payload });
    expect([response.statusCode, response.json().products[0].quantity]).toEqual([201, 3]);
  });
});

describe('an error', () => {
  it.each([
    ['application/problem+json', 'application/problem+json'],
    ['application/json;q=0.5, Application/Problem+JSON', 'application/problem+json'],
    ['application/json', 'application/json; charset=utf-8'],
    ['text/html', 'application/json; charset=utf-8'],
    ['*/*', 'application/json; charset=utf-8'],
    ['image/*, no such thing', 'application/json; charset=utf-8'],
  ])('for Accept: %s is of type %s', async (accept, type) => {
    const response = await shop.app.inject({ url: '/api/v1/products/1', headers: { accept } });
    expect([response.statusCode, response.headers['content-type']]).toEqual([404, type]);
  });

  it.each([
    ['/nothing', 404],
    ['/api/v1/products/%zz', 400],
    [`/api/v1/products/${'a'.repeat(200)}`, 414],
    ['/api/v2/products?page=1', 400],
    ['/api/v2/products?page=1&page=2', 400],
  ])('of the framework is told as problem details, too: %s', async (url, status) => {
    const response = await shop.app.inject({ url, headers: { accept: 'application/problem+json' } });
    expect(response.json()).toMatchObject({ type: 'about:blank', status, detail: expect.any(String) });
  });
});
