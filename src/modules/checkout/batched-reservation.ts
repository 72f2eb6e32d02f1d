import { BatchesAroundHeldRows } from '../../platform/batches-around-held-rows.ts';
import type { Database, Tx } from '../../platform/db.ts';
import type { Result } from '../../shared/refusal.ts';
import type { AcceptedOrder, PlannedOrder } from './accept.ts';
import { findHeldRows, findNamed, lockHeldRow } from './held-rows.ts';

type Answer = Result<AcceptedOrder>;

export type BatchedReservationOptions = Readonly<{
  /** For those set aside: waits for a lock as long as any transaction. */
  database: Database;
  /** For batches: gives up on a lock soon, since a whole batch waits. */
  batchDatabase: Database;
  accept: (tx: Tx, planned: readonly PlannedOrder[]) => Promise<readonly Answer[]>;
  onSplit: (error: unknown, size: number) => void;
}>;

/** Accepts checkouts in batches that form by themselves, around baskets and products that somebody holds for long. */
export class BatchedReservation {
  readonly #batches: BatchesAroundHeldRows<PlannedOrder, Answer>;

  constructor({ accept, ...options }: BatchedReservationOptions) {
    this.#batches = new BatchesAroundHeldRows({
      ...options,
      serve: (database, planned) => database.transaction((tx) => accept(tx, planned)),
      keyOf: (planned) => planned.token,
      findHeld: findHeldRows,
      findNamed,
      lockRow: lockHeldRow,
    });
  }

  submit(planned: PlannedOrder): Promise<Answer> {
    return this.#batches.submit(planned);
  }
}
