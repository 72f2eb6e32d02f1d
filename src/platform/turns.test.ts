import { expect, it } from 'vitest';
import { Turns } from './turns.ts';

const tick = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

it('runs so many at the same time and the others after them, as they came', async () => {
  const turns = new Turns(2);
  const begun: number[] = [];
  const ends = Array.from({ length: 5 }, () => Promise.withResolvers<number>());
  const runs = ends.map((end, index) =>
    turns.run(() => {
      begun.push(index);
      return end.promise;
    }),
  );
  await tick();
  expect(begun).toEqual([0, 1]);
  ends[1]?.resolve(1);
  await tick();
  expect(begun).toEqual([0, 1, 2]);
  for (const [index, end] of ends.entries()) end.resolve(index);
  expect(await Promise.all(runs)).toEqual([0, 1, 2, 3, 4]);
  expect(begun).toEqual([0, 1, 2, 3, 4]);
});

it('goes on after one that fails', async () => {
  const turns = new Turns(1);
  const failing = turns.run(() => Promise.reject(new Error('broken')));
  const next = turns.run(async () => 'next');
  await expect(failing).rejects.toThrow('broken');
  expect(await next).toBe('next');
  expect(await turns.run(async () => 'later')).toBe('later');
});
