import { expect, it } from 'vitest';
import { Unavailable } from '../shared/refusal.ts';
import { BatchesAroundHeldRows, type HeldRows } from './batches-around-held-rows.ts';
import { CommitUnknown, type Database, type Tx } from './db.ts';

type Job = Readonly<{ id: number; key: string | null; row: string }>;

const job = (id: number, row: string, key: string | null = null): Job => ({ id, key, row });
const tick = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

type Probe = 'findHeld' | 'findNamed' | 'lockRow';

/**
 * Batches over rows that are held while they are in `held`; `served` lists what was served together. The answers to the
 * COMMIT of all of `lost` are lost.
 */
function batches(held: Set<string>, lost: readonly Probe[] = []) {
  const served: number[][] = [];
  const lose = (probe: Probe): void => {
    if (lost.includes(probe)) throw new CommitUnknown(new Error('Connection terminated'));
  };
  const timedOut = () =>
    new Unavailable('held', { cause: Object.assign(new Error('lock timeout'), { code: '55P03' }) });
  const waiting: Array<{ row: string; go: () => void }> = [];
  const busy = { now: 0, most: 0 };
  const find = (jobs: readonly Job[], rows: { has(row: string): boolean }): HeldRows<Job> =>
    new Map(jobs.filter(({ row }) => rows.has(row)).map((found) => [found, found.row]));
  const database = { transaction: (work) => work({} as Tx) } as Database;
  const line = new BatchesAroundHeldRows<Job, number>({
    name: 'jobs around rows',
    database,
    batchDatabase: database,
    serve: async (_, jobs) => {
      busy.most = Math.max(busy.most, ++busy.now);
      await tick();
      busy.now--;
      if (jobs.some(({ row }) => held.has(row))) throw timedOut();
      served.push(jobs.map(({ id }) => id));
      return jobs.map(({ id }) => id);
    },
    keyOf: ({ key }) => key,
    findHeld: async (_, jobs) => {
      lose('findHeld');
      return find(jobs, held);
    },
    findNamed: async (_, jobs, rows) => {
      lose('findNamed');
      return find(jobs, rows);
    },
    lockRow: async (_, row) => {
      lose('lockRow');
      if (held.has(row)) await new Promise<void>((go) => waiting.push({ row, go }));
    },
    onSplit: () => undefined,
  });
  const letGo = (row: string): void => {
    held.delete(row);
    for (const one of waiting.filter((each) => each.row === row)) {
      waiting.splice(waiting.indexOf(one), 1);
      one.go();
    }
  };
  return { line, served, letGo, waiting, busy };
}

it('serves all but those that need a held row, and these once it is free', async () => {
  const { line, served, letGo } = batches(new Set(['a']));
  const answers = [job(1, 'a'), job(2, 'b'), job(3, 'a'), job(4, 'b')].map((one) => line.submit(one));
  expect(await Promise.all([answers[1], answers[3]])).toEqual([2, 4]);
  const late = line.submit(job(5, 'a'));
  await tick();
  expect(served.flat()).toEqual([2, 4]);
  letGo('a');
  expect(await Promise.all([...answers, late])).toEqual([1, 2, 3, 4, 5]);
});

it('keeps later requests of a key behind the one that waits, whatever rows they need', async () => {
  const { line, served, letGo } = batches(new Set(['a']));
  const first = line.submit(job(1, 'a', 'key'));
  const others = [job(2, 'b', 'key'), job(3, 'b', 'other')].map((one) => line.submit(one));
  await others[1];
  expect(served.flat()).toEqual([3]);
  letGo('a');
  await Promise.all([first, ...others]);
  expect(served.flat()).toEqual([3, 1, 2]);
});

it('turns away who has waited for one row and then needs another that is held', async () => {
  const held = new Set(['a']);
  const { line, letGo } = batches(held);
  const moving = { id: 1, key: null, row: 'a' };
  const refused = expect(line.submit(moving)).rejects.toThrow(Unavailable);
  const waiting = line.submit(job(2, 'a'));
  for (let turns = 0; turns < 5; turns++) await tick();
  held.add('b');
  moving.row = 'b';
  letGo('a');
  await refused;
  expect(await waiting).toBe(2);
});

it('leaves out who has gone while set aside', async () => {
  const { line, served, letGo } = batches(new Set(['a']));
  const client = { aborted: false, reason: new Error('gone') };
  const first = line.submit(job(1, 'a', 'key'));
  const gone = expect(line.submit(job(2, 'a', 'key'), client)).rejects.toThrow('gone');
  for (let turns = 0; turns < 5; turns++) await tick();
  client.aborted = true;
  letGo('a');
  await first;
  await gone;
  expect(served.flat()).toEqual([1]);
});

it('forgets a row once nobody waits for it any more', async () => {
  const { line, served, letGo } = batches(new Set(['a']));
  const waiting = line.submit(job(1, 'a'));
  await tick();
  letGo('a');
  await waiting;
  await tick();
  await Promise.all([job(2, 'b'), job(3, 'a'), job(4, 'b')].map((one) => line.submit(one)));
  expect(served.flat()).toEqual([1, 2, 3, 4]);
});

it.each([['findHeld'], ['lockRow']] as const)('has taken nothing when the COMMIT of %s is lost', async (probe) => {
  const { line, served } = batches(new Set(['a']), [probe]);
  await expect(line.submit(job(1, 'a'))).rejects.toThrow(Unavailable);
  expect(served).toEqual([]);
});

it('has taken nothing when the COMMIT of the look for those who wait is lost', async () => {
  const { line, served, letGo } = batches(new Set(['a']), ['findNamed']);
  const waiting = line.submit(job(1, 'a'));
  for (let turns = 0; turns < 5; turns++) await tick();
  await expect(line.submit(job(2, 'b'))).rejects.toThrow(Unavailable);
  letGo('a');
  await waiting;
  expect(served.flat()).toEqual([1]);
});

it('stands before a few held rows at a time, so that connections are left, and comes to all of them', async () => {
  const rows = Array.from({ length: 20 }, (_, index) => `row ${index}`);
  const { line, served, letGo, waiting, busy } = batches(new Set(rows));
  const answers = rows.map((row, index) => line.submit(job(index, row)));
  for (let turns = 0; turns < 10; turns++) await tick();
  expect(waiting.map(({ row }) => row)).toEqual(rows.slice(0, 4));
  expect(await line.submit(job(20, 'free'))).toBe(20);
  busy.most = 0;
  for (const row of rows) letGo(row);
  expect(await Promise.all(answers)).toEqual(rows.map((_, index) => index));
  expect(busy.most).toBe(1);
  expect(served).toHaveLength(21);
});
