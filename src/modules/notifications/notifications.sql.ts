import { type Reader, sql, type Tx } from '../../platform/db.ts';

export type EventKind = 'completed' | 'failed' | 'cancelled' | 'refunded';

export type EventRow = { id: string; basket_id: string; stream_offset: number; order_id: string; kind: EventKind };

/** A stream as a subscriber finds it: where it ends, and the outcome of its latest order if that is over. */
export type StreamRow = { basket_id: string; last_event_offset: number } & (
  | EventRow
  | { id: null; stream_offset: null; order_id: null; kind: null }
);

const insertEvent = sql(
  'notifications.insert_event',
  `INSERT INTO events (basket_id, stream_offset, id, order_id, kind) VALUES ($1, $2, $3, $4, $5)`,
);

const selectEventsAfter = sql(
  'notifications.events_after',
  `SELECT e.id, e.basket_id, e.stream_offset, e.order_id, e.kind
     FROM unnest($1::uuid[], $2::bigint[]) AS seen (basket_id, stream_offset)
     JOIN events e ON e.basket_id = seen.basket_id AND e.stream_offset > seen.stream_offset
    ORDER BY e.basket_id, e.stream_offset`,
);

/** An order that was refunded since has two events; the first of them is how its checkout ended. */
const selectStream = sql(
  'notifications.stream',
  `SELECT b.id AS basket_id, b.last_event_offset, e.id, e.stream_offset, e.order_id, e.kind
     FROM baskets b
     LEFT JOIN events e ON e.order_id = b.latest_order_id AND e.kind <> 'refunded' AND b.live_order_id IS NULL
    WHERE b.token = $1`,
);

/** Appends an event to a basket's stream, with COMMIT. The basket must be locked. */
export function deferEvent(tx: Tx, event: EventRow): void {
  tx.defer(insertEvent, [event.basket_id, event.stream_offset, event.id, event.order_id, event.kind]);
}

/** The events of each basket beyond the offset that was seen of it, in the order of each stream. */
export function readEventsAfter(
  reader: Reader,
  basketIds: readonly string[],
  offsets: readonly number[],
): Promise<EventRow[]> {
  return reader.query(selectEventsAfter, [basketIds, offsets]);
}

/** The stream of the basket that `token` opens. */
export async function findStream(reader: Reader, token: string): Promise<StreamRow | undefined> {
  const [row] = await reader.query<StreamRow>(selectStream, [token]);
  return row;
}
