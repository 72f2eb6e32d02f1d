import type { Reader } from '../../platform/db.ts';
import type { Owner } from './lease.sql.ts';
import { findWork } from './settle.sql.ts';

/** An order whose payment is to be brought to an end. `total` in minor units of `currency`. */
export type Work = Readonly<{
  orderId: string;
  basketId: string;
  attempt: number;
  paymentToken: string;
  total: number;
  currency: string;
  /** By the database's clock, when this was read. */
  holdIsOver: boolean;
  isToBeCancelled: boolean;
  /** The latest call to the gateway, on record from an earlier try, had no answer. */
  isUnanswered: boolean;
}>;

/** What is to be done for an order; null when it has ended, or is not `owner`'s. Throws when it cannot be paid at all. */
export async function readWork(reader: Reader, orderId: string, owner: Owner): Promise<Work | null> {
  const row = await findWork(reader, orderId, owner);
  if (!row) return null;
  if (row.payment_token === null) throw new Error(`Order ${orderId} is open but has no payment token`);
  return {
    orderId: row.order_id,
    basketId: row.basket_id,
    attempt: row.attempt,
    paymentToken: row.payment_token,
    total: row.total,
    currency: row.currency,
    holdIsOver: row.hold_is_over,
    isToBeCancelled: row.to_be_cancelled,
    isUnanswered: row.is_unanswered,
  };
}
