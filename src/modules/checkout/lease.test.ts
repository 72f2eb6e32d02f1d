import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import type { Reader, Statement } from '../../platform/db.ts';
import { type Lease, takeLease } from './lease.ts';

type Answer = (rows: unknown[]) => void;

/** Questions to the database that wait for their answer, by the name of their statement. */
let asked: Array<{ name: string; answer: Answer }>;
let lease: Lease;

const db: Reader = {
  query: <Row>({ name }: Statement) => new Promise<Row[]>((resolve) => asked.push({ name, answer: resolve as Answer })),
};

beforeEach(async () => {
  vi.useFakeTimers();
  asked = [];
  const taking = takeLease(db, (error) => expect.unreachable(error.message));
  await answer('lease.forget_long_gone', []);
  await answer('lease.register', [{ epoch: 1 }]);
  lease = await taking;
});
afterEach(() => vi.useRealTimers());

it('is held for 8 s after it was asked for, and as long again after each renewal', async () => {
  await vi.advanceTimersByTimeAsync(7_999);
  expect(lease.owner()?.epoch).toBe(1);
  await vi.advanceTimersByTimeAsync(1);
  expect(lease.owner()).toBeNull();
  // The first of four renewals, asked for after 2 s.
  await answer('lease.renew', [{ epoch: 1 }]);
  expect(lease.owner()?.epoch).toBe(1);
  await vi.advanceTimersByTimeAsync(2_000);
  expect(lease.owner()).toBeNull();
});

it('is taken anew under another epoch once it is lost', async () => {
  await vi.advanceTimersByTimeAsync(2_000);
  await loseAndRegister(2);
  expect(lease.owner()?.epoch).toBe(2);
  expect(lease.isHeldBy({ workerId: lease.owner()?.workerId ?? '', epoch: 1 })).toBe(false);
});

it('stays what it is by the latest question when answers come late and in another order', async () => {
  await vi.advanceTimersByTimeAsync(4_000);
  const [first, second] = [take('lease.renew'), take('lease.renew')];
  first.answer([]);
  second.answer([]);
  await vi.advanceTimersByTimeAsync(0);
  await answer('lease.forget_long_gone', []);
  await answer('lease.forget_long_gone', []);
  const [older, newer] = [take('lease.register'), take('lease.register')];
  newer.answer([{ epoch: 3 }]);
  await vi.advanceTimersByTimeAsync(0);
  older.answer([{ epoch: 2 }]);
  await vi.advanceTimersByTimeAsync(0);
  expect(lease.owner()?.epoch).toBe(3);
});

it('is nobody’s from its release on, even if a renewal was under way', async () => {
  await vi.advanceTimersByTimeAsync(2_000);
  const owner = lease.owner();
  const releasing = lease.release();
  expect(lease.owner()).toBeNull();
  await answer('lease.release', []);
  await releasing;
  await answer('lease.renew', []);
  expect(owner && lease.isHeldBy(owner)).toBe(false);
  // Whoever has let go of it does not take it again.
  expect(asked).toEqual([]);
});

async function loseAndRegister(epoch: number): Promise<void> {
  await answer('lease.renew', []);
  await answer('lease.forget_long_gone', []);
  await answer('lease.register', [{ epoch }]);
}

async function answer(name: string, rows: unknown[]): Promise<void> {
  take(name).answer(rows);
  await vi.advanceTimersByTimeAsync(0);
}

function take(name: string): { answer: Answer } {
  const index = asked.findIndex((question) => question.name === name);
  const [question] = index < 0 ? [] : asked.splice(index, 1);
  return question ?? expect.unreachable(`Nobody asks ${name}`);
}
