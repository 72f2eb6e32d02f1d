import { type Reader, sql } from '../../platform/db.ts';

export type OrderState = 'pending' | 'authorized' | 'captured' | 'completed' | 'failed' | 'cancelled' | 'refunded';
export type ErrorCode = 'payment_required' | 'hold_expired' | 'cancelled' | 'internal';

export type OrderRow = {
  id: string;
  currency: string;
  total: number;
  created_at: Date;
  email: string | null;
  state: OrderState;
  error_code: ErrorCode | null;
  error_message: string | null;
};

export type OrderLineRow = {
  order_id: string;
  product_id: string;
  name: string;
  description: string;
  quantity: number;
  unit_price: number;
};

const orderColumns = `o.id, o.currency, o.total, o.created_at, c.email, s.state, s.error_code, s.error_message
     FROM orders o
     JOIN order_states s ON s.order_id = o.id
     JOIN order_contacts c ON c.order_id = o.id`;

const selectOrder = sql('orders.order', `SELECT ${orderColumns} WHERE o.id = $1`);

const selectOrderOfBasket = sql(
  'orders.order_of_basket',
  `SELECT ${orderColumns} JOIN baskets b ON b.id = o.basket_id WHERE o.id = $1 AND b.token = $2`,
);

const selectLines = sql(
  'orders.lines',
  `SELECT order_id, product_id, name, description, quantity, unit_price
     FROM order_lines WHERE order_id = $1 ORDER BY position`,
);

/** The order with that id. */
export async function findOrder(reader: Reader, id: string): Promise<OrderRow | undefined> {
  const [row] = await reader.query<OrderRow>(selectOrder, [id]);
  return row;
}

/** The order with that id, if the basket that `token` opens is the one it came from. */
export async function findOrderOfBasket(reader: Reader, id: string, token: string): Promise<OrderRow | undefined> {
  const [row] = await reader.query<OrderRow>(selectOrderOfBasket, [id, token]);
  return row;
}

/** The lines of an order as they were sold, in the order of its basket. */
export function readOrderLines(reader: Reader, id: string): Promise<OrderLineRow[]> {
  return reader.query(selectLines, [id]);
}
