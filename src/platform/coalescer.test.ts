import fc from 'fast-check';
import { describe, expect, it, vi } from 'vitest';
import { Unavailable } from '../shared/refusal.ts';
import { Coalescer, type CoalescerLimits, coalescerStats, LineFull } from './coalescer.ts';

type Job = { id: number; key: string | null };

const limits: CoalescerLimits = { waiting: 100, waitingPerKey: 5, batch: 4, inFlight: 1, waitMs: 5_000 };

class MemberFault extends Error {}

/** A name of its own for each line, since lines of one name are counted together. */
let lines = 0;

function coalescer(run: (batch: readonly Job[]) => Promise<readonly number[]>, changed: Partial<CoalescerLimits> = {}) {
  const splits: number[] = [];
  const line = new Coalescer<Job, number>({
    name: `jobs ${lines++}`,
    run,
    keyOf: (job) => job.key,
    isMemberFault: (error) => error instanceof MemberFault,
    onSplit: (_, size) => splits.push(size),
    limits: { ...limits, ...changed },
  });
  return { line, splits };
}

const job = (id: number, key: string | null = null): Job => ({ id, key });
const ids = (batch: readonly Job[]): number[] => batch.map(({ id }) => id);

/** A batch that stays under way until it is let go. */
function gate() {
  const batches: number[][] = [];
  const open: Array<() => void> = [];
  const run = (batch: readonly Job[]): Promise<number[]> => {
    batches.push(ids(batch));
    return new Promise((resolve) => open.push(() => resolve(ids(batch))));
  };
  const letGo = async (): Promise<void> => {
    open.shift()?.();
    await new Promise((resolve) => setImmediate(resolve));
  };
  return { batches, run, letGo };
}

describe('batches', () => {
  it('form by themselves: the first leaves alone, those that come meanwhile leave together', async () => {
    const { batches, run, letGo } = gate();
    const { line } = coalescer(run);
    const answers = [1, 2, 3, 4].map((id) => line.submit(job(id)));
    expect(batches).toEqual([[1]]);
    await letGo();
    expect(batches).toEqual([[1], [2, 3, 4]]);
    await letGo();
    expect(await Promise.all(answers)).toEqual([1, 2, 3, 4]);
  });

  it('are never larger than the largest, and as many under way as may be', async () => {
    const { batches, run, letGo } = gate();
    const { line } = coalescer(run, { inFlight: 2 });
    const answers = Array.from({ length: 12 }, (_, id) => line.submit(job(id)));
    expect(batches).toEqual([[0], [1]]);
    while (line.stats().waiting + line.stats().inFlight > 0) await letGo();
    expect(batches.slice(2).map((batch) => batch.length)).toEqual([4, 4, 2]);
    expect(await Promise.all(answers)).toEqual(Array.from({ length: 12 }, (_, id) => id));
  });

  it('never hold two of one key, which are served in the order of their arrival', async () => {
    const { batches, run, letGo } = gate();
    const { line } = coalescer(run, { inFlight: 2 });
    for (const [id, key] of [
      [1, 'a'],
      [2, 'a'],
      [3, 'b'],
      [4, 'a'],
      [5, 'c'],
    ] as const)
      void line.submit(job(id, key));
    expect(batches).toEqual([[1], [3]]);
    await letGo();
    expect(batches.at(-1)).toEqual([2, 5]);
    await letGo();
    await letGo();
    expect(batches.at(-1)).toEqual([4]);
    await letGo();
  });
});

describe('lines are bounded', () => {
  it('as a whole: the next request is turned away at once', async () => {
    const { run, letGo } = gate();
    const { line } = coalescer(run, { waiting: 2 });
    const answers = [1, 2, 3].map((id) => line.submit(job(id)));
    await expect(line.submit(job(4))).rejects.toMatchObject({ ofKey: false });
    await letGo();
    await letGo();
    expect(await Promise.all(answers)).toEqual([1, 2, 3]);
  });

  it('for each key, so that one key cannot fill the line of all', async () => {
    const { batches, run, letGo } = gate();
    const { line } = coalescer(run, { waitingPerKey: 2 });
    const answers = [1, 2, 3].map((id) => line.submit(job(id, 'a')));
    await expect(line.submit(job(4, 'a'))).rejects.toThrow(LineFull);
    answers.push(line.submit(job(5, 'b')));
    for (let n = 0; n < 3; n++) await letGo();
    expect(batches).toEqual([[1], [2, 5], [3]]);
    await Promise.all(answers);
  });

  it('in time: who has waited too long is turned away, who is under way is answered', async () => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval', 'performance'] });
    const { run, letGo } = gate();
    const { line } = coalescer(run);
    const underWay = line.submit(job(1));
    const late = line.submit(job(2));
    const refusal = expect(late).rejects.toThrow(Unavailable);
    vi.advanceTimersByTime(5_200);
    await refusal;
    vi.useRealTimers();
    await letGo();
    expect(await underWay).toBe(1);
    expect(line.stats()).toMatchObject({ waiting: 0, inFlight: 0 });
  });
});

describe('whoever goes away while waiting', () => {
  it('is not served, and does not hold up the next of its key', async () => {
    const { batches, run, letGo } = gate();
    const { line } = coalescer(run);
    const first = line.submit(job(1));
    const gone = new AbortController();
    const aborted = line.submit(job(2, 'a'), gone.signal);
    const next = line.submit(job(3, 'a'));
    gone.abort(new Error('gone'));
    await expect(aborted).rejects.toThrow('gone');
    await letGo();
    await letGo();
    expect(batches).toEqual([[1], [3]]);
    expect(await Promise.all([first, next])).toEqual([1, 3]);
  });

  it('is not even taken when it is gone already', async () => {
    const { batches, run } = gate();
    const { line } = coalescer(run);
    await expect(line.submit(job(1), AbortSignal.abort(new Error('gone')))).rejects.toThrow('gone');
    expect(batches).toEqual([]);
  });

  it('is found out when its turn comes, without a listener, and is answered once under way', async () => {
    const { batches, run, letGo } = gate();
    const { line } = coalescer(run, { batch: 2 });
    const client = { aborted: false, reason: new Error('gone') };
    const underWay = line.submit(job(1), client);
    const waiting = [2, 3].map((id) => line.submit(job(id), client));
    const other = line.submit(job(4));
    const refusals = waiting.map((answer) => expect(answer).rejects.toThrow('gone'));
    client.aborted = true;
    await letGo();
    await Promise.all(refusals);
    await letGo();
    expect(batches).toEqual([[1], [4]]);
    expect(await Promise.all([underWay, other])).toEqual([1, 4]);
    expect(line.stats()).toMatchObject({ waiting: 0, inFlight: 0, turnedAway: { gone: 2 } });
  });
});

describe('figures', () => {
  it('tell the sizes of batches, the waits, and who was turned away', async () => {
    const { run, letGo } = gate();
    const { line } = coalescer(run, { waiting: 3 });
    const answers = [1, 2, 3, 4].map((id) => line.submit(job(id)));
    await expect(line.submit(job(5))).rejects.toThrow(LineFull);
    expect(line.stats()).toMatchObject({ waiting: 3, inFlight: 1, turnedAway: { full: 1, late: 0, gone: 0 } });
    await letGo();
    await letGo();
    await Promise.all(answers);
    const { batchSize, waitSeconds, ...figures } = line.stats();
    expect(figures).toMatchObject({ served: 4, splits: 0, waiting: 0, inFlight: 0 });
    expect([batchSize.sum, batchSize.counts.slice(0, 3)]).toEqual([4, [1, 0, 1]]);
    expect(waitSeconds.counts.reduce((sum, count) => sum + count)).toBe(4);
    expect(coalescerStats()).toContainEqual(line.stats());
  });

  it('of lines of one name are counted together, also when one of them is gone', async () => {
    const open = () =>
      new Coalescer<Job, number>({
        name: 'side lines',
        run: async (batch) => ids(batch),
        keyOf: () => null,
        isMemberFault: () => false,
        onSplit: () => undefined,
        limits,
      });
    await Promise.all([open().submit(job(1)), open().submit(job(2))]);
    expect(coalescerStats().find(({ name }) => name === 'side lines')).toMatchObject({ served: 2 });
  });
});

describe('a batch that fails', () => {
  const refusing = (bad: readonly number[]) => async (batch: readonly Job[]) => {
    await null;
    if (batch.some(({ id }) => bad.includes(id))) throw new MemberFault('bad member');
    return ids(batch);
  };

  it('through one member is split until that member stands alone', async () => {
    const { line, splits } = coalescer(refusing([3]));
    const outcomes = await Promise.allSettled([0, 1, 2, 3, 4].map((id) => line.submit(job(id))));
    expect(outcomes.map(({ status }) => status)).toEqual([
      'fulfilled',
      'fulfilled',
      'fulfilled',
      'rejected',
      'fulfilled',
    ]);
    expect(splits).toEqual([4, 2]);
  });

  it('through anything else fails for all of it, and for nobody after it', async () => {
    let calls = 0;
    const { line } = coalescer(async (batch) => {
      await null;
      if (calls++ === 1) throw new Error('no database');
      return ids(batch);
    });
    const outcomes = await Promise.allSettled([0, 1, 2].map((id) => line.submit(job(id))));
    expect(outcomes.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'rejected']);
    expect(await line.submit(job(9))).toBe(9);
  });

  it('with too few answers fails for all of it', async () => {
    const { line } = coalescer(async () => []);
    await expect(line.submit(job(1))).rejects.toThrow('1 requests got 0 answers');
  });
});

it('answers each request once and with its own answer, in any order of events', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.scheduler(),
      fc.array(fc.record({ key: fc.constantFrom(null, 'a', 'b', 'c'), isBad: fc.boolean(), leaves: fc.boolean() }), {
        minLength: 1,
        maxLength: 40,
      }),
      fc.record({ batch: fc.integer({ min: 1, max: 6 }), inFlight: fc.integer({ min: 1, max: 3 }) }),
      async (scheduler, plan, chosen) => {
        const running = new Set<string>();
        const served: Job[] = [];
        const run = async (batch: readonly Job[]): Promise<number[]> => {
          const keys = batch.map(({ key }) => key).filter((key) => key !== null);
          expect(new Set(keys).size).toBe(keys.length);
          expect(batch.length).toBeLessThanOrEqual(chosen.batch);
          for (const key of keys) {
            expect(running).not.toContain(key);
            running.add(key);
          }
          await scheduler.schedule(Promise.resolve());
          for (const key of keys) running.delete(key);
          if (batch.some(({ id }) => plan[id]?.isBad)) throw new MemberFault('bad member');
          served.push(...batch);
          return ids(batch);
        };
        const { line } = coalescer(run, { ...chosen, waitingPerKey: 100 });
        const settled = plan.map(async ({ key, leaves }, id) => {
          await scheduler.schedule(Promise.resolve());
          const controller = new AbortController();
          const answer = line.submit(job(id, key), controller.signal);
          if (leaves) void scheduler.schedule(Promise.resolve()).then(() => controller.abort(new Error('left')));
          return answer.then(
            (value) => ({ id, value, error: null }),
            (error: Error) => ({ id, value: null, error }),
          );
        });
        for (const { id, value, error } of await scheduler.waitFor(Promise.all(settled))) {
          const { isBad, leaves } = plan[id] ?? {};
          if (error === null) expect([value, isBad]).toEqual([id, false]);
          else expect(error instanceof MemberFault ? isBad : leaves && error.message === 'left').toBe(true);
        }
        expect(new Set(ids(served)).size).toBe(served.length);
        expect(line.stats()).toMatchObject({ waiting: 0, inFlight: 0 });
      },
    ),
    { numRuns: 300 },
  );
});
