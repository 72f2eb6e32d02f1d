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

const uuidDigits = 32;
const hex32 = (number: number): string => (number >>> 0).toString(16).padStart(8, '0');
const uuidType = hex32(2950);
const uuidLength = hex32(16);
const noValue = hex32(-1);

/**
 * The binary format of a one-dimensional array: dimensions, whether there are nulls, the element's type, length, lower
 * bound; then each element after its length. Source: array_send in PostgreSQL's arrayfuncs.c. It is put together in
 * hexadecimal, so that one native call turns all of it into bytes. Null when an item is no UUID: the server is to say so.
 */
function encodeUuids(items: readonly Scalar[]): Buffer | null {
  const dimension = items.length > 0 ? hex32(items.length) + hex32(1) : '';
  let hex = hex32(items.length > 0 ? 1 : 0) + hex32(items.includes(null) ? 1 : 0) + uuidType + dimension;
  for (const item of items) {
    if (item === null) {
      hex += noValue;
      continue;
    }
    const digits = String(item).replaceAll('-', '');
    if (digits.length !== uuidDigits) return null;
    hex += uuidLength + digits;
  }
  const bytes = Buffer.from(hex, 'hex');
  // It ends at the first character that is no digit.
  return bytes.length === hex.length / 2 ? bytes : null;
}
