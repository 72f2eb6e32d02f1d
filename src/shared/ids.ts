import { randomUUIDv7 } from 'node:crypto';

const uuidPattern = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

/** What no id is below, and none above: for where a range has no other end. */
export const lowestId = '00000000-0000-0000-0000-000000000000';
export const highestId = 'ffffffff-ffff-ffff-ffff-ffffffffffff';

/** A new UUIDv7 (RFC 9562): unguessable, and in the order of their making to the millisecond, which keeps index inserts together. */
export function newId(): string {
  return randomUUIDv7();
}

/** Whether `text` has the form of a UUID of any version; asked before a database is. */
export function isUuid(text: unknown): text is string {
  return typeof text === 'string' && uuidPattern.test(text);
}
