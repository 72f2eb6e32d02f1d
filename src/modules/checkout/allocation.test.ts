import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { allocate, type CheckoutRequest, type Decision, type WantedLine } from './allocation.ts';

type Stock = ReadonlyMap<string, number>;

const products = ['a', 'b', 'c', 'd'];
const anyStock = fc
  .array(fc.nat(8), { minLength: products.length, maxLength: products.length })
  .map((units): Stock => new Map(products.map((id, index) => [id, units[index] ?? 0])));
const anyLine = fc.record<WantedLine>({
  productId: fc.constantFrom(...products, 'unknown'),
  quantity: fc.integer({ min: 1, max: 6 }),
  unitPrice: fc.integer({ min: 1, max: 1_000_000_000 }),
  isOnSale: fc.constantFrom(true, true, true, false),
  maxPerOrder: fc.option(fc.integer({ min: 1, max: 6 })),
});
const anyRequest = fc
  .record({
    lines: fc.uniqueArray(anyLine, { maxLength: 5, selector: (line) => line.productId }),
    fulfilment: fc.constantFrom('partial' as const, 'all_or_nothing' as const),
    expectation: fc.constantFrom('none', 'none', 'right', 'wrong'),
  })
  .map(({ lines, fulfilment, expectation }): CheckoutRequest => {
    const expected = { none: null, right: totalOf(lines), wrong: totalOf(lines) + 1 };
    return { lines, fulfilment, expectedTotal: expected[expectation as keyof typeof expected] };
  });
const anySale = fc.tuple(fc.array(anyRequest, { maxLength: 8 }), anyStock);

describe('an allocation', () => {
  it('decides a batch as it would decide its members one by one', () => {
    forAnySale((requests, stock, decisions) => expect(decisions).toEqual(oneByOne(requests, stock)));
  });

  it('never sells more than there is', () => {
    forAnySale((requests, stock, decisions) => {
      for (const [productId, left] of stockAfter(requests, decisions, stock))
        expect([productId, left >= 0]).toEqual([productId, true]);
    });
  });

  it('sells every line that the stock covers within its limit, and no other', () => {
    forAnySale((requests, stock, decisions) => {
      requests.forEach((request, index) => {
        const decision = decisions[index];
        if (decision?.verdict !== 'sold') return;
        const before = stockAfter(requests.slice(0, index), decisions, stock);
        const sellable = request.lines.filter((line) => canBeSold(line, before));
        expect(decision.productIds).toEqual(sellable.map((line) => line.productId));
        expect(decision.total).toBe(totalOf(sellable));
      });
    });
  });

  it('refuses a basket only when nothing of it can be sold', () => {
    forAnySale((requests, stock, decisions) => {
      requests.forEach((request, index) => {
        if (decisions[index]?.verdict !== 'nothing_sellable') return;
        const before = stockAfter(requests.slice(0, index), decisions, stock);
        expect(request.lines.filter((line) => canBeSold(line, before))).toEqual([]);
      });
    });
  });

  it('gives all or nothing to whoever asks for it', () => {
    forAnySale((requests, stock, decisions) => {
      requests.forEach((request, index) => {
        const decision = decisions[index];
        if (request.fulfilment === 'partial') expect(decision?.verdict).not.toBe('short');
        else if (decision?.verdict === 'sold') expect(decision.productIds).toHaveLength(request.lines.length);
        else if (decision?.verdict === 'short') {
          const before = stockAfter(requests.slice(0, index), decisions, stock);
          expect(request.lines.every((line) => canBeSold(line, before))).toBe(false);
        }
      });
    });
  });

  it('takes nothing exactly when the total is not the expected one', () => {
    forAnySale((requests, _, decisions) => {
      requests.forEach((request, index) => {
        const hasChanged = request.expectedTotal !== null && request.expectedTotal !== totalOf(request.lines);
        expect(decisions[index]?.verdict === 'total_changed').toBe(hasChanged);
      });
    });
  });

  it('is the same for the same input, and leaves its input as it was', () => {
    forAnySale((requests, stock, decisions) => {
      const before = structuredClone([requests, stock]);
      expect(allocate(requests, stock)).toEqual(decisions);
      expect([requests, stock]).toEqual(before);
    });
  });
});

describe('the first in line', () => {
  const want = (quantity: number, changes: Partial<WantedLine> = {}): CheckoutRequest => ({
    lines: [{ productId: 'a', quantity, unitPrice: 100, isOnSale: true, maxPerOrder: null, ...changes }],
    fulfilment: 'partial',
    expectedTotal: null,
  });
  const verdicts = (requests: readonly CheckoutRequest[], units: number): string[] =>
    allocate(requests, new Map([['a', units]])).map((decision) => decision.verdict);

  it('gets the last unit', () => {
    expect(verdicts([want(1), want(1)], 1)).toEqual(['sold', 'nothing_sellable']);
  });

  it('does not keep a smaller wish from what is left', () => {
    expect(verdicts([want(3), want(2), want(1)], 2)).toEqual(['nothing_sellable', 'sold', 'nothing_sellable']);
  });

  it('takes nothing when refused for its limit, for being archived, or for its total', () => {
    const refused = [want(2, { maxPerOrder: 1 }), want(2, { isOnSale: false }), { ...want(2), expectedTotal: 199 }];
    expect(verdicts([...refused, want(2)], 2)).toEqual([
      'nothing_sellable',
      'nothing_sellable',
      'total_changed',
      'sold',
    ]);
  });
});

function forAnySale(
  check: (requests: readonly CheckoutRequest[], stock: Stock, decisions: readonly Decision[]) => void,
): void {
  fc.assert(
    fc.property(anySale, ([requests, stock]) => {
      check(requests, stock, allocate(requests, stock));
    }),
    { numRuns: 500 },
  );
}

function oneByOne(requests: readonly CheckoutRequest[], stock: Stock): Decision[] {
  const decisions: Decision[] = [];
  for (const request of requests) {
    const left = stockAfter(requests.slice(0, decisions.length), decisions, stock);
    decisions.push(...allocate([request], left));
  }
  return decisions;
}

/** What is left of `stock` once `requests` were served as the first of `decisions` say. */
function stockAfter(requests: readonly CheckoutRequest[], decisions: readonly Decision[], stock: Stock): Stock {
  const left = new Map(stock);
  requests.forEach((request, index) => {
    const decision = decisions[index];
    if (decision?.verdict !== 'sold') return;
    for (const line of request.lines.filter(({ productId }) => decision.productIds.includes(productId)))
      left.set(line.productId, (left.get(line.productId) ?? 0) - line.quantity);
  });
  return left;
}

function canBeSold(line: WantedLine, stock: Stock): boolean {
  return (
    line.isOnSale &&
    line.quantity <= (stock.get(line.productId) ?? 0) &&
    line.quantity <= (line.maxPerOrder ?? Infinity)
  );
}

function totalOf(lines: readonly WantedLine[]): number {
  return lines.reduce((sum, line) => sum + line.quantity * line.unitPrice, 0);
}
