import { randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { decodePageKey, encodePageKey, type PagePosition } from './page-key.ts';

const secret = Buffer.alloc(32, 7);
const positions: fc.Arbitrary<PagePosition> = fc.record({
  direction: fc.constantFrom('after', 'before'),
  id: fc.uuid(),
});

describe('a page key', () => {
  it('stands for the position it was made from', () => {
    fc.assert(
      fc.property(positions, (position) => {
        expect(decodePageKey(encodePageKey(position, secret), secret)).toEqual(position);
      }),
    );
  });

  it('is the same each time and can stand in an address as it is', () => {
    fc.assert(
      fc.property(positions, (position) => {
        const key = encodePageKey(position, secret);
        expect(encodePageKey(position, secret)).toBe(key);
        expect(encodeURIComponent(key)).toBe(key);
      }),
    );
  });

  it('is refused when any byte of it is another', () => {
    fc.assert(
      fc.property(positions, fc.nat(), fc.integer({ min: 1, max: 255 }), (position, place, change) => {
        const bytes = Buffer.from(encodePageKey(position, secret), 'base64url');
        const index = place % bytes.length;
        bytes[index] = Number(bytes[index]) ^ change;
        expect(decodePageKey(bytes.toString('base64url'), secret)).toBeNull();
      }),
    );
  });

  it('is refused when any character of it is another, or is one too many or too few', () => {
    const characters = fc.string({ maxLength: 2 });
    fc.assert(
      fc.property(positions, fc.nat(), characters, (position, place, replacement) => {
        const key = encodePageKey(position, secret);
        const index = place % key.length;
        const changed = `${key.slice(0, index)}${replacement}${key.slice(index + 1)}`;
        fc.pre(changed !== key);
        expect(decodePageKey(changed, secret)).toBeNull();
      }),
    );
  });

  it('is refused by a shop with another secret', () => {
    const key = encodePageKey({ direction: 'after', id: '00000000-0000-7000-8000-000000000000' }, secret);
    expect(decodePageKey(key, randomBytes(32))).toBeNull();
  });

  it('is refused when it is any other text', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary-ascii', maxLength: 100 }), (text) => decodePageKey(text, secret) === null),
    );
  });
});
