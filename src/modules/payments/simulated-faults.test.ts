import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { gatewayFaults } from '../../shared/gateway-faults.ts';
import { type Call, faultOfToken, faultsByChance, tokenFaults } from './simulated-faults.ts';

const calls = fc.record<Call>({
  name: fc.constantFrom('authorize', 'capture', 'void', 'refund', 'lookup', 'list'),
  key: fc.string(),
});
const rates = fc
  .uniqueArray(fc.tuple(fc.constantFrom(...gatewayFaults), fc.double({ min: 0, max: 1, noNaN: true })), {
    selector: ([fault]) => fault,
  })
  .map((entries) => new Map(entries));
const seeds = fc.nat();
const numbers = fc.integer({ min: 1, max: 1_000 });

describe('faults by chance', () => {
  it('are the same whenever the same call is made, however the rates are written down', () => {
    fc.assert(
      fc.property(rates, seeds, calls, numbers, (some, seed, call, number) => {
        const hit = faultsByChance(some, seed, call, number);
        const backwards = new Map([...some].toReversed());
        expect(faultsByChance(backwards, seed, { ...call, paymentToken: 'tok_other' }, number).toReversed()).toEqual(
          hit,
        );
        expect(hit.every((fault) => some.has(fault))).toBe(true);
      }),
    );
  });

  it('of a higher rate hit all that a lower one hits; each fault for itself', () => {
    fc.assert(
      fc.property(
        rates,
        fc.constantFrom(...gatewayFaults),
        seeds,
        calls,
        numbers,
        (some, fault, seed, call, number) => {
          const hit = new Set(faultsByChance(some, seed, call, number));
          const higher = new Set(faultsByChance(new Map([...some, [fault, 1]]), seed, call, number));
          expect(higher).toEqual(new Set([...hit, fault]));
          const lower = faultsByChance(new Map([...some, [fault, 0]]), seed, call, number);
          expect(new Set(lower)).toEqual(new Set([...hit].filter((other) => other !== fault)));
        },
      ),
    );
  });

  it.each([0.01, 0.3, 0.9])('hit as many calls as a rate of %s says, and others for another seed', (rate) => {
    const hits = (seed: number) =>
      Array.from({ length: 10_000 }, (_, index) => `order-${index}`).filter(
        (key) => faultsByChance(new Map([['reset', rate]]), seed, { name: 'capture', key }, 1).length > 0,
      );
    const margin = 5 * Math.sqrt(10_000 * rate * (1 - rate));
    expect(Math.abs(hits(1).length - 10_000 * rate)).toBeLessThan(margin);
    expect(hits(2)).not.toEqual(hits(1));
  });

  it('may hit a call and spare it when it is made again', () => {
    const reset = new Map([['reset', 0.5]] as const);
    const hits = Array.from({ length: 100 }, (_, index) =>
      faultsByChance(reset, 1, { name: 'capture', key: 'order' }, index + 1),
    );
    expect(new Set(hits.map((hit) => hit.length))).toEqual(new Set([0, 1]));
  });
});

describe('faults by token', () => {
  it('befall the calls that name the token, some only the first time', () => {
    for (const [paymentToken, { fault, calls: named, which }] of tokenFaults)
      for (const name of ['authorize', 'capture', 'void'] as const) {
        const concerned = named.includes(name);
        expect(faultOfToken({ name, key: 'order', paymentToken }, 1)).toBe(concerned ? fault : undefined);
        expect(faultOfToken({ name, key: 'order', paymentToken }, 2)).toBe(
          concerned && which === 'every' ? fault : undefined,
        );
      }
  });

  it('leave alone who names another token, or none', () => {
    for (const paymentToken of ['tok_success', 'TOK_FAIL', '', null])
      expect(faultOfToken({ name: 'authorize', key: 'order', paymentToken }, 1)).toBeUndefined();
    expect(faultOfToken({ name: 'lookup', key: 'order' }, 1)).toBeUndefined();
  });
});

describe('the page on the simulated gateway', () => {
  const page = readFileSync('docs/simulated-gateway.md', 'utf8');
  const rows = [...page.matchAll(/^\| `.+$/gm)].map(([row]) =>
    row
      .split('|')
      .map((cell) => cell.trim())
      .slice(1, -1),
  );
  const plain = (cells: readonly string[]) => cells.map((cell) => cell.replaceAll('`', ''));

  it('lists every token with what befalls whom', () => {
    const listed = rows.filter(([name]) => name?.startsWith('`tok_')).map((cells) => plain(cells.slice(0, 4)));
    const known = [...tokenFaults].map(([token, { calls: named, which, fault }]) => [
      token,
      named.join(', '),
      which,
      fault,
    ]);
    expect(listed).toEqual(known);
  });

  it('lists every fault that can come by chance', () => {
    const listed = rows.filter(([name]) => !name?.startsWith('`tok_')).map((cells) => plain(cells.slice(0, 1)));
    expect(listed.flat()).toEqual(gatewayFaults);
  });
});
