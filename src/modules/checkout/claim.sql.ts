import { type Reader, sql } from '../../platform/db.ts';
import type { Owner } from './lease.sql.ts';

/**
 * Orders that nobody owns, or whose owner has lost its lease; what another claimer has locked is left to it.
 * Materialized, for a subquery that locks must run once, whatever the plan.
 */
const claimOrders = sql(
  'claim.orders',
  `WITH free AS MATERIALIZED (
     SELECT open.order_id FROM order_states open
      WHERE open.ended_at IS NULL AND open.parked_at IS NULL
        AND NOT EXISTS (SELECT FROM workers w
                         WHERE w.id = open.worker_id AND w.epoch = open.worker_epoch
                           AND w.leased_until > clock_timestamp())
      ORDER BY open.hold_until
      LIMIT $3
        FOR NO KEY UPDATE SKIP LOCKED)
   UPDATE order_states s SET worker_id = $1, worker_epoch = $2
     FROM free WHERE s.order_id = free.order_id
   RETURNING s.order_id`,
);

const selectOwned = sql(
  'claim.owned',
  `SELECT order_id FROM order_states
    WHERE ended_at IS NULL AND parked_at IS NULL AND worker_id = $1 AND worker_epoch = $2`,
);

/** Makes `owner` the owner of up to `limit` free orders, the oldest first, and returns their ids. */
export async function claimFreeOrders(db: Reader, owner: Owner, limit: number): Promise<string[]> {
  const rows = await db.query<{ order_id: string }>(claimOrders, [owner.workerId, owner.epoch, limit]);
  return rows.map((row) => row.order_id);
}

/** The open orders that `owner` owns. */
export async function readOwnedOrders(db: Reader, owner: Owner): Promise<string[]> {
  const rows = await db.query<{ order_id: string }>(selectOwned, [owner.workerId, owner.epoch]);
  return rows.map((row) => row.order_id);
}
