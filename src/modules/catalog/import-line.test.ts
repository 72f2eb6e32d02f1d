import { describe, expect, test } from 'vitest';
import { changeOf, type ImportTexts, readJsonTexts, readProduct } from './import-line.ts';

const texts: ImportTexts = {
  sku: 'LAMP-1',
  name: 'Lamp',
  description: 'It shines',
  price_cents: '1000',
  currency: 'USD',
  stock: '7',
};

const faultsOf = (changes: Partial<ImportTexts>): readonly string[] => {
  const product = readProduct({ ...texts, ...changes }, 1, 'USD');
  return product.ok ? [] : product.faults;
};

describe('a product of an import file', () => {
  test('is read from its texts', () => {
    const value = { line: 3, sku: 'LAMP-1', name: 'Lamp', description: 'It shines', priceCents: 1000, stock: 7 };
    expect(readProduct(texts, 3, 'USD')).toEqual({ ok: true, value });
  });

  test.each([
    { price_cents: '1' },
    { price_cents: '1000000000' },
    { stock: '0' },
    { stock: '1000000000' },
    { description: '' },
    { description: 'two\nlines\tand a tab' },
    { sku: 'with space/and-ünïcode' },
    { sku: 'x'.repeat(100) },
    { name: '😀'.repeat(127) },
    { description: 'x'.repeat(10_000) },
  ])('may have %j', (changes) => {
    expect(faultsOf(changes)).toEqual([]);
  });

  test.each([
    [{ price_cents: '0' }, 'price_cents must be a whole number from 1 to 1000000000, not "0"'],
    [{ price_cents: '1000000001' }, 'price_cents must be a whole number from 1 to 1000000000, not "1000000001"'],
    [{ price_cents: '1e3' }, 'price_cents must be a whole number from 1 to 1000000000, not "1e3"'],
    [{ price_cents: '10.5' }, 'price_cents must be a whole number from 1 to 1000000000, not "10.5"'],
    [{ price_cents: '007' }, 'price_cents must be a whole number from 1 to 1000000000, not "007"'],
    [{ price_cents: '٣' }, 'price_cents must be a whole number from 1 to 1000000000, not "٣"'],
    [{ price_cents: '' }, 'price_cents must be a whole number from 1 to 1000000000, not ""'],
    [{ stock: ' 5' }, 'stock must be a whole number from 0 to 1000000000, not " 5"'],
    [{ stock: '-1' }, 'stock must be a whole number from 0 to 1000000000, not "-1"'],
    [{ stock: '1000000001' }, 'stock must be a whole number from 0 to 1000000000, not "1000000001"'],
    [{ currency: 'EUR' }, 'currency "EUR" is not the shop\'s, USD'],
    [{ currency: 'usd' }, 'currency "usd" is not the shop\'s, USD'],
    [{ sku: '' }, 'sku is empty'],
    [{ sku: ' A' }, 'sku must not begin or end with a space'],
    [{ sku: 'x'.repeat(101) }, 'sku is longer than 100 characters'],
    [{ sku: 'a\u001bb' }, 'sku holds a control character'],
    [{ name: ' ' }, 'name is blank'],
    [{ name: 'a\nb' }, 'name holds a control character'],
    [{ name: 'x'.repeat(256) }, 'name is longer than 255 characters'],
    [{ name: 'a\ud800' }, 'name is not valid Unicode (UTF-8)'],
    [{ description: 'x'.repeat(10_001) }, 'description is longer than 10000 characters'],
    [{ description: 'a\0b' }, 'description holds a NUL character'],
    [{ description: 'a\udc00' }, 'description is not valid Unicode (UTF-8)'],
    [{ description: 'a\ufffdb' }, 'description is not valid Unicode (UTF-8)'],
  ])('must not have %j', (changes, fault) => {
    expect(faultsOf(changes)).toEqual([fault]);
  });

  test.each([
    [undefined, undefined],
    ['', null],
    ['1', 1],
    ['1000000000', 1_000_000_000],
  ])('with %j for the most that an order may have of it is limited to %j', (text, limit) => {
    const product = readProduct({ ...texts, ...(text === undefined ? {} : { max_per_order: text }) }, 1, 'USD');
    expect(product.ok && product.value.maxPerOrder).toBe(limit);
  });

  test.each(['0', '-1', '1.5', ' ', '1000000001'])('must not be limited to %j in an order', (text) => {
    expect(faultsOf({ max_per_order: text })).toEqual([
      `max_per_order must be a whole number from 1 to 1000000000, not ${JSON.stringify(text)}`,
    ]);
  });

  test('is told all its faults at once', () => {
    expect(faultsOf({ sku: '', price_cents: 'x', currency: 'EUR' })).toHaveLength(3);
  });

  test('shows what it was given neither raw nor endlessly long', () => {
    expect(faultsOf({ stock: `\u001b[2J${'9'.repeat(100)}` })).toEqual([
      `stock must be a whole number from 0 to 1000000000, not "\\u001b[2J${'9'.repeat(36)}…"`,
    ]);
  });
});

describe('a line of NDJSON', () => {
  const line = '{"sku":"A","name":"B","description":"","price_cents":5,"currency":"USD","stock":0}';
  const faultsIn = (json: string): readonly string[] => {
    const read = readJsonTexts(json);
    return read.ok ? [] : read.faults;
  };

  test('gives its fields as texts', () => {
    const value = { sku: 'A', name: 'B', description: '', price_cents: '5', currency: 'USD', stock: '0' };
    expect(readJsonTexts(line)).toEqual({ ok: true, value });
  });

  test.each([
    ['null', ''],
    ['3', '3'],
    ['3.0', '3.0'],
  ])('may say with %s how many an order may have', (json, text) => {
    const read = readJsonTexts(line.replace('}', `,"max_per_order":${json}}`));
    expect(read.ok && read.value.max_per_order).toBe(text);
  });

  test.each(['1e3', '10.0', '-0', '10.5', '1e999', '12345678901234567890'])('keeps the number %s as written', (n) => {
    const read = readJsonTexts(line.replace(':5,', `:${n},`));
    expect(read.ok && read.value.price_cents).toBe(n);
  });

  test.each([
    ['', 'not a JSON object'],
    ['[]', 'not a JSON object'],
    ['5', 'not a JSON object'],
    ['null', 'not a JSON object'],
    ['{"sku":"A"', 'not a JSON object'],
    [`${'['.repeat(60_000)}${']'.repeat(60_000)}`, 'not a JSON object'],
    [line.replace('"sku":"A",', ''), 'field sku is missing'],
    [line.replace('{', '{"colour":"red",'), 'unknown field "colour"'],
    [line.replace('{', '{"__proto__":{"sku":"A"},'), 'unknown field "__proto__"'],
    [line.replace(':5,', ':"5",'), 'price_cents must be a JSON number'],
    [line.replace(':0}', ':null}'), 'stock must be a JSON number'],
    [line.replace('}', ',"max_per_order":""}'), 'max_per_order must be a JSON number or null'],
    [line.replace('"B"', '5'), 'name must be a JSON string'],
    [line.replace('"B"', '{"a":1}'), 'name must be a JSON string'],
  ])('is refused when it is %.70s', (json, fault) => {
    expect(faultsIn(json)).toEqual([fault]);
  });
});

describe('a product that is there already', () => {
  const wanted = { line: 1, sku: 'A', name: 'B', description: 'C', priceCents: 5, stock: 7 };
  const current = { id: '1', sku: 'A', name: 'B', description: 'C', priceCents: 5, maxPerOrder: 3, sellable: 4 };

  test.each([
    [{}, false, null],
    [{}, true, { details: false, stockDelta: 3 }],
    [{ sellable: 7 }, true, null],
    [{ sellable: 9 }, true, { details: false, stockDelta: -2 }],
    [{ name: 'X' }, false, { details: true, stockDelta: 0 }],
    [{ description: 'X' }, false, { details: true, stockDelta: 0 }],
    [{ priceCents: 6 }, true, { details: true, stockDelta: 3 }],
  ])('with %j, stock %s, changes by %j', (changes, withStock, change) => {
    expect(changeOf(wanted, { ...current, ...changes }, withStock)).toEqual(change);
  });

  test.each([
    [undefined, null],
    [3, null],
    [4, { details: true, stockDelta: 0 }],
    [null, { details: true, stockDelta: 0 }],
  ])('changes with a limit of %j in an order by %j', (maxPerOrder, change) => {
    expect(changeOf({ ...wanted, maxPerOrder }, current, false)).toEqual(change);
  });
});
