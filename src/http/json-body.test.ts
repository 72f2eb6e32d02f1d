import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Refused } from '../shared/refusal.ts';
import { parseJson } from './json-body.ts';

const parseText = (text: string): unknown => parseJson(Buffer.from(text));
const nested = (depth: number): string => '['.repeat(depth) + ']'.repeat(depth);
const listOf = (length: number): string => JSON.stringify(Array.from({ length }, () => 0));

function refusalOf(bytes: Uint8Array): string {
  try {
    parseJson(bytes);
  } catch (error) {
    if (error instanceof Refused) return error.message;
    throw error;
  }
  return 'accepted';
}

describe('a JSON body', () => {
  it('is what JSON.parse makes of it', () => {
    fc.assert(
      fc.property(fc.json({ maxDepth: 5, depthSize: 'small' }), (text) => {
        fc.pre(!/__proto__|constructor/.test(text));
        expect(parseText(text)).toEqual(JSON.parse(text));
      }),
    );
  });

  it.each([
    '',
    '{',
    '{"a":1,}',
    "{'a':1}",
    '{a:1}',
    'NaN',
    '{"a":NaN}',
    '{"a":Infinity}',
    '{"a":0x10}',
    '{"a":01}',
    '{"a":1}{"b":2}',
    '/* */{}',
    'undefined',
    '"\n"',
    '\ufeff{}',
  ])('is refused when it is %j', (text) => {
    expect(refusalOf(Buffer.from(text))).toBe('Invalid JSON in the request body');
  });

  it.each([
    ['bytes that are no UTF-8', [0x22, 0xff, 0x22]],
    ['an overlong NUL', [0x22, 0xc0, 0x80, 0x22]],
    ['half a surrogate pair as bytes', [0x22, 0xed, 0xa0, 0x80, 0x22]],
    ['UTF-16', [...Buffer.from('{}', 'utf16le')]],
    ['gzip', [0x1f, 0x8b, 0x08, 0x00]],
  ])('is refused when it holds %s', (_, bytes) => {
    expect(refusalOf(Uint8Array.from(bytes))).toBe('Invalid JSON in the request body');
  });

  it('never has its words repeated in an error', () => {
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom(...'0123456789'), minLength: 6 }), (secret) => {
        expect(refusalOf(Buffer.from(`{"token": ${secret}x`))).not.toContain(secret);
      }),
    );
  });

  it.each([
    '{"__proto__":{}}',
    '{"product":{"__proto__":null}}',
    '{"\\u005f_proto__":1}',
    '[[{"__proto__":[]}]]',
    '{"constructor":{"prototype":{}}}',
    '{"a":{"constructor":{"prototype":1}}}',
  ])('is refused when it forges a prototype: %s', (text) => {
    expect(refusalOf(Buffer.from(text))).toBe('The request body has a key that is not allowed');
  });

  it('may have a key that only looks like it', () => {
    expect(parseText('{"constructor":"Bob the builder","prototype":1}')).toHaveProperty('prototype', 1);
  });

  it('is 32 deep and has 1,000 values at most', () => {
    const refusal = 'The request body is nested too deeply or has too many values';
    expect(refusalOf(Buffer.from(nested(32)))).toBe('accepted');
    expect(refusalOf(Buffer.from(listOf(999)))).toBe('accepted');
    for (const text of [nested(33), nested(30_000), listOf(1_000), `[${listOf(500)},${listOf(500)}]`])
      expect(refusalOf(Buffer.from(text))).toBe(refusal);
  });
});
