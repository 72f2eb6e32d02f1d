/** A statement that the server prepares once per connection under its name. Make them with `sql` of `db.ts`. */
export type Statement = Readonly<{ name: string; text: string }>;

type Scalar = string | number | boolean | null;
/** What may be bound to a parameter. */
export type Value = Scalar | readonly Scalar[];

type ElementType = 'uuid' | 'text' | 'jsonb';

/** Of each statement, the parameters that go out in binary, by their place. */
const binaryOf = new WeakMap<Statement, ReadonlyMap<number, ElementType>>();

/**
 * Turns the parameters of a statement into what is sent: text, and arrays of UUIDs, texts and JSON (`$1::uuid[]`) in the
 * binary format, in which nothing has to be quoted here and parsed there. Sent as a Buffer, a parameter counts as binary.
 */
export function encodeParameters(statement: Statement, values: readonly Value[]): Array<string | Buffer | null> {
  const binary = findBinary(statement);
  return values.map((value, index) => {
    if (value === null) return null;
    if (typeof value !== 'object') return String(value);
    const type = binary.get(index);
    return (type && encodeBinary(type, value)) || encodeText(value);
  });
}

function findBinary(statement: Statement): ReadonlyMap<number, ElementType> {
  const known = binaryOf.get(statement);
  if (known) return known;
  const matches = statement.text.matchAll(/\$(\d+)::(uuid|text|jsonb)\[\]/g);
  const found = new Map([...matches].map(([, place, type]) => [Number(place) - 1, type as ElementType]));
  binaryOf.set(statement, found);
  return found;
}

function encodeText(items: readonly Scalar[]): string {
  return `{${items.map(encodeElement).join(',')}}`;
}

function encodeElement(item: Scalar): string {
  if (item === null) return 'NULL';
  return typeof item === 'string' ? `"${item.replace(/[\\"]/g, '\\$&')}"` : String(item);
}

/** Their object ids, which are part of the format. */
const oids: Readonly<Record<ElementType, number>> = { uuid: 2950, text: 25, jsonb: 3802 };
const jsonbVersion = 1;
const headerBytes = 20;
const lengthBytes = 4;
const uuidBytes = 16;
const uuidCharacters = 36;
/** Of one UTF-16 unit in UTF-8. */
const mostBytes = 3;

/**
 * The binary format of a one-dimensional array: dimensions, whether there are nulls, the element's type, length, lower
 * bound; then each element after its length. Source: array_send in PostgreSQL's arrayfuncs.c. Null when an item is not
 * of the type: the server is to say so itself.
 */
function encodeBinary(type: ElementType, items: readonly Scalar[]): Buffer | null {
  const bytes = Buffer.allocUnsafe(headerBytes + mostElementBytes(type, items));
  let at = writeHeader(bytes, oids[type], items);
  for (const item of items) {
    const next = item === null ? bytes.writeInt32BE(-1, at) : writeElement(bytes, at, type, item);
    if (next === null) return null;
    at = next;
  }
  return bytes.subarray(0, at);
}

function mostElementBytes(type: ElementType, items: readonly Scalar[]): number {
  if (type === 'uuid') return items.length * (lengthBytes + uuidBytes);
  const units = items.reduce((sum: number, item) => sum + (typeof item === 'string' ? item.length : 0), 0);
  return items.length * (lengthBytes + 1) + units * mostBytes;
}

function writeHeader(bytes: Buffer, oid: number, items: readonly Scalar[]): number {
  bytes.writeInt32BE(items.length > 0 ? 1 : 0, 0);
  bytes.writeInt32BE(items.includes(null) ? 1 : 0, 4);
  const dimensionsAt = bytes.writeInt32BE(oid, 8);
  if (items.length === 0) return dimensionsAt;
  bytes.writeInt32BE(items.length, dimensionsAt);
  return bytes.writeInt32BE(1, 16);
}

/** Returns where the next element begins, or null when `item` cannot be one. */
function writeElement(bytes: Buffer, at: number, type: ElementType, item: string | number | boolean): number | null {
  if (typeof item !== 'string') return null;
  if (type === 'uuid') return writeUuid(bytes, at, item);
  const begin = type === 'jsonb' ? bytes.writeUInt8(jsonbVersion, at + lengthBytes) : at + lengthBytes;
  const end = begin + bytes.write(item, begin);
  bytes.writeInt32BE(end - at - lengthBytes, at);
  return end;
}

const noDigit = 0xff;
/** The value of each hexadecimal digit by its character code. */
const digitValues = new Uint8Array(0x10000).fill(noDigit);
for (let value = 0; value < 16; value++) {
  const digit = value.toString(16);
  for (const either of [digit, digit.toUpperCase()]) digitValues[either.charCodeAt(0)] = value;
}
const valueAt = (text: string, index: number): number => digitValues[text.charCodeAt(index)] as number;

/** Where each byte of a UUID begins in its text. */
const byteStarts = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];

function writeUuid(bytes: Buffer, at: number, text: string): number | null {
  if (text.length !== uuidCharacters) return null;
  let place = bytes.writeInt32BE(uuidBytes, at);
  let seen = 0;
  for (const start of byteStarts) {
    const high = valueAt(text, start);
    const low = valueAt(text, start + 1);
    seen |= high | low;
    bytes[place++] = (high << 4) | low;
  }
  return seen > 0x0f ? null : place;
}
