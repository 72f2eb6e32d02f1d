import { type Reader, sql } from '../../platform/db.ts';

/** A product and the units of it, all of one moment. `sold` and `held` are summed from the lines of orders. */
export type DropRow = {
  product_id: string;
  name: string;
  price_cents: number;
  units: number;
  sold: number;
  held: number;
  sellable: number;
};

/** Ids begin with the time of their making: no order that is older than the product can name it. */
const selectDrop = sql(
  'demo.drop',
  `SELECT p.id AS product_id, p.name, p.price_cents, s.sellable, orders.sold, orders.held,
          (SELECT coalesce(sum(delta), 0)::integer FROM stock_movements WHERE product_id = p.id) AS units
     FROM products p
     JOIN stock s ON s.product_id = p.id
    CROSS JOIN LATERAL (
      SELECT coalesce(sum(l.quantity) FILTER (WHERE o.state IN ('completed', 'refunded')), 0)::integer AS sold,
             coalesce(sum(l.quantity) FILTER (WHERE o.ended_at IS NULL), 0)::integer AS held
        FROM order_lines l JOIN order_states o USING (order_id)
       WHERE l.order_id > p.id AND l.product_id = p.id) orders
    WHERE p.sku = $1`,
);

/** The drop whose product has `sku`. */
export async function findDrop(reader: Reader, sku: string): Promise<DropRow | undefined> {
  const [row] = await reader.query<DropRow>(selectDrop, [sku]);
  return row;
}
