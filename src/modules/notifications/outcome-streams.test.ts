import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type OutcomeEvent, OutcomeStreams } from './outcome-streams.ts';

function event(offset: number, basketId = 'basket'): OutcomeEvent {
  return { id: `event ${offset}`, basketId, offset, orderId: `order ${offset}`, kind: 'completed' };
}

/** Notes the offsets of what it is told. */
function watch(streams: OutcomeStreams, seenOffset: number, basketId = 'basket') {
  const offsets: number[] = [];
  const stop = streams.watch(basketId, seenOffset, ({ offset }) => offsets.push(offset));
  return { offsets, stop };
}

describe('a watcher', () => {
  test('is told of its next event', () => {
    const streams = new OutcomeStreams();
    const { offsets } = watch(streams, 4);
    streams.pass(event(5));
    expect(offsets).toEqual([5]);
  });

  test('is told once of what is passed on twice', () => {
    const streams = new OutcomeStreams();
    const { offsets } = watch(streams, 0);
    streams.pass(event(1));
    streams.pass(event(1));
    streams.pass(event(2));
    expect(offsets).toEqual([1, 2]);
  });

  test('is told nothing of what it has seen before', () => {
    const streams = new OutcomeStreams();
    const { offsets } = watch(streams, 3);
    for (const offset of [1, 2, 3]) streams.pass(event(offset));
    expect(offsets).toEqual([]);
  });

  test('is not told of an event ahead of one that is missing', () => {
    const streams = new OutcomeStreams();
    const { offsets } = watch(streams, 0);
    streams.pass(event(2));
    expect(offsets).toEqual([]);
    expect(streams.seen()).toEqual([{ basketId: 'basket', offset: 0 }]);
    for (const offset of [1, 2]) streams.pass(event(offset));
    expect(offsets).toEqual([1, 2]);
  });

  test('is told nothing of another basket', () => {
    const streams = new OutcomeStreams();
    const { offsets } = watch(streams, 0);
    streams.pass(event(1, 'other'));
    expect(offsets).toEqual([]);
  });

  test('is told nothing once it has stopped, and stops only itself', () => {
    const streams = new OutcomeStreams();
    const [gone, kept] = [watch(streams, 0), watch(streams, 0)];
    gone.stop();
    gone.stop();
    streams.pass(event(1));
    expect([gone.offsets, kept.offsets]).toEqual([[], [1]]);
  });

  test('that stops twice leaves those who came after it alone', () => {
    const streams = new OutcomeStreams();
    const gone = watch(streams, 0);
    gone.stop();
    const later = watch(streams, 0);
    gone.stop();
    streams.pass(event(1));
    expect(later.offsets).toEqual([1]);
  });

  test('may stop others while it is told', () => {
    const streams = new OutcomeStreams();
    const stops: Array<() => void> = [];
    streams.watch('basket', 0, () => stops.forEach((stop) => void stop()));
    const other = watch(streams, 0);
    stops.push(other.stop);
    streams.pass(event(1));
    expect(other.offsets).toEqual([]);
  });
});

describe('what was seen', () => {
  test('is that of the last of a basket, so that the table is read for all', () => {
    const streams = new OutcomeStreams();
    watch(streams, 7);
    watch(streams, 5);
    watch(streams, 2, 'other');
    expect(streams.seen()).toEqual([
      { basketId: 'basket', offset: 5 },
      { basketId: 'other', offset: 2 },
    ]);
  });

  test('names no basket that nobody watches any more', () => {
    const streams = new OutcomeStreams();
    const { stop } = watch(streams, 0);
    stop();
    expect(streams.seen()).toEqual([]);
  });

  test('can be asked for with very many watchers of one basket', () => {
    const streams = new OutcomeStreams();
    for (let number = 0; number < 200_000; number++) watch(streams, number);
    expect(streams.seen()).toEqual([{ basketId: 'basket', offset: 0 }]);
  });
});

test('whatever is passed on in whatever order, each watcher is told each event once and in order', () => {
  const length = 8;
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 1, max: length })),
      fc.array(fc.nat({ max: length }), { minLength: 1 }),
      (passed, starts) => {
        const streams = new OutcomeStreams();
        const watchers = starts.map((start) => ({ start, ...watch(streams, start) }));
        for (const offset of passed) streams.pass(event(offset));
        for (let offset = Math.min(...starts) + 1; offset <= length; offset++) streams.pass(event(offset));
        for (const { start, offsets } of watchers)
          expect(offsets).toEqual(Array.from({ length: length - start }, (_, index) => start + 1 + index));
      },
    ),
  );
});
