/** A statement that the server prepares once per connection under its name. Make them with `sql` of `db.ts`. */
export type Statement = Readonly<{ name: string; text: string }>;

export type Scalar = string | number | boolean | null;
/** What may be bound to a parameter. */
export type Value = Scalar | readonly Scalar[];

/** Of each statement, which of its parameters are arrays of UUIDs. */
const uuidArraysOf = new WeakMap<Statement, ReadonlySet<number>>();

const plainElement = /^[\w-]+$/;

/**
 * Turns the parameters of a statement into what is sent: text, and arrays of UUIDs (`$1::uuid[]`) in the binary format,
 * which spares both sides the hexadecimal digits. Sent as a Buffer, a parameter counts as binary.
 */
export function encodeParameters(statement: Statement, values: readonly Value[]): Array<string | Buffer | null> {
  const uuidArrays = findUuidArrays(statement);
  return values.map((value, index) => {
    const isUuidArray = typeof value === 'object' && value !== null && uuidArrays.has(index);
    return (isUuidArray && encodeUuids(value)) || encode(value);
  });
}

function findUuidArrays(statement: Statement): ReadonlySet<number> {
  const known = uuidArraysOf.get(statement);
  if (known) return known;
  const found = new Set([...statement.text.matchAll(/\$(\d+)::uuid\[\]/g)].map((match) => Number(match[1]) - 1));
  uuidArraysOf.set(statement, found);
  return found;
}

function encode(value: Value): string | null {
  if (value === null) return null;
  return typeof value === 'object' ? encodeArray(value) : String(value);
}

function encodeArray(items: readonly Scalar[]): string {
  return `{${items.map(encodeElement).join(',')}}`;
}

function encodeElement(item: Scalar): string {
  if (item === null) return 'NULL';
  const text = String(item);
  const needsNoQuotes = plainElement.test(text) && text.toLowerCase() !== 'null';
  return needsNoQuotes ? text : `"${text.replaceAll('\\', '\\\\').replaceAll('"', '\\"')}"`;
}

const uuidOid = 2950;
const headerBytes = 20;
const elementBytes = 20;
const nothing = 0xff;

/** The value of each hexadecimal digit by its character code; `nothing` for all others. */
const digitValues = new Uint8Array(128).fill(nothing);
for (let value = 0; value < 16; value++) {
  const digit = value.toString(16);
  for (const either of [digit, digit.toUpperCase()]) digitValues[either.charCodeAt(0)] = value;
}

/** Where each byte of a UUID begins in its text. */
const byteStarts = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];

/**
 * The binary format of a one-dimensional array: dimensions, whether there are nulls, the element's type, length, lower
 * bound; then each element with its length. Source: array_send in PostgreSQL's arrayfuncs.c. Null when an item is no
 * UUID: the server is to say so itself.
 */
function encodeUuids(items: readonly Scalar[]): Buffer | null {
  const bytes = Buffer.alloc(headerBytes + items.length * elementBytes);
  let at = writeHeader(bytes, items);
  for (const item of items) {
    const next = item === null ? bytes.writeInt32BE(-1, at) : writeUuid(bytes, at, item);
    if (next === null) return null;
    at = next;
  }
  return bytes.subarray(0, at);
}

function writeHeader(bytes: Buffer, items: readonly Scalar[]): number {
  bytes.writeInt32BE(items.length > 0 ? 1 : 0, 0);
  bytes.writeInt32BE(items.includes(null) ? 1 : 0, 4);
  const dimensionsAt = bytes.writeInt32BE(uuidOid, 8);
  if (items.length === 0) return dimensionsAt;
  bytes.writeInt32BE(items.length, dimensionsAt);
  return bytes.writeInt32BE(1, 16);
}

/** Returns where the next element begins, or null when `item` has not the form of a UUID. */
function writeUuid(bytes: Buffer, at: number, item: string | number | boolean): number | null {
  if (typeof item !== 'string' || item.length !== 36) return null;
  let place = bytes.writeInt32BE(16, at);
  let wrong = 0;
  for (const start of byteStarts) {
    const high = digitAt(item, start);
    const low = digitAt(item, start + 1);
    wrong |= high | low;
    bytes[place++] = (high << 4) | low;
  }
  return wrong > 0x0f ? null : place;
}

function digitAt(text: string, index: number): number {
  return digitValues[text.charCodeAt(index)] ?? nothing;
}
