import { isUuid } from '../../shared/ids.ts';
import type { EventKind } from './notifications.sql.ts';
import type { OutcomeEvent } from './outcome-streams.ts';

const kinds: ReadonlySet<unknown> = new Set<EventKind>(['completed', 'failed', 'cancelled', 'refunded']);

/**
 * Packs events into as few texts of at most `mostBytes` as their order allows: `["<sender>",[<event>],…]`, an event being
 * its fields in turn. ASCII throughout, so that its length is its size.
 */
export function packEvents(sender: string, events: readonly OutcomeEvent[], mostBytes: number): string[] {
  const head = headOf(sender);
  const payloads: string[] = [];
  let payload = head;
  for (const { id, basketId, offset, orderId, kind } of events) {
    const packed = `,${JSON.stringify([id, basketId, offset, orderId, kind])}`;
    if (payload !== head && payload.length + packed.length + 1 > mostBytes) {
      payloads.push(`${payload}]`);
      payload = head;
    }
    payload += packed;
  }
  return payload === head ? payloads : [...payloads, `${payload}]`];
}

/** Whether `sender` packed this, told without reading on: who publishes most also hears most of itself. */
export function isSentBy(sender: string, payload: string): boolean {
  return payload.startsWith(headOf(sender));
}

/** The events in a payload, as far as they are any: another version of this program may have packed it. */
export function unpackEvents(payload: string): OutcomeEvent[] {
  const content = parse(payload);
  return Array.isArray(content) ? content.flatMap(eventsIn) : [];
}

function headOf(sender: string): string {
  return `["${sender}"`;
}

function eventsIn(packed: unknown): OutcomeEvent[] {
  if (!Array.isArray(packed)) return [];
  const [id, basketId, offset, orderId, kind] = packed as unknown[];
  const isEvent = [id, basketId, orderId].every(isUuid) && Number.isSafeInteger(offset) && kinds.has(kind);
  return isEvent ? [{ id, basketId, offset, orderId, kind } as OutcomeEvent] : [];
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
