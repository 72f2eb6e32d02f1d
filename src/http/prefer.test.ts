import fc from 'fast-check';
import type { FastifyRequest } from 'fastify';
import { expect, it } from 'vitest';
import { preferredWaitSeconds } from './prefer.ts';

const waitOf = (prefer: string | undefined): number | null =>
  preferredWaitSeconds({ headers: { prefer } } as unknown as FastifyRequest, 25);

it.each<[string | undefined, number | null]>([
  [undefined, null],
  ['', null],
  ['wait=10', 10],
  ['wait=0', 0],
  ['wait=25', 25],
  ['wait=26', 25],
  ['wait=999999999', 25],
  ['Wait = 5', 5],
  ['wait="5"', 5],
  ['respond-async, wait=5', 5],
  ['return=minimal; foo=bar, wait=5; foo', 5],
  ['wait=5, wait=9', 5],
  ['wait', null],
  ['wait=', null],
  ['wait=-1', null],
  ['wait=1.5', null],
  ['wait=1e3', null],
  ['wait=9999999999999', 25],
  ['await=5', null],
  ['x; wait=5', null],
])('Prefer: %s is a wait of %s seconds at most 25', (prefer, seconds) => {
  expect(waitOf(prefer)).toBe(seconds);
});

it('whatever a client prefers, it waits for a whole number of seconds up to the most, or not at all', () => {
  fc.assert(
    fc.property(fc.string(), (prefer) => {
      const seconds = waitOf(prefer);
      return seconds === null || (Number.isInteger(seconds) && seconds >= 0 && seconds <= 25);
    }),
  );
});
