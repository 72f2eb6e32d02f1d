import { Coalescer } from '../../platform/coalescer.ts';
import { type Database, isDataFault, isLockTimeout, type Tx } from '../../platform/db.ts';
import type { Result } from '../../shared/refusal.ts';
import type { AcceptedOrder, PlannedOrder } from './accept.ts';
import { findHeldRows, findNamed } from './held-rows.ts';

type Answer = Result<AcceptedOrder>;

export type BatchedReservationOptions = Readonly<{
  /** For those set aside: waits for a lock as long as any transaction. */
  database: Database;
  /** For batches: gives up on a lock soon, since a whole batch waits. */
  batchDatabase: Database;
  accept: (tx: Tx, planned: readonly PlannedOrder[]) => Promise<readonly Answer[]>;
  onSplit: (error: unknown, size: number) => void;
}>;

const batchLimits = { waiting: 10_000, waitingPerKey: 64, batch: 500, inFlight: 2, waitMs: 5_000 };
const asideLimits = { waiting: 2_000, waitingPerKey: 64, batch: 500, inFlight: 1, waitMs: 5_000 };
/** How long those set aside try for a row that stays held. */
const patienceMs = 5_000;
/** Batches that run into one held row after another are given up. */
const mostDetours = 3;

/**
 * Accepts checkouts in batches that form by themselves. A row that somebody else holds for long costs a batch one short
 * wait: the members naming it are then set aside into a bounded line of that row's own, with later arrivals for it behind
 * them, and everybody else goes on.
 */
export class BatchedReservation {
  readonly #options: BatchedReservationOptions;
  readonly #batches: Coalescer<PlannedOrder, Answer>;
  /** The lines of those set aside, by the row that they wait for. */
  readonly #aside = new Map<string, Coalescer<PlannedOrder, Answer>>();

  constructor(options: BatchedReservationOptions) {
    this.#options = options;
    this.#batches = this.#line(batchLimits, (planned) => this.#acceptAround(planned, 0));
  }

  submit(planned: PlannedOrder): Promise<Answer> {
    return this.#batches.submit(planned);
  }

  #line(
    limits: typeof batchLimits,
    run: (planned: readonly PlannedOrder[]) => Promise<readonly (Answer | Promise<Answer>)[]>,
  ): Coalescer<PlannedOrder, Answer> {
    const { onSplit } = this.#options;
    return new Coalescer({ run, keyOf: (planned) => planned.token, isMemberFault: isDataFault, onSplit, limits });
  }

  /** Answers the members that can be served now; those that cannot get a promise of the line that they wait in. */
  async #acceptAround(planned: readonly PlannedOrder[], detours: number): Promise<(Answer | Promise<Answer>)[]> {
    const { batchDatabase, accept } = this.#options;
    const known = this.#aside.size === 0 ? new Map() : await findNamed(batchDatabase, planned, this.#aside);
    const others = planned.filter((order) => !known.has(order));
    if (known.size > 0) return this.#join(planned, known, others, detours);
    try {
      return [...(await batchDatabase.transaction((tx) => accept(tx, planned)))];
    } catch (error) {
      if (!isLockTimeout(error) || detours >= mostDetours) throw error;
      const held = await findHeldRows(batchDatabase, planned);
      const free = planned.filter((order) => !held.has(order));
      return this.#join(planned, held, free, detours + 1);
    }
  }

  async #join(
    planned: readonly PlannedOrder[],
    held: ReadonlyMap<PlannedOrder, string>,
    free: readonly PlannedOrder[],
    detours: number,
  ): Promise<(Answer | Promise<Answer>)[]> {
    // First: should it fail, it fails for the whole batch, and nobody of it may be accepted later after all.
    const served = free.length === 0 ? [] : await this.#acceptAround(free, detours);
    const waiting = new Map([...held].map(([order, row]) => [order, this.#setAside(order, row)]));
    const answers = new Map(free.map((order, index) => [order, served[index]]));
    return planned.map((order) => (waiting.get(order) ?? answers.get(order)) as Answer | Promise<Answer>);
  }

  #setAside(order: PlannedOrder, row: string): Promise<Answer> {
    const line = this.#aside.get(row) ?? this.#line(asideLimits, (planned) => this.#acceptPatiently(planned));
    this.#aside.set(row, line);
    const answer = line.submit(order).finally(() => this.#forgetIfEmpty(row, line));
    // Handed on later: a refusal in the meantime must not count as one that nobody listens to.
    answer.catch(() => undefined);
    return answer;
  }

  #forgetIfEmpty(row: string, line: Coalescer<PlannedOrder, Answer>): void {
    const { waiting, inFlight } = line.stats();
    if (waiting + inFlight <= 1 && this.#aside.get(row) === line) this.#aside.delete(row);
  }

  async #acceptPatiently(planned: readonly PlannedOrder[]): Promise<readonly Answer[]> {
    const { database, accept } = this.#options;
    const untilMs = performance.now() + patienceMs;
    for (;;) {
      try {
        return await database.transaction((tx) => accept(tx, planned));
      } catch (error) {
        if (!isLockTimeout(error) || performance.now() > untilMs) throw error;
      }
    }
  }
}
