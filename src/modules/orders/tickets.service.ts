import { createHmac, type KeyObject, timingSafeEqual } from 'node:crypto';

/** After the order was accepted; the shopper's basket opens what a ticket opens, and for longer. */
const lifeSeconds = 24 * 60 * 60;
/** Of six bits each: 132 bits of the HMAC. */
const tagCharacters = 22;
const ticketPattern = /^(\d{1,12})\.([\w-]{22})$/;

/**
 * Where the events of the order with that id are heard without its basket's token. The ticket in it opens this one
 * order's events until a day after its acceptance, and is the same whenever it is made.
 */
export function eventsPath(key: KeyObject, orderId: string): string {
  return `/api/v2/orders/${orderId}/events?ticket=${ticketFor(key, orderId, acceptedAtSeconds(orderId) + lifeSeconds)}`;
}

/** Opens the events of the order with that id until `expiresAtSeconds` (Unix time). */
export function ticketFor(key: KeyObject, orderId: string, expiresAtSeconds: number): string {
  const tag = createHmac('sha256', key).update(`${orderId}.${expiresAtSeconds}`).digest('base64url');
  return `${expiresAtSeconds}.${tag.slice(0, tagCharacters)}`;
}

/** When `ticket` expires (Unix time, seconds), whether past or not; null when it was not made for the order with that id. */
export function expiryOfTicket(key: KeyObject, orderId: string, ticket: string): number | null {
  const expiresAtSeconds = Number(ticketPattern.exec(ticket)?.[1] ?? Number.NaN);
  if (Number.isNaN(expiresAtSeconds)) return null;
  const expected = Buffer.from(ticketFor(key, orderId, expiresAtSeconds));
  const given = Buffer.from(ticket);
  return given.length === expected.length && timingSafeEqual(given, expected) ? expiresAtSeconds : null;
}

/** A UUIDv7 begins with the time of its making, in milliseconds (RFC 9562, section 5.7). */
function acceptedAtSeconds(orderId: string): number {
  return Math.floor(Number.parseInt(orderId.slice(0, 8) + orderId.slice(9, 13), 16) / 1_000);
}
