import fc from 'fast-check';
import { expect, test } from 'vitest';
import { newId } from '../../shared/ids.ts';
import { isSentBy, packEvents, unpackEvents } from './fan-out-payload.ts';
import type { OutcomeEvent } from './outcome-streams.ts';

const sender = newId();
const ids = fc.uuid();
const events = fc.array(
  fc.record({
    id: ids,
    basketId: ids,
    offset: fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }),
    orderId: ids,
    kind: fc.constantFrom<OutcomeEvent['kind']>('completed', 'failed', 'cancelled', 'refunded'),
  }),
  { maxLength: 200 },
);

test('whatever is packed comes out again, in its order, from texts of no more than the bytes that there may be', () => {
  fc.assert(
    fc.property(events, fc.integer({ min: 250, max: 7_999 }), (packed, mostBytes) => {
      const payloads = packEvents(sender, packed, mostBytes);
      expect(Math.max(0, ...payloads.map((payload) => Buffer.byteLength(payload)))).toBeLessThanOrEqual(mostBytes);
      expect(payloads.flatMap(unpackEvents)).toEqual(packed);
      expect(payloads.every((payload) => isSentBy(sender, payload) && !isSentBy(newId(), payload))).toBe(true);
    }),
  );
});

test('as many events share a text as fit into it', () => {
  const event = { id: newId(), basketId: newId(), offset: 1, orderId: newId(), kind: 'completed' } as const;
  const payloads = packEvents(
    sender,
    Array.from({ length: 100 }, () => event),
    7_999,
  );
  expect(payloads.map((payload) => unpackEvents(payload).length)).toEqual([59, 41]);
});

test.each([
  { what: 'no JSON', payload: '["x"' },
  { what: 'no list', payload: '{"id":1}' },
  { what: 'null', payload: 'null' },
  { what: 'nothing', payload: '' },
  { what: 'an event with a field too few', payload: JSON.stringify(['x', [newId(), newId(), 1, newId()]]) },
  { what: 'an offset that is text', payload: JSON.stringify(['x', [newId(), newId(), '1', newId(), 'failed']]) },
  { what: 'a kind of a later version', payload: JSON.stringify(['x', [newId(), newId(), 1, newId(), 'delayed']]) },
])('$what holds no event', ({ payload }) => {
  expect(unpackEvents(payload)).toEqual([]);
});
