import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { addProduct, openTestShop, type TestShop } from './support/shop.ts';

let shop: TestShop;
const ids: string[] = [];
let soldOut: string;

beforeAll(async () => {
  shop = await openTestShop();
  for (let n = 1; n <= 45; n++) ids.push(await addProduct(shop, { name: `Product ${n}`, stock: n === 3 ? 0 : 5 }));
  soldOut = String(ids[2]);
  ids.sort();
});
afterAll(() => shop.close());

describe('a product', () => {
  it.each(['v1', 'v2'])('is shown with its price and stock status, never its stock, in %s', async (version) => {
    const id = await addProduct(shop, { name: 'Chair' });
    const response = await shop.app.inject(`/api/${version}/products/${id}`);
    await shop.query('UPDATE products SET archived_at = now() WHERE id = $1', [id]);
    expect(response.statusCode).toBe(200);
    expect(response.json()).toEqual({
      id,
      name: 'Chair',
      description: 'It shines',
      price: { cents: 1000, currency: 'USD' },
      stock_status: 'AVAILABLE',
    });
  });

  it('is out of stock when nothing is sellable', async () => {
    expect((await shop.app.inject(`/api/v1/products/${soldOut}`)).json().stock_status).toBe('OUT_OF_STOCK');
  });

  it.each(['01960000-0000-7000-8000-000000000000', '1', 'abc', '1abc'])('%s is not found', async (id) => {
    const response = await shop.app.inject(`/api/v1/products/${id}`);
    expect(response.statusCode).toBe(404);
    expect(response.json()).toEqual({ error: { code: 404, messages: [`Couldn't find Product with 'id'="${id}"`] } });
  });

  it('is not found once it is archived, and is counted no more', async () => {
    const id = await addProduct(shop);
    const before = (await shop.app.inject('/api/v1/products')).json().record_count;
    await shop.query('UPDATE products SET archived_at = now() WHERE id = $1', [id]);
    expect((await shop.app.inject(`/api/v2/products/${id}`)).statusCode).toBe(404);
    expect((await shop.app.inject('/api/v1/products')).json().record_count).toBe(before - 1);
  });
});

describe('pages by number', () => {
  it('count exactly and keep ascending ids', async () => {
    const page = (await shop.app.inject('/api/v1/products?page=3')).json();
    expect(page).toMatchObject({ page: 3, pages: 3, per_page: 20, record_count: 45 });
    expect(page.records.map((record: { id: string }) => record.id)).toEqual(ids.slice(40));
  });

  it.each(['', '0', '-1', 'abc', '1e9', '1.5', '%20'])('take page=%s for page 1', async (page) => {
    const body = (await shop.app.inject(`/api/v1/products?page=${page}`)).json();
    expect(body).toMatchObject({ page: 1, record_count: 45 });
    expect(body.records).toHaveLength(20);
  });

  it.each(['4', '1000000000', '99999999999999999999999'])('are empty past the end: page=%s', async (page) => {
    const response = await shop.app.inject(`/api/v1/products?page=${page}`);
    expect(response.statusCode).toBe(200);
    expect(response.json()).toMatchObject({ pages: 3, records: [] });
  });

  it('number one in an empty catalogue', async () => {
    const empty = await openTestShop();
    const first = (await empty.app.inject('/api/v1/products')).json();
    const keyed = (await empty.app.inject('/api/v2/products')).json();
    await empty.close();
    expect(first).toEqual({ page: 1, pages: 1, per_page: 20, record_count: 0, records: [] });
    expect(keyed).toEqual({ per_page: 20, next: null, previous: null, records: [] });
  });
});

describe('pages by key', () => {
  type Page = { next: string | null; previous: string | null; records: Array<{ id: string }> };
  const page = async (key?: string | null): Promise<Page> =>
    (await shop.app.inject(`/api/v2/products${key ? `?page=${key}` : ''}`)).json();

  it('lead through the whole catalogue and back, and the same place has the same key', async () => {
    const first = await page();
    const second = await page(first.next);
    const third = await page(second.next);
    expect([first, second, third].flatMap(({ records }) => records.map((record) => record.id))).toEqual(ids);
    expect([first.previous, third.next]).toEqual([null, null]);
    const secondAgain = await page(third.previous);
    const firstAgain = await page(secondAgain.previous);
    expect(secondAgain.records).toEqual(second.records);
    expect(firstAgain).toEqual(first);
  });

  it('tell no totals', async () => {
    expect(Object.keys(await page())).toEqual(['per_page', 'next', 'previous', 'records']);
  });

  it('refuse a key that was tampered with', async () => {
    const { next } = await page();
    const flip = (key: string, at: number): string =>
      key.slice(0, at) + (key[at] === 'A' ? 'B' : 'A') + key.slice(at + 1);
    for (const forged of [flip(String(next), 0), flip(String(next), 20), `${next}A`, 'abc', '1', `${next}=`]) {
      const response = await shop.app.inject(`/api/v2/products?page=${encodeURIComponent(forged)}`);
      expect([forged, response.statusCode]).toEqual([forged, 400]);
    }
  });
});

describe('validators', () => {
  it('answer 304 without a body to whoever has the bytes already', async () => {
    for (const path of [`/api/v1/products/${ids[0]}`, '/api/v1/products', '/api/v2/products']) {
      const { etag } = (await shop.app.inject(path)).headers;
      expect(etag).toMatch(/^"[\w-]+"$/);
      const again = await shop.app.inject({ url: path, headers: { 'if-none-match': `"other", W/${etag}` } });
      expect([again.statusCode, again.body, again.headers.etag]).toEqual([304, '', etag]);
      const changed = await shop.app.inject({ url: path, headers: { 'if-none-match': '"other"' } });
      expect(changed.statusCode).toBe(200);
    }
  });

  it('keep their ETag when a unit is sold and change it when the last one is', async () => {
    const id = await addProduct(shop, { stock: 2 });
    const etag = async (): Promise<unknown> => (await shop.app.inject(`/api/v1/products/${id}`)).headers.etag;
    const before = await etag();
    await shop.query('UPDATE stock SET sellable = 1 WHERE product_id = $1', [id]);
    expect(await etag()).toBe(before);
    await shop.query('UPDATE stock SET sellable = 0 WHERE product_id = $1', [id]);
    expect(await etag()).not.toBe(before);
    await shop.query('UPDATE products SET archived_at = now() WHERE id = $1', [id]);
  });

  it('send Last-Modified only once its second is certain, and honour If-Modified-Since', async () => {
    const id = await addProduct(shop);
    const get = (headers = {}) => shop.app.inject({ url: `/api/v1/products/${id}`, headers });
    expect((await get()).headers['last-modified']).toBeUndefined();
    await shop.query(`ALTER TABLE products DISABLE TRIGGER products_touch`);
    await shop.query(`UPDATE products SET updated_at = '2026-01-02 03:04:05.678Z' WHERE id = $1`, [id]);
    await shop.query(`UPDATE stock SET flipped_at = '2026-01-01Z' WHERE product_id = $1`, [id]);
    await shop.query(`ALTER TABLE products ENABLE TRIGGER products_touch`);
    const lastModified = 'Fri, 02 Jan 2026 03:04:05 GMT';
    expect((await get()).headers['last-modified']).toBe(lastModified);
    expect((await get({ 'if-modified-since': lastModified })).statusCode).toBe(304);
    expect((await get({ 'if-modified-since': 'Fri, 02 Jan 2026 03:04:04 GMT' })).statusCode).toBe(200);
    const both = { 'if-modified-since': lastModified, 'if-none-match': '"other"' };
    expect((await get(both)).statusCode).toBe(200);
    await shop.query('UPDATE products SET archived_at = now() WHERE id = $1', [id]);
  });

  it('may be kept by anybody but not used unasked', async () => {
    expect((await shop.app.inject('/api/v1/products')).headers['cache-control']).toBe('public, no-cache');
  });
});
