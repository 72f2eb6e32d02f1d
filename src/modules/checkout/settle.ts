import type { Database, Tx } from '../../platform/db.ts';
import { endCheckout, type LockedBasket, lockBasketOfOrder, putBackLines } from '../basket/basket.service.ts';
import { lockStock, returnStock } from '../inventory/inventory.service.ts';
import { type OutcomeEvent, recordEvent } from '../notifications/notifications.service.ts';
import type { Owner } from './lease.sql.ts';
import type { PaymentOutcome, Work } from './pay.ts';
import { deferCompletion, deferFailure, lockOrder, readHeldLines, type StateRow } from './settle.sql.ts';

/**
 * Ends an order in one commit as its payment ended: sold, or stock and lines given back. Returns the event that
 * tells of it, or null when `owner` does not own the order any more and so nothing was changed.
 */
export function settleOrder(
  database: Database,
  owner: Owner,
  work: Work,
  outcome: PaymentOutcome,
): Promise<OutcomeEvent | null> {
  return database.transaction(async (tx) => {
    const basket = await lockBasketOfOrder(tx, work.basketId);
    const state = await lockOrder(tx, work.orderId);
    if (!state || !isOpenAndOwnedBy(state, owner)) return null;
    const offset = basket.eventOffset + 1;
    endCheckout(tx, basket.id, offset);
    const about = { basketId: basket.id, offset, orderId: work.orderId };
    if (outcome.captured) {
      deferCompletion(tx, work.orderId, { attempt: work.attempt, amount: work.total, reference: outcome.reference });
      return recordEvent(tx, { ...about, kind: 'completed' });
    }
    await giveBack(tx, basket, work.orderId);
    deferFailure(tx, work.orderId, {
      attempt: work.attempt,
      amount: work.total,
      code: 'payment_required',
      message: outcome.message,
    });
    return recordEvent(tx, { ...about, kind: 'failed' });
  });
}

function isOpenAndOwnedBy(state: StateRow, owner: Owner): boolean {
  const isOpen = state.state === 'pending' || state.state === 'authorized' || state.state === 'captured';
  return isOpen && state.worker_id === owner.workerId && state.worker_epoch === owner.epoch;
}

async function giveBack(tx: Tx, basket: LockedBasket, orderId: string): Promise<void> {
  const held = await readHeldLines(tx, orderId);
  const lines = held.map((line) => ({
    productId: line.product_id,
    quantity: line.quantity,
    position: line.basket_position,
  }));
  await lockStock(
    tx,
    lines.map((line) => line.productId),
  );
  returnStock(tx, lines);
  putBackLines(tx, basket.id, lines);
}
