import { expect, it } from 'vitest';
import { HistogramCounter } from './histogram.ts';

it('counts each value once, at the first bound that is not below it', () => {
  const counter = new HistogramCounter([1, 10, 100]);
  for (const value of [0, 1, 1.5, 10, 11, 101, 5_000]) counter.observe(value);
  expect(counter.read()).toEqual({ bounds: [1, 10, 100], counts: [2, 2, 1, 2], sum: 5_124.5 });
});
