import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openTestShop, type TestShop } from './support/shop.ts';

type Media = { schema?: unknown; examples?: Record<string, { value: unknown }> };
type Answer = { description: string; content?: Record<string, Media>; headers?: Record<string, unknown> };
type Operation = { operationId: string; responses: Record<string, Answer> };
type Description = {
  info: { title: string; version: string };
  paths: Record<string, Record<string, Operation>>;
  components: { schemas: Record<string, unknown> };
};

let shop: TestShop;
let description: Description;
let operations: Map<string, Operation['responses']>;

beforeAll(async () => {
  shop = await openTestShop({ ROLE: 'web' });
  description = (await shop.app.inject('/openapi.json')).json();
  const all = Object.values(description.paths).flatMap((path) => Object.values(path));
  operations = new Map(all.map(({ operationId, responses }) => [operationId, responses]));
});
afterAll(() => shop.close());

describe('the description of the API', () => {
  it('has the version of the program', () => {
    const { version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'));
    expect(description.info).toMatchObject({ title: 'ScaleCommerce', version });
  });

  it('says of every answer of every operation what it means', () => {
    expect(operations.size).toBeGreaterThan(10);
    for (const responses of operations.values()) {
      expect(Object.keys(responses).filter((status) => !/^\d{3}$/.test(status))).toEqual([]);
      for (const answer of Object.values(responses)) expect(answer.description).toMatch(/^(?!Default).{10,}/);
    }
  });

  it('names the errors of each kind of operation', () => {
    const errorsOf = (name: string): number[] =>
      Object.keys(operations.get(name) ?? {})
        .map(Number)
        .filter((status) => status >= 400);
    expect(errorsOf('listProductsByKey')).toEqual([400, 500, 503, 504]);
    expect(errorsOf('getProductV1')).toEqual([400, 404, 500, 503, 504]);
    expect(errorsOf('setQuantityV2')).toEqual([400, 403, 404, 409, 413, 415, 422, 429, 500, 503, 504]);
    expect(errorsOf('checkoutAndWait')).toEqual([400, 402, 403, 409, 413, 415, 422, 500, 503, 504]);
    expect(errorsOf('checkout')).toEqual([400, 403, 409, 413, 415, 422, 500, 503, 504]);
  });

  it('shows each error as the contract has it, and as problem details', () => {
    for (const responses of operations.values()) {
      for (const [status, { content = {} }] of Object.entries(responses)) {
        if (Number(status) < 400) continue;
        expect(Object.keys(content)).toEqual(['application/json', 'application/problem+json']);
        const examples = Object.values(content['application/json']?.examples ?? {});
        expect(examples.length).toBeGreaterThan(0);
        for (const { value } of examples)
          expect(value).toEqual({ error: { code: Number(status), messages: [expect.stringMatching(/^\S.*\S$/)] } });
      }
    }
  });

  it('says when to come back after too much', () => {
    expect(operations.get('setQuantityV1')?.[429]?.headers).toHaveProperty('Retry-After');
    expect(operations.get('listProductsByKey')?.[503]?.headers).toHaveProperty('Retry-After');
  });
});

describe('the page to read it', () => {
  it('has the name of the shop', async () => {
    const page = await shop.app.inject('/docs/');
    expect(page.body).toContain('<title>ScaleCommerce API</title>');
  });

  it('is where a visitor of the address in the banner is sent', async () => {
    const answer = await shop.app.inject('/');
    expect([answer.statusCode, answer.headers.location]).toEqual([302, '/docs/']);
    expect((await shop.app.inject(String(answer.headers.location))).statusCode).toBe(200);
  });
});
