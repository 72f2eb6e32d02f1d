import { type Departure, LineFull } from '../../platform/coalescer.ts';
import type { Database, Tx } from '../../platform/db.ts';
import { repeatWhileUnknown } from '../../platform/repeat-unknown.ts';
import type { Result } from '../../shared/refusal.ts';
import { returnStock, takeStock, takeStockIfCovered, type Units } from '../inventory/inventory.service.ts';
import {
  type Acceptance,
  type AcceptedOrder,
  acceptOrders,
  alreadyProcessing,
  type PlannedOrder,
  type TakeStock,
} from './accept.ts';
import { allocate, type CheckoutRequest, type Decision, mayBeSold, type WantedLine } from './allocation.ts';
import { type Accept, BatchedReservation } from './batched-reservation.ts';

/** How checkouts become orders: one interface, whatever the strategy. */
export type Reserve = (planned: PlannedOrder, departure?: Departure) => Promise<Result<AcceptedOrder>>;

export type ReservationStrategy = 'batched' | 'atomic' | 'pessimistic';

export type ReservationOptions = Readonly<{
  database: Database;
  /** For batches: gives up on a lock soon. */
  batchDatabase: Database;
  acceptance: Acceptance;
  /** Told of a batch that one member's data has made fail: a gap in validation. */
  onSplit: (error: unknown, size: number) => void;
}>;

/** The strategies by name. The last two are the history of the first, and what it is measured against. */
export const reservationStrategies: Readonly<Record<ReservationStrategy, (options: ReservationOptions) => Reserve>> = {
  batched: reserveInBatches,
  atomic: (options) => oneByOne(options, updateWhereCovered),
  pessimistic: (options) => oneByOne(options, decideThenTake),
};

/** For how long the outcome of a lost COMMIT is asked for. */
const findOutForMs = 5_000;

/** One transaction takes all checkouts that have come while the one before it was under way. */
function reserveInBatches({ database, batchDatabase, acceptance, onSplit }: ReservationOptions): Reserve {
  const accept = acceptor(acceptance, decideThenTake);
  const reservation = new BatchedReservation({ database, batchDatabase, accept, onSplit });
  return (planned, departure) => reservation.submit(planned, departure).catch(refuseIfTooMany);
}

/** Those before it in its basket's line are checkouts, too. */
function refuseIfTooMany(error: unknown): Result<AcceptedOrder> {
  if (error instanceof LineFull && error.ofKey) return alreadyProcessing;
  throw error;
}

/** One transaction per checkout, each waiting for the locks of those before it. */
function oneByOne({ database, acceptance }: ReservationOptions, takeFor: TakeStock): Reserve {
  const accept = acceptor(acceptance, takeFor);
  return async (planned) => {
    const [answer] = await accept(database, [planned]);
    if (!answer) throw new Error('One checkout was not given one answer');
    return answer;
  };
}

/** Accepts in one transaction; where the answer to its COMMIT is lost, the same is done again under the same ids. */
function acceptor(acceptance: Acceptance, takeFor: TakeStock): Accept {
  return (database, planned) =>
    repeatWhileUnknown(
      (isRepeat) => database.transaction((tx) => acceptOrders(tx, acceptance, takeFor, planned, isRepeat)),
      findOutForMs,
    );
}

/** The process decides on what the locked rows hold. */
async function decideThenTake(
  tx: Tx,
  requests: readonly CheckoutRequest[],
  sellable: ReadonlyMap<string, number>,
): Promise<readonly Decision[]> {
  const decisions = allocate(requests, sellable);
  takeStock(tx, soldIn(requests, decisions));
  return decisions;
}

/** The database decides, line by line, in one conditional update; what was taken in vain is given back. */
async function updateWhereCovered(tx: Tx, requests: readonly CheckoutRequest[]): Promise<readonly Decision[]> {
  const wanted = requests.flatMap((request) => request.lines.filter(mayBeSold));
  const taken = await takeStockIfCovered(tx, wanted);
  const covered = wanted.filter((line) => taken.has(line.productId));
  const decisions = allocate(requests, new Map(covered.map((line) => [line.productId, line.quantity])));
  const sold = new Set(soldIn(requests, decisions).map((line) => line.productId));
  returnStock(
    tx,
    covered.filter((line) => !sold.has(line.productId)),
  );
  return decisions;
}

function soldIn(requests: readonly CheckoutRequest[], decisions: readonly Decision[]): Units[] {
  return requests.flatMap((request, index) => {
    const decision = decisions[index];
    if (decision?.verdict !== 'sold') return [];
    const sold = new Set(decision.productIds);
    return request.lines.filter((line: WantedLine) => sold.has(line.productId));
  });
}
