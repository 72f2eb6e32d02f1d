import { expect, it } from 'vitest';
import { eventually } from '../../test/support/eventually.ts';
import { startRounds } from './rounds.ts';

const ignore = (): void => undefined;

it('runs a round at once, and then again and again', async () => {
  let runs = 0;
  const stop = startRounds([{ everyMs: 5, run: async () => void runs++ }], ignore);
  expect(runs).toBe(1);
  await eventually(() => runs > 3);
  await stop();
});

it('never runs a round beside itself, and waits for it when it is stopped', async () => {
  let atOnce = 0;
  let most = 0;
  let finished = 0;
  const run = async (): Promise<void> => {
    most = Math.max(most, ++atOnce);
    await new Promise((resolve) => setTimeout(resolve, 30));
    atOnce--;
    finished++;
  };
  const stop = startRounds([{ everyMs: 1, run }], ignore);
  await eventually(() => finished > 1);
  await stop();
  expect(atOnce).toBe(0);
  expect(most).toBe(1);
});

it('goes on after a round that failed, and tells of it', async () => {
  const told: string[] = [];
  let runs = 0;
  const run = async (): Promise<void> => {
    if (++runs === 1) throw new Error('out of luck');
  };
  const stop = startRounds([{ everyMs: 5, run }], (error) => void told.push(error.message));
  await eventually(() => runs > 2);
  await stop();
  expect(told).toEqual(['out of luck']);
});
