import { BatchesAroundHeldRows } from '../../platform/batches-around-held-rows.ts';
import type { Departure } from '../../platform/coalescer.ts';
import type { Database } from '../../platform/db.ts';
import type { Result } from '../../shared/refusal.ts';
import type { AcceptedOrder, PlannedOrder } from './accept.ts';
import { findHeldRows, findNamed, lockHeldRow } from './held-rows.ts';

type Answer = Result<AcceptedOrder>;

/** Accepts checkouts in one transaction on `database`, and answers each. */
export type Accept = (database: Database, planned: readonly PlannedOrder[]) => Promise<readonly Answer[]>;

export type BatchedReservationOptions = Readonly<{
  /** For those set aside: waits for a lock as long as any transaction. */
  database: Database;
  /** For batches: gives up on a lock soon, since a whole batch waits. */
  batchDatabase: Database;
  accept: Accept;
  onSplit: (error: unknown, size: number) => void;
}>;

/** Accepts checkouts in batches that form by themselves, around baskets and products that somebody holds for long. */
export class BatchedReservation {
  readonly #batches: BatchesAroundHeldRows<PlannedOrder, Answer>;

  constructor({ accept, ...options }: BatchedReservationOptions) {
    this.#batches = new BatchesAroundHeldRows({
      name: 'checkouts',
      ...options,
      serve: accept,
      keyOf: (planned) => planned.token,
      findHeld: findHeldRows,
      findNamed,
      lockRow: lockHeldRow,
    });
  }

  submit(planned: PlannedOrder, departure?: Departure): Promise<Answer> {
    return this.#batches.submit(planned, departure);
  }
}
