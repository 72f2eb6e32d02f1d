import fc from 'fast-check';
import pg from 'pg';
import { afterAll, beforeAll, expect, inject, it } from 'vitest';
import { encodeParameters } from './parameters.ts';

let client: pg.Client;
beforeAll(async () => {
  client = new pg.Client({ connectionString: inject('testServer').url });
  await client.connect();
});
afterAll(() => client.end());

async function sentAndReadBack(type: string, items: readonly (string | number | boolean | null)[]): Promise<unknown> {
  const statement = { name: '', text: `SELECT $1::${type}[]::text[] AS items` };
  const { rows } = await client.query(statement.text, encodeParameters(statement, [items]));
  return rows[0]?.items;
}

it('brings arrays of UUIDs to the server as they are, nulls and none at all included', async () => {
  const arrays = fc.array(fc.option(fc.uuid(), { nil: null }), { maxLength: 50 });
  await fc.assert(
    fc.asyncProperty(arrays, async (items) => {
      expect(await sentAndReadBack('uuid', items)).toEqual(items);
    }),
    { numRuns: 100 },
  );
});

it('takes capital letters, which the server gives back as small ones', async () => {
  const id = '018F0000-0000-7000-8A00-ABCDEF000001';
  expect(await sentAndReadBack('uuid', [id])).toEqual([id.toLowerCase()]);
});

it.each(['', 'x', '018f0000-0000-7000-8a00-00000000000g', '018f0000-0000-7000-8a00-0000000000011', 'é'.repeat(36)])(
  'leaves it to the server to refuse what is no UUID: %s',
  async (text) => {
    await expect(sentAndReadBack('uuid', [text])).rejects.toMatchObject({ code: '22P02' });
  },
);

it('brings any text to the server as it is', async () => {
  const texts = fc.array(fc.option(fc.string({ unit: 'grapheme' }), { nil: null }), { maxLength: 20 });
  const special = fc.constantFrom('NULL', 'null', '{}', '"', '\\', ',', ' ', '', 'a-b_c', '{"a": "b\\"c"}');
  await fc.assert(
    fc.asyncProperty(fc.oneof(texts, fc.array(special)), async (items) => {
      const sendable = items.map((item) => item?.replaceAll('\0', '') ?? null);
      expect(await sentAndReadBack('text', sendable)).toEqual(sendable);
    }),
    { numRuns: 200 },
  );
});

it('brings JSON to the server as it is, and leaves it to the server to refuse what is none', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.json(), { maxLength: 10 }), async (items) => {
      const sendable = items.filter((item) => !item.includes('\\u0000'));
      const back = (await sentAndReadBack('jsonb', sendable)) as string[];
      expect(back.map((item) => JSON.parse(item))).toEqual(sendable.map((item) => JSON.parse(item)));
    }),
    { numRuns: 100 },
  );
  await expect(sentAndReadBack('jsonb', ['{'])).rejects.toMatchObject({ code: '22P02' });
});

it('leaves it to the server to refuse a NUL, and to make numbers of texts into texts', async () => {
  await expect(sentAndReadBack('text', ['a\0b'])).rejects.toMatchObject({ code: '22021' });
  expect(await sentAndReadBack('text', ['a', 1, true])).toEqual(['a', '1', 'true']);
});

it('brings numbers and truth values to the server as they are', async () => {
  expect(await sentAndReadBack('bigint', [0, -5, 9_007_199_254_740_991, null])).toEqual([
    '0',
    '-5',
    '9007199254740991',
    null,
  ]);
  expect(await sentAndReadBack('boolean', [true, false])).toEqual(['true', 'false']);
});
