import { type Reader, sql } from '../../platform/db.ts';
import type { Owner } from './lease.sql.ts';

/** An order that was taken over so often from workers that crashed is worked on alone: it may be what crashes them. */
const suspectTakeovers = 3;
/** One that was taken over so often is parked. */
const mostTakeovers = 6;

/** Nobody owns the order, or its owner has lost its lease. */
const isFree = `NOT EXISTS (SELECT FROM workers w
                         WHERE w.id = open.worker_id AND w.epoch = open.worker_epoch
                           AND w.leased_until > clock_timestamp())`;

/**
 * Orders that are free; what another claimer has locked is left to it. A parked one only at the end of its hold, and then
 * once a minute, however that goes; one that is worn out not before it is parked. Materialized, for a subquery that locks
 * must run once, whatever the plan. A worker that gave its lease up has no row any more: that was no crash.
 */
const claimOrders = sql(
  'claim.orders',
  `WITH free AS MATERIALIZED (
     SELECT open.order_id,
            EXISTS (SELECT FROM workers w WHERE w.id = open.worker_id AND w.epoch = open.worker_epoch) AS was_crashed
       FROM order_states open
      WHERE open.ended_at IS NULL
        AND (open.parked_at IS NULL
             OR (open.hold_until < clock_timestamp() AND open.parked_at < clock_timestamp() - interval '1 minute'))
        AND (open.takeovers >= $5) = $4
        AND (open.takeovers < $6 OR open.parked_at IS NOT NULL)
        AND ${isFree}
      ORDER BY open.hold_until
      LIMIT $3
        FOR NO KEY UPDATE SKIP LOCKED)
   UPDATE order_states s
      SET worker_id = $1, worker_epoch = $2, takeovers = takeovers + free.was_crashed::integer,
          parked_at = CASE WHEN parked_at IS NOT NULL THEN clock_timestamp() END
     FROM free WHERE s.order_id = free.order_id
   RETURNING s.order_id`,
);

const selectOwned = sql(
  'claim.owned',
  `SELECT order_id FROM order_states WHERE ended_at IS NULL AND worker_id = $1 AND worker_epoch = $2`,
);

/** Like the claim, it waits for nobody: a worker that goes on without its lease may hold some of them in another order. */
const parkWornOut = sql(
  'claim.park_worn_out',
  `WITH worn_out AS MATERIALIZED (
     SELECT open.order_id FROM order_states open
      WHERE open.ended_at IS NULL AND open.parked_at IS NULL AND open.takeovers >= $1 AND ${isFree}
        FOR NO KEY UPDATE SKIP LOCKED)
   UPDATE order_states s
      SET parked_at = clock_timestamp(), worker_id = NULL, worker_epoch = NULL,
          parked_reason = 'Taken over ' || s.takeovers || ' times from workers that had crashed'
     FROM worn_out WHERE s.order_id = worn_out.order_id
   RETURNING s.order_id`,
);

const park = sql(
  'claim.park',
  `UPDATE order_states SET parked_at = clock_timestamp(), parked_reason = $4, worker_id = NULL, worker_epoch = NULL
    WHERE order_id = $1 AND worker_id = $2 AND worker_epoch = $3 AND ended_at IS NULL`,
);

const markUnanswered = sql(
  'claim.mark_unanswered',
  `UPDATE order_states SET unanswered_since = clock_timestamp()
    WHERE order_id = $1 AND worker_id = $2 AND worker_epoch = $3 AND ended_at IS NULL AND unanswered_since IS NULL`,
);

const markAnswered = sql(
  'claim.mark_answered',
  `UPDATE order_states SET unanswered_since = NULL
    WHERE order_id = $1 AND worker_id = $2 AND worker_epoch = $3 AND ended_at IS NULL`,
);

/** Makes `owner` the owner of up to `limit` free orders, those first whose hold ends first, and returns their ids. */
export function claimFreeOrders(db: Reader, owner: Owner, limit: number): Promise<string[]> {
  return claim(db, owner, { limit, areSuspect: false });
}

/** Makes `owner` the owner of one order that may have crashed its former owners. */
export function claimSuspect(db: Reader, owner: Owner): Promise<string[]> {
  return claim(db, owner, { limit: 1, areSuspect: true });
}

async function claim(db: Reader, owner: Owner, which: { limit: number; areSuspect: boolean }): Promise<string[]> {
  const rows = await db.query<{ order_id: string }>(claimOrders, [
    owner.workerId,
    owner.epoch,
    which.limit,
    which.areSuspect,
    suspectTakeovers,
    mostTakeovers,
  ]);
  return rows.map((row) => row.order_id);
}

/** The open orders that `owner` owns. */
export async function readOwnedOrders(db: Reader, owner: Owner): Promise<string[]> {
  const rows = await db.query<{ order_id: string }>(selectOwned, [owner.workerId, owner.epoch]);
  return rows.map((row) => row.order_id);
}

/** Parks free orders that one worker after the other has crashed on, and returns their ids. */
export async function parkWornOutOrders(db: Reader): Promise<string[]> {
  const rows = await db.query<{ order_id: string }>(parkWornOut, [mostTakeovers]);
  return rows.map((row) => row.order_id);
}

/** Leaves an order of `owner` to an operator: nobody works on it until its hold is over, or it is retried. */
export async function parkOrder(db: Reader, orderId: string, owner: Owner, reason: string): Promise<void> {
  await db.query(park, [orderId, owner.workerId, owner.epoch, reason]);
}

/** Puts on record that the latest call to the gateway for an order of `owner` has had no answer, since when. */
export async function recordUnanswered(db: Reader, orderId: string, owner: Owner): Promise<void> {
  await db.query(markUnanswered, [orderId, owner.workerId, owner.epoch]);
}

/** Puts on record that the gateway has answered for an order of `owner` after all. */
export async function recordAnswered(db: Reader, orderId: string, owner: Owner): Promise<void> {
  await db.query(markAnswered, [orderId, owner.workerId, owner.epoch]);
}
