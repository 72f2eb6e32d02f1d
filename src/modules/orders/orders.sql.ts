import { type Reader, sql } from '../../platform/db.ts';

export type OrderState = 'pending' | 'authorized' | 'captured' | 'completed' | 'failed' | 'cancelled' | 'refunded';
export type ErrorCode = 'payment_required' | 'hold_expired' | 'cancelled' | 'internal';

export type OrderRow = {
  id: string;
  basket_id: string;
  /** The credential for the basket that it came from. */
  basket_token: string;
  /** Of the basket's stream of events. */
  last_event_offset: number;
  currency: string;
  total: number;
  created_at: Date;
  email: string | null;
  state: OrderState;
  error_code: ErrorCode | null;
  error_message: string | null;
  /** As they were sold, in the order of the basket; null until the order is completed. */
  lines: OrderLineRow[] | null;
};

export type OrderLineRow = {
  product_id: string;
  name: string;
  description: string;
  quantity: number;
  unit_price: number;
};

/** One statement, so that the state, the lines and the end of the stream are of the same moment. */
const selectOrders = sql(
  'orders.order',
  `SELECT o.id, o.basket_id, b.token AS basket_token, b.last_event_offset, o.currency, o.total, o.created_at, c.email,
          s.state, s.error_code, s.error_message,
          CASE WHEN s.state IN ('completed', 'refunded') THEN (
            SELECT json_agg(json_build_object('product_id', l.product_id, 'name', l.name, 'description', l.description,
                                              'quantity', l.quantity, 'unit_price', l.unit_price) ORDER BY l.position)
              FROM order_lines l WHERE l.order_id = o.id)
          END AS lines
     FROM orders o
     JOIN order_states s ON s.order_id = o.id
     JOIN order_contacts c ON c.order_id = o.id
     JOIN baskets b ON b.id = o.basket_id
    WHERE o.id = ANY ($1::uuid[])`,
);

/** The orders with those ids, in no order. */
export function readOrders(reader: Reader, ids: readonly string[]): Promise<OrderRow[]> {
  return reader.query(selectOrders, [ids]);
}
