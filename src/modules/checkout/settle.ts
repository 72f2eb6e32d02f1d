import type { Tx } from '../../platform/db.ts';
import { endCheckouts, type LockedBasket, lockBasketsOfOrders, putBackLines } from '../basket/basket.service.ts';
import { lockStock, returnStock } from '../inventory/inventory.service.ts';
import { type OutcomeEvent, recordEvents } from '../notifications/notifications.service.ts';
import type { ErrorCode } from '../orders/orders.service.ts';
import type { Owner } from './lease.sql.ts';
import type { PaymentOutcome } from './pay.ts';
import {
  deferAttempts,
  deferCompletion,
  deferFailure,
  type EndedAttempt,
  type Failure,
  lockOrders,
  readHeldLines,
  type StateRow,
} from './settle.sql.ts';
import type { Work } from './work.ts';

/** An order whose payment has ended, and who says so. */
export type Settlement = Readonly<{ owner: Owner; work: Work; outcome: PaymentOutcome }>;

/**
 * Ends orders, in the commit of `tx`, as their payments ended: sold, or stock and lines given back. Answers each with the
 * event that tells of it, or null where the owner does not own the order any more and so nothing was changed. No two
 * may be of one basket.
 */
export async function settleOrders(tx: Tx, settlements: readonly Settlement[]): Promise<(OutcomeEvent | null)[]> {
  const baskets = await lockBasketsOfOrders(
    tx,
    settlements.map(({ work }) => work.basketId),
  );
  const states = await lockOrders(
    tx,
    settlements.map(({ work }) => work.orderId),
  );
  const stateOf = new Map(states.map((state) => [state.order_id, state]));
  const valid = settlements.filter((settlement) => mayEnd(stateOf.get(settlement.work.orderId), settlement));
  if (valid.length === 0) return settlements.map(() => null);
  await giveBack(
    tx,
    valid.filter(({ outcome }) => !outcome.captured),
  );
  const events = recordEvents(tx, eventsOf(valid, baskets));
  endCheckouts(tx, events);
  writeEnds(tx, valid);
  const eventOf = new Map(events.map((event) => [event.orderId, event]));
  return settlements.map(({ work }) => eventOf.get(work.orderId) ?? null);
}

/** The order is open and still the owner's. It may have been retried in between, and come back to the same owner. */
function mayEnd(state: StateRow | undefined, { owner, work }: Settlement): boolean {
  const isOpen = state?.state === 'pending' || state?.state === 'authorized' || state?.state === 'captured';
  const isOwned = state?.worker_id === owner.workerId && state.worker_epoch === owner.epoch;
  return isOpen && isOwned && state.attempt === work.attempt;
}

function eventsOf(settlements: readonly Settlement[], baskets: readonly LockedBasket[]): Omit<OutcomeEvent, 'id'>[] {
  const offsetOf = new Map(baskets.map((basket) => [basket.id, basket.eventOffset]));
  return settlements.map(({ work, outcome }) => {
    const offset = offsetOf.get(work.basketId);
    if (offset === undefined) throw new Error(`Basket ${work.basketId} is named by an order but does not exist`);
    return {
      basketId: work.basketId,
      offset: offset + 1,
      orderId: work.orderId,
      kind: endOf(outcome),
    };
  });
}

function writeEnds(tx: Tx, settlements: readonly Settlement[]): void {
  deferCompletion(
    tx,
    settlements.flatMap(({ work, outcome }) => (outcome.captured ? [work.orderId] : [])),
  );
  deferFailure(tx, settlements.flatMap(failureOf));
  deferAttempts(tx, settlements.map(attemptOf));
}

function failureOf({ work, outcome }: Settlement): Failure[] {
  if (outcome.captured) return [];
  const { code, message } = outcome;
  return [{ orderId: work.orderId, state: stateAfter(code), code, message }];
}

function endOf(outcome: PaymentOutcome): 'completed' | Failure['state'] {
  return outcome.captured ? 'completed' : stateAfter(outcome.code);
}

function stateAfter(code: ErrorCode): Failure['state'] {
  return code === 'cancelled' ? 'cancelled' : 'failed';
}

function attemptOf({ work, outcome }: Settlement): EndedAttempt {
  const { orderId, attempt, total: amount } = work;
  return outcome.captured
    ? { orderId, attempt, state: 'captured', amount, reference: outcome.reference }
    : { orderId, attempt, state: outcome.attempt, amount, reference: null };
}

async function giveBack(tx: Tx, failed: readonly Settlement[]): Promise<void> {
  if (failed.length === 0) return;
  const basketOf = new Map(failed.map(({ work }) => [work.orderId, work.basketId]));
  const held = await readHeldLines(tx, [...basketOf.keys()]);
  const lines = held.map((line) => ({
    basketId: basketOf.get(line.order_id) ?? '',
    productId: line.product_id,
    quantity: line.quantity,
    position: line.basket_position,
  }));
  await lockStock(tx, [...new Set(lines.map((line) => line.productId))]);
  returnStock(tx, lines);
  putBackLines(tx, lines);
}
