import { parse } from 'csv-parse/sync';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type ImportRecord, recordsOf } from './import-file.ts';
import { importFields } from './import-line.ts';

const header = importFields.join(',');
const longest = 131_072;

async function* inChunks(bytes: Buffer, size: number): AsyncGenerator<Buffer> {
  for (let start = 0; start < bytes.length; start += size) yield bytes.subarray(start, start + size);
}

const read = (name: string, content: string | Buffer, chunkSize = 7): Promise<ImportRecord[]> =>
  Array.fromAsync(recordsOf(name, inChunks(Buffer.from(content), chunkSize)));

/** Lines and either the SKU or the faults of each record. */
const outline = async (name: string, content: string | Buffer): Promise<unknown[]> =>
  (await read(name, content)).map(({ line, lastLine, texts }) => [
    line === lastLine ? line : `${line}-${lastLine}`,
    texts.ok ? texts.value.sku : texts.faults.join('; '),
  ]);

const json = (sku: string): string =>
  JSON.stringify({ sku, name: 'N', description: 'D', price_cents: 1, currency: 'USD', stock: 1 });
const csv = (sku: string): string => `${sku},N,D,1,USD,1`;

describe('NDJSON', () => {
  test('counts physical lines, skips blank ones, takes a BOM, CRLF and a last line without an end', async () => {
    const content = `\ufeff${json('A')}\r\n\r\n  \n${json('B')}\n${json('C')}`;
    expect(await outline('f.ndjson', content)).toEqual([
      [1, 'A'],
      [4, 'B'],
      [5, 'C'],
    ]);
  });

  test('goes on after a line that is none, or is too long to be one', async () => {
    const content = [json('A'), 'nonsense', `"${'x'.repeat(longest)}"`, json('B')].join('\n');
    expect(await outline('f.jsonl', content)).toEqual([
      [1, 'A'],
      [2, 'not a JSON object'],
      [3, 'longer than 131072 bytes'],
      [4, 'B'],
    ]);
  });

  test('has nothing to say about an empty file', async () => {
    expect(await read('f.ndjson', '')).toEqual([]);
  });
});

describe('CSV', () => {
  test('takes columns in any order, a BOM, CRLF and blank lines', async () => {
    const content = `\ufeffstock,currency,price_cents,description,name,sku\r\n1,USD,2,D,N,A\r\n\r\n3,USD,4,D,N,B`;
    const records = await read('f.csv', content);
    expect(records.map((record) => record.line)).toEqual([2, 4]);
    expect(records[1]?.texts).toEqual({
      ok: true,
      value: { sku: 'B', name: 'N', description: 'D', price_cents: '4', currency: 'USD', stock: '3' },
    });
  });

  test('takes a column more that says how many an order may have', async () => {
    const records = await read(
      'f.csv',
      `sku,max_per_order,name,description,price_cents,currency,stock\nA,,N,D,1,USD,1\n`,
    );
    expect(records[0]?.texts).toMatchObject({ ok: true, value: { sku: 'A', max_per_order: '', stock: '1' } });
    const twice = `${header},max_per_order,max_per_order\n`;
    await expect(read('f.csv', twice)).rejects.toThrow('column "max_per_order" is there twice');
  });

  test('takes quoted fields with commas, quotes and newlines, and names the line where the record starts', async () => {
    const content = `${header}\n${csv('A')}\n"B","a ""b"", c","x\n\ny",1,USD,1\n${csv('C')}\n`;
    const records = await read('f.csv', content);
    expect(records.map(({ line, lastLine }) => [line, lastLine])).toEqual([
      [2, 2],
      [3, 5],
      [6, 6],
    ]);
    expect(records[1]?.texts).toMatchObject({ value: { sku: 'B', name: 'a "b", c', description: 'x\n\ny' } });
  });

  test('goes on after a record with broken quotes or the wrong number of fields', async () => {
    const content = [
      header,
      csv('A'),
      'B,6" pipe,D,1,USD,1',
      csv('C'),
      '"D"x,N,D,1,USD,1',
      csv('E'),
      'F,N,D,1,USD',
      'G,N,D,1,USD,1,',
      csv('H'),
      '"I,N,D,1,USD,1',
      'J,"N",D,1,USD,1',
      csv('K'),
    ].join('\n');
    expect(await outline('f.csv', content)).toEqual([
      [2, 'A'],
      [3, 'a quote in a field that does not begin with one'],
      [4, 'C'],
      [5, 'text after a closing quote'],
      [6, 'E'],
      [7, 'has 5 fields where the header has 6'],
      [8, 'has 7 fields where the header has 6'],
      [9, 'H'],
      ['10-11', 'text after a closing quote'],
      [12, 'K'],
    ]);
  });

  test('gives up on a quote that is never closed where it would become endless, and goes on there', async () => {
    const filler = `${'x'.repeat(1000)}\n`.repeat(140);
    const [first, ...rest] = await outline('f.csv', `${header}\n"A\n${filler}${csv('Z')}\n`);
    expect(first).toEqual(['2-134', 'longer than 131072 characters; is a quote not closed?']);
    expect(rest.at(-1)).toEqual([143, 'Z']);
  });

  test('reports a quote that is open at the end of the file', async () => {
    expect(await outline('f.csv', `${header}\n${csv('A')}\n"B\n${csv('C')}\n`)).toEqual([
      [2, 'A'],
      ['3-4', 'a quote is never closed'],
    ]);
  });

  test.each([
    ['', /^the file is empty/],
    ['\n\n', /^the file is empty/],
    ['sku;name\n', /column sku is missing.*unknown column "sku;name"/],
    [`${header},colour\n`, /unknown column "colour"$/],
    [`${header},sku\n`, /column "sku" is there twice$/],
    ['sku,name,description,price_cents,currency\n', /: column stock is missing$/],
    [`"${header}\n`, /a quote is never closed/],
    [`${csv('A')}\n`, /the first line must name the columns sku,name/],
  ])('refuses %j as a whole', async (content, message) => {
    await expect(read('f.csv', content)).rejects.toThrow(message);
  });

  test('reads what is well-formed as csv-parse does, however the bytes arrive', async () => {
    const text = fc.string({ unit: fc.constantFrom('a', 'ü', '😀', '"', ',', '\n', ' ', ';'), maxLength: 12 });
    const field = fc.oneof(
      text.map((content) => `"${content.replaceAll('"', '""')}"`),
      text.map((content) => content.replace(/[",\n]/g, '.')),
    );
    const row = fc.tuple(field, field, field, field, field, field).map((fields) => fields.join(','));
    const file = fc.array(row, { maxLength: 8 }).map((rows) => [header, ...rows].join('\r\n'));
    await fc.assert(
      fc.asyncProperty(file, fc.integer({ min: 1, max: 64 }), async (content, chunkSize) => {
        const records = await read('f.csv', content, chunkSize);
        const expected = parse(content, { columns: true, record_delimiter: '\r\n' });
        expect(records.map(({ texts }) => texts.ok && texts.value)).toEqual(expected);
      }),
    );
  });
});

describe('a file without a telling name', () => {
  test.each(['products', 'products.txt', 'stdin'])('is read as what it looks like (%s)', async (name) => {
    expect(await outline(name, `\n ${json('A')}`)).toEqual([[2, 'A']]);
    expect(await outline(name, `${header}\n${csv('A')}`)).toEqual([[2, 'A']]);
  });

  test('is read as its name says when the name says it', async () => {
    expect(await outline('F.NDJSON', header)).toEqual([[1, 'not a JSON object']]);
  });
});

test('what is not UTF-8 is marked, for the check of the texts to find', async () => {
  const bytes = Buffer.concat([Buffer.from(`${header}\nA,`), Buffer.from([0xff]), Buffer.from(',D,1,USD,1')]);
  const [record] = await read('f.csv', bytes);
  expect(record?.texts).toMatchObject({ value: { name: '\ufffd' } });
});

test('the source is closed when its reader stops early', async () => {
  let isClosed = false;
  async function* endless(): AsyncGenerator<Buffer> {
    try {
      for (;;) yield Buffer.from(`${json('A')}\n`);
    } finally {
      isClosed = true;
    }
  }
  for await (const record of recordsOf('f.ndjson', endless())) if (record.line > 3) break;
  expect(isClosed).toBe(true);
});
