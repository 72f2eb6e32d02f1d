import { expect, it } from 'vitest';
import { textOf } from './exposition.ts';

it('writes a gauge with its labels, whatever is in them', () => {
  const series = [
    [{}, 1.5],
    [{ line: 'a "b"\\\n', why: 'full' }, 0],
  ] as const;
  expect(textOf([{ name: 'waiting', help: 'Who waits.', type: 'gauge', series }])).toBe(
    [
      '# HELP waiting Who waits.',
      '# TYPE waiting gauge',
      'waiting 1.5',
      String.raw`waiting{line="a \"b\"\\\n",why="full"} 0`,
      '',
    ].join('\n'),
  );
});

it('writes a histogram with buckets that hold those below them', () => {
  const histogram = { bounds: [1, 10], counts: [2, 3, 1], sum: 40 };
  const series = [[{ line: 'a' }, histogram]] as const;
  expect(textOf([{ name: 'size', help: 'How many.', type: 'histogram', series }])).toBe(
    [
      '# HELP size How many.',
      '# TYPE size histogram',
      'size_bucket{line="a",le="1"} 2',
      'size_bucket{line="a",le="10"} 5',
      'size_bucket{line="a",le="+Inf"} 6',
      'size_sum{line="a"} 40',
      'size_count{line="a"} 6',
      '',
    ].join('\n'),
  );
});

it('writes what is not known as no series at all', () => {
  expect(textOf([{ name: 'open', help: 'Open.', type: 'gauge', series: [] }])).toBe(
    '# HELP open Open.\n# TYPE open gauge\n',
  );
});
