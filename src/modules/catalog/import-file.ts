import type { Checked, ImportField, ImportTexts } from './import-line.ts';
import { faultsOfFieldNames, importFields, readJsonTexts } from './import-line.ts';

type ImportFormat = 'ndjson' | 'csv';

/** A physical line without its end; `text` is null when it is longer than a line may be. */
type FileLine = Readonly<{ number: number; text: string | null }>;

/** What a file holds at one place: the texts of a product, or what is wrong there. Lines count from 1. */
export type ImportRecord = Readonly<{ line: number; lastLine: number; texts: Checked<ImportTexts> }>;

/** The file as a whole cannot be read as what it should be. */
class UnreadableImport extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'UnreadableImport';
  }
}

/** Bytes of a line, and characters of a CSV record of several: room for the longest product, escaped. */
const longestLine = 131_072;

const lineFeed = 10;
const byteOrderMark = /^\ufeff/;

/** The format that a file's name tells, if it does. */
function formatOfName(name: string): ImportFormat | undefined {
  if (/\.csv$/i.test(name)) return 'csv';
  return /\.(ndjson|jsonl)$/i.test(name) ? 'ndjson' : undefined;
}

/** The format that a file's beginning tells: a brace makes it NDJSON. */
function formatOfText(beginning: string): ImportFormat {
  return /^\ufeff?\s*\{/.test(beginning) ? 'ndjson' : 'csv';
}

/** Cuts a stream of bytes (UTF-8) into lines ended by LF or CRLF, holding no more than one of them. */
async function* linesOf(chunks: AsyncIterable<Buffer>): AsyncGenerator<FileLine> {
  let number = 1;
  let parts: Buffer[] = [];
  let length = 0;
  const take = (part: Buffer): void => {
    length += part.length;
    if (length <= longestLine) parts.push(part);
  };
  const line = (): FileLine => {
    const text = length > longestLine ? null : Buffer.concat(parts).toString('utf8').replace(/\r$/, '');
    parts = [];
    length = 0;
    return { number: number++, text };
  };
  for await (const chunk of chunks) {
    let start = 0;
    for (let end = chunk.indexOf(lineFeed); end >= 0; end = chunk.indexOf(lineFeed, start)) {
      take(chunk.subarray(start, end));
      start = end + 1;
      yield line();
    }
    take(chunk.subarray(start));
  }
  if (length > 0) yield line();
}

/**
 * The records of the file `name` whose bytes are `chunks`, in the format that its name tells or else its beginning.
 * Throws {@link UnreadableImport} when a CSV has no proper header.
 */
export async function* recordsOf(name: string, chunks: AsyncIterable<Buffer>): AsyncGenerator<ImportRecord> {
  const { first, all } = await withFirst(chunks);
  const format = formatOfName(name) ?? formatOfText(first.toString('utf8'));
  yield* format === 'csv' ? csvRecords(linesOf(all)) : ndjsonRecords(linesOf(all));
}

async function withFirst(chunks: AsyncIterable<Buffer>): Promise<{ first: Buffer; all: AsyncIterable<Buffer> }> {
  const rest = chunks[Symbol.asyncIterator]();
  const { value: first = Buffer.alloc(0) } = await rest.next();
  return { first, all: continued(first, rest) };
}

async function* continued(first: Buffer, rest: AsyncIterator<Buffer>): AsyncGenerator<Buffer> {
  try {
    yield first;
    for (let next = await rest.next(); !next.done; next = await rest.next()) yield next.value;
  } finally {
    await rest.return?.();
  }
}

async function* ndjsonRecords(lines: AsyncIterable<FileLine>): AsyncGenerator<ImportRecord> {
  for await (const { number, text } of lines) {
    if (text === null) yield faulty(number, number, `longer than ${longestLine} bytes`);
    else if (!isBlank(text))
      yield { line: number, lastLine: number, texts: readJsonTexts(text.replace(byteOrderMark, '')) };
  }
}

async function* csvRecords(lines: AsyncIterable<FileLine>): AsyncGenerator<ImportRecord> {
  let columns: readonly ImportField[] | undefined;
  for await (const row of csvRows(lines)) {
    if (columns) yield { line: row.line, lastLine: row.lastLine, texts: textsOf(row.fields, columns) };
    else columns = columnsOf(row.fields);
  }
  if (!columns) throw new UnreadableImport('the file is empty: a CSV file begins with a line that names its columns');
}

function columnsOf(header: Checked<readonly string[]>): readonly ImportField[] {
  const faults = header.ok ? faultsOfFieldNames(header.value, 'column') : header.faults;
  if (header.ok && faults.length === 0) return header.value as readonly ImportField[];
  throw new UnreadableImport(`the first line must name the columns ${importFields.join(',')}: ${faults.join('; ')}`);
}

function textsOf(fields: Checked<readonly string[]>, columns: readonly ImportField[]): Checked<ImportTexts> {
  if (!fields.ok) return fields;
  if (fields.value.length !== columns.length)
    return { ok: false, faults: [`has ${fields.value.length} fields where the header has ${columns.length}`] };
  const texts = columns.map((column, at) => [column, fields.value[at]]);
  return { ok: true, value: Object.fromEntries(texts) as ImportTexts };
}

type CsvRow = Readonly<{ line: number; lastLine: number; fields: Checked<readonly string[]> }>;

/**
 * The rows of a CSV file (RFC 4180). After a row with broken quotes it goes on at the next line, which is why this is
 * not left to a parser that stops, or swallows the rest, there.
 */
async function* csvRows(lines: AsyncIterable<FileLine>): AsyncGenerator<CsvRow> {
  let row = emptyRow(1);
  let lastLine = 1;
  for await (const { number, text } of lines) {
    lastLine = number;
    if (row.quoted === null) {
      if (text !== null && isBlank(text)) continue;
      row = emptyRow(number);
    }
    const end = scanLine(row, number === 1 ? (text?.replace(byteOrderMark, '') ?? null) : text);
    if (end === 'open') continue;
    yield { line: row.line, lastLine, fields: end };
    row = emptyRow(number + 1);
  }
  if (row.quoted !== null)
    yield { line: row.line, lastLine, fields: { ok: false, faults: ['a quote is never closed'] } };
}

/** A row as far as it has been read; `quoted` is the beginning of a quoted field that goes on in the next line. */
type PartialRow = { line: number; fields: string[]; quoted: string | null; length: number };

function emptyRow(line: number): PartialRow {
  return { line, fields: [], quoted: null, length: 0 };
}

/** Reads one more line into `row`: its fields when it is complete, `open` while a quoted field is. */
function scanLine(row: PartialRow, text: string | null): Checked<readonly string[]> | 'open' {
  row.length += text?.length ?? longestLine + 1;
  if (text === null || row.length > longestLine)
    return { ok: false, faults: [`longer than ${longestLine} characters; is a quote not closed?`] };
  let at = row.quoted === null ? scanField(row, text, 0) : scanQuoted(row, text, 0);
  while (typeof at === 'number' && at < text.length) at = scanField(row, text, at + 1);
  if (typeof at === 'string') return { ok: false, faults: [at] };
  return at === null ? 'open' : { ok: true, value: row.fields };
}

/** Where the field at `start` ends (at a comma, or the end of the line), null when not in this line, or a fault. */
function scanField(row: PartialRow, text: string, start: number): number | string | null {
  if (text[start] === '"') {
    row.quoted = '';
    return scanQuoted(row, text, start + 1);
  }
  const comma = text.indexOf(',', start);
  const end = comma < 0 ? text.length : comma;
  const field = text.slice(start, end);
  if (field.includes('"')) return 'a quote in a field that does not begin with one';
  row.fields.push(field);
  return end;
}

function scanQuoted(row: PartialRow, text: string, start: number): number | string | null {
  let from = start;
  for (let quote = text.indexOf('"', from); quote >= 0; quote = text.indexOf('"', from)) {
    row.quoted += text.slice(from, quote);
    if (text[quote + 1] !== '"') return closeQuoted(row, text, quote + 1);
    row.quoted += '"';
    from = quote + 2;
  }
  row.quoted += `${text.slice(from)}\n`;
  return null;
}

function closeQuoted(row: PartialRow, text: string, end: number): number | string {
  if (end < text.length && text[end] !== ',') return 'text after a closing quote';
  row.fields.push(row.quoted ?? '');
  row.quoted = null;
  return end;
}

function faulty(line: number, lastLine: number, fault: string): ImportRecord {
  return { line, lastLine, texts: { ok: false, faults: [fault] } };
}

function isBlank(text: string): boolean {
  return text.trim() === '';
}
