import { expect } from 'vitest';

/** The share that has to keep the bound. */
const most = 0.9;
/** A busy machine has moments in which nothing runs: who meets one waits for so many bounds at most. */
const worst = 5;

/** Expects nine in ten of `tookMs` to be within `boundMs`, and none to be far off it. */
export function expectMostly(tookMs: readonly number[], boundMs: number): void {
  const sorted = tookMs.toSorted((a, b) => a - b);
  expect(sorted[Math.ceil(most * sorted.length) - 1]).toBeLessThan(boundMs);
  expect(sorted.at(-1)).toBeLessThan(worst * boundMs);
}
