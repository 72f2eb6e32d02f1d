import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { containsCardNumber } from './card-number.ts';

/** The digit that makes `digits` pass the Luhn formula, written the other way round than the code under test. */
function checkDigit(digits: string): number {
  const doubledSums = [0, 2, 4, 6, 8, 1, 3, 5, 7, 9];
  const sum = [...digits]
    .reverse()
    .reduce((total, digit, place) => total + (place % 2 === 0 ? Number(doubledSums[Number(digit)]) : Number(digit)), 0);
  return (10 - (sum % 10)) % 10;
}

const digitsOf = (minLength: number, maxLength: number): fc.Arbitrary<string> =>
  fc.string({ unit: fc.constantFrom(...'0123456789'), minLength, maxLength });
const cards = digitsOf(12, 18).map((digits) => `${digits}${checkDigit(digits)}`);
const separators = fc.constantFrom(
  '',
  ' ',
  '-',
  '.',
  '/',
  '_',
  '  ',
  ' - ',
  '\t',
  '\r\n',
  '\u00a0',
  '\u2013',
  '\u200b',
);
const words = fc.string({ unit: fc.constantFrom(...'abcxyz ,:;#()') });

/** `card`, cut into groups of four that `separator` stands between. */
function grouped(card: string, separator: string): string {
  return card.match(/.{1,4}/g)?.join(separator) ?? '';
}

describe('a card number', () => {
  it('is found anywhere in text, however it is grouped', () => {
    fc.assert(
      fc.property(words, cards, separators, words, (before, card, separator, after) =>
        containsCardNumber(`${before}${grouped(card, separator)}${after}`),
      ),
    );
  });

  it('is found beside other numbers', () => {
    fc.assert(
      fc.property(cards, fc.nat(999), fc.nat(9_999), (card, before, after) =>
        containsCardNumber(`${before} ${card} ${after}`),
      ),
    );
  });

  it.each([
    '4111111111111111',
    '378282246310005',
    '4222222222222',
    'tok_4111111111111111',
    '\uff14\uff11\uff11\uff11 1111 1111 1111',
    'Card 4111-1111-1111-1111, valid to 12/29',
  ])('is found in %j', (text) => {
    expect(containsCardNumber(text)).toBe(true);
  });

  it('is none when one digit is wrong', () => {
    fc.assert(
      fc.property(cards, fc.nat(18), fc.integer({ min: 1, max: 9 }), (card, place, change) => {
        const index = place % card.length;
        const digit = (Number(card[index]) + change) % 10;
        return !containsCardNumber(`${card.slice(0, index)}${digit}${card.slice(index + 1)}`);
      }),
    );
  });

  it('is looked for in plain text as in any other', () => {
    const plain = fc.string({ unit: fc.constantFrom(...'0123456789 -./abcdef'), maxLength: 60 });
    const cardsInPlain = fc.tuple(words, cards, words).map((parts) => parts.join(' '));
    fc.assert(
      fc.property(
        fc.oneof(plain, cardsInPlain, fc.string()),
        (text) => containsCardNumber(text) === containsCardNumber(`${text} \u00e9`),
      ),
      { numRuns: 2_000 },
    );
  });

  it('has 13 to 19 digits', () => {
    const tooShort = digitsOf(0, 11);
    const tooLong = digitsOf(19, 40);
    fc.assert(
      fc.property(fc.oneof(tooShort, tooLong), (digits) => !containsCardNumber(`${digits}${checkDigit(digits)}`)),
    );
  });

  it('is never seen in an id', () => {
    fc.assert(fc.property(fc.uuid(), words, (id, text) => !containsCardNumber(`${text} ${id} ${id.toUpperCase()}`)));
    expect(containsCardNumber('00000000-4111-1111-8111-111111111111')).toBe(false);
  });

  it.each(['', '1 Main St', '62701-1234', '+1 (217) 555-0100', 'tok_success', '1234567890123456'])(
    'is not seen in %j',
    (text) => {
      expect(containsCardNumber(text)).toBe(false);
    },
  );
});
