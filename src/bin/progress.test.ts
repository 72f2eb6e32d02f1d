import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { type Progress, showProgress } from './progress.ts';

const clear = '\r\u001b[K';
let written: string[];

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['performance'] });
  written = [];
});

afterEach(() => {
  vi.useRealTimers();
});

function open(isTTY: boolean, total = 200): Progress {
  const write = (text: string | Uint8Array): boolean => written.push(String(text)) > 0;
  return showProgress({ total, describe: (done) => `${done} of ${total}` }, { isTTY, write });
}

test('a terminal shows a bar that is redrawn in place and cleared at the end', () => {
  const progress = open(true);
  progress.update(0);
  vi.advanceTimersByTime(100);
  progress.update(50);
  progress.update(51);
  progress.end();
  expect(written).toEqual([
    `${clear}[${'-'.repeat(30)}]   0 %  0 of 200`,
    `${clear}[${'#'.repeat(8)}${'-'.repeat(22)}]  25 %  50 of 200`,
    clear,
  ]);
});

test('a note stands on a line of its own, above the bar', () => {
  const progress = open(true);
  progress.note('before');
  progress.update(200);
  progress.note('line 3: bad');
  const bar = `[${'#'.repeat(30)}] 100 %  200 of 200`;
  expect(written).toEqual(['before\n', `${clear}${bar}`, `${clear}line 3: bad\n${bar}`]);
});

test('a log gets a line now and then, and none from a command that is quick', () => {
  const progress = open(false);
  progress.update(10);
  vi.advanceTimersByTime(5_000);
  progress.update(100);
  progress.update(150);
  progress.note('line 3: bad');
  progress.end();
  expect(written).toEqual([' 50 %  100 of 200\n', 'line 3: bad\n']);
});

test('without a known total there is no share to show', () => {
  const progress = open(true, 0);
  progress.update(7);
  expect(written).toEqual([`${clear}7 of 0`]);
});
