import { type Reader, sql } from '../../platform/db.ts';
import type { EventRow } from './notifications.sql.ts';

/** What has happened to an order, and where its basket's stream ends. */
export type OrderEventsRow = {
  order_id: string;
  basket_id: string;
  /** The credential for the basket. */
  basket_token: string;
  last_event_offset: number;
  /** Whether nothing more can happen to it. */
  is_over: boolean;
  /** By the database's clock, Unix time in seconds. */
  read_at: number;
  events: EventRow[];
};

/** One statement, so that no event is both missing from the list and before the end of the stream. */
const selectOrderEvents = sql(
  'order_events.of_orders',
  `SELECT o.id AS order_id, b.id AS basket_id, b.token AS basket_token, b.last_event_offset,
          s.state IN ('failed', 'cancelled', 'refunded') AS is_over,
          extract(epoch FROM clock_timestamp())::float8 AS read_at,
          (SELECT coalesce(json_agg(json_build_object('id', e.id, 'basket_id', e.basket_id, 'kind', e.kind,
                                                      'stream_offset', e.stream_offset, 'order_id', e.order_id)
                                    ORDER BY e.stream_offset), '[]')
             FROM events e WHERE e.order_id = o.id) AS events
     FROM orders o
     JOIN order_states s ON s.order_id = o.id
     JOIN baskets b ON b.id = o.basket_id
    WHERE o.id = ANY ($1::uuid[])`,
);

/** The events of the orders with those ids, in no order of orders. */
export function readOrderEvents(reader: Reader, orderIds: readonly string[]): Promise<OrderEventsRow[]> {
  return reader.query(selectOrderEvents, [orderIds]);
}
