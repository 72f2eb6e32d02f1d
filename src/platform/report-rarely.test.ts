import { beforeEach, expect, it } from 'vitest';
import { Unavailable } from '../shared/refusal.ts';
import { reportRarely } from './report-rarely.ts';

let nowMs: number;
let told: Array<[message: string, untold: number]>;
let onError: (error: Error) => void;

beforeEach(() => {
  nowMs = 0;
  told = [];
  onError = reportRarely(
    (error, untold) => told.push([error.message, untold]),
    () => nowMs,
  );
});

/** Fails ten times a second for so long. */
function fail(forMs: number, error: Error = new Unavailable('away')): void {
  for (const endMs = nowMs + forMs; nowMs < endMs; nowMs += 100) onError(error);
}

it('tells of an outage at once, then ever more rarely, and of how much it left out', () => {
  fail(10_000);
  expect(told).toEqual([
    ['away', 0],
    ['away', 9],
    ['away', 19],
    ['away', 39],
  ]);
});

it('tells of an outage that lasts at least once a minute', () => {
  fail(1_000_000);
  const before = told.length;
  fail(600_000);
  expect(told.length - before).toBe(10);
});

it('tells of the next outage at once', () => {
  fail(60_000);
  const before = told.length;
  nowMs += 200_000;
  fail(100);
  expect(told.length).toBe(before + 1);
  fail(1_000);
  expect(told.length).toBe(before + 2);
});

it('knows an outage that is the cause of something else', () => {
  fail(1_000, new Error('The gateway gave no answer', { cause: new Unavailable('away') }));
  expect(told).toEqual([['The gateway gave no answer', 0]]);
});

it('tells of everything else, also in an outage', () => {
  fail(500);
  fail(300, new Error('broken', { cause: 'a word' }));
  expect(told).toEqual([['away', 0], ...Array.from({ length: 3 }, () => ['broken', 0])]);
});
