import { type Reader, sql } from '../../platform/db.ts';

/** A product by its SKU. `held` counts the units that open orders keep from sale. */
export type StockedRow = { id: string; is_archived: boolean; held: number };

/** Units of one product. */
export type FiguresRow = {
  is_archived: boolean;
  sellable: number;
  held: number;
  received: number;
  adjusted: number;
  returned: number;
};

/** Over the open orders, for which there is an index: the lines of all orders would have to be read one by one. */
const held = `(SELECT coalesce(sum(l.quantity), 0)
                 FROM order_states open JOIN order_lines l ON l.order_id = open.order_id
                WHERE open.ended_at IS NULL AND l.product_id = p.id)`;

const selectStocked = sql(
  'stock.by_sku',
  `SELECT p.id, p.archived_at IS NOT NULL AS is_archived, ${held} AS held FROM products p WHERE p.sku = $1`,
);

/** Of one moment, since it is one statement. */
const selectFigures = sql(
  'stock.figures',
  `SELECT p.archived_at IS NOT NULL AS is_archived, s.sellable, ${held} AS held, m.*
     FROM products p
     JOIN stock s ON s.product_id = p.id
    CROSS JOIN LATERAL (
      SELECT coalesce(sum(delta) FILTER (WHERE kind = 'received'), 0) AS received,
             coalesce(sum(delta) FILTER (WHERE kind = 'adjusted'), 0) AS adjusted,
             coalesce(sum(delta) FILTER (WHERE kind = 'returned'), 0) AS returned
        FROM stock_movements WHERE product_id = p.id) m
    WHERE p.sku = $1`,
);

/** The product that has `sku`, archived or not. */
export async function findStocked(reader: Reader, sku: string): Promise<StockedRow | undefined> {
  const [row] = await reader.query<StockedRow>(selectStocked, [sku]);
  return row;
}

/** All that is known of the stock of the product that has `sku`. */
export async function findFigures(reader: Reader, sku: string): Promise<FiguresRow | undefined> {
  const [row] = await reader.query<FiguresRow>(selectFigures, [sku]);
  return row;
}
