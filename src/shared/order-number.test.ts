import { randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { orderNumberLimit, orderNumbers } from './order-number.ts';

const key = Buffer.alloc(32, 3);
const orderNumber = (sequence: number, secret: Buffer) => orderNumbers([sequence], secret)[0];
const sequences = fc.maxSafeNat().map((nat) => nat % orderNumberLimit);

describe('an order number', () => {
  it('belongs to one order only', () => {
    const samples = fc.uniqueArray(sequences, { minLength: 2, maxLength: 50 });
    fc.assert(
      fc.property(samples, (some) => {
        expect(new Set(orderNumbers(some, key)).size).toBe(some.length);
        expect(orderNumbers(some, key)).toEqual(some.map((sequence) => orderNumber(sequence, key)));
      }),
    );
  });

  it('belongs to one order only, also among the first thousands', () => {
    const numbers = Array.from({ length: 5_000 }, (_, sequence) => orderNumber(sequence, key));
    expect(new Set(numbers).size).toBe(numbers.length);
  });

  it('is the same each time and can be read out', () => {
    fc.assert(
      fc.property(sequences, (sequence) => {
        expect(orderNumber(sequence, key)).toBe(orderNumber(sequence, key));
        expect(orderNumber(sequence, key)).toMatch(/^[0-9A-HJKMNP-TV-Z]{4}-[0-9A-HJKMNP-TV-Z]{4}$/);
      }),
    );
  });

  it('cannot be told without the key', () => {
    const other = randomBytes(32);
    const same = Array.from({ length: 100 }, (_, sequence) => sequence).filter(
      (sequence) => orderNumber(sequence, key) === orderNumber(sequence, other),
    );
    expect(same).toEqual([]);
  });

  it.each([-1, 1.5, Number.NaN, orderNumberLimit])('is not made for the sequence number %s', (sequence) => {
    expect(() => orderNumber(sequence, key)).toThrow(RangeError);
  });

  it.each([0, orderNumberLimit - 1])('is made for the sequence number %s', (sequence) => {
    expect(orderNumber(sequence, key)).toHaveLength(9);
  });
});
