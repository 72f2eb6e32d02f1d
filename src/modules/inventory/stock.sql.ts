import { type Reader, sql } from '../../platform/db.ts';
import { isUuid } from '../../shared/ids.ts';

/** A product as an operator names it. `held` counts the units that open orders keep from sale. */
export type StockedRow = { id: string; sku: string; is_archived: boolean; held: number };

/** Units of one product. */
export type FiguresRow = {
  sku: string;
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

/** By its SKU or else, where no SKU is so, by its id. */
const isNamed = 'p.id = coalesce((SELECT id FROM products WHERE sku = $1), $2::uuid)';

const selectStocked = sql(
  'stock.of_product',
  `SELECT p.id, p.sku, p.archived_at IS NOT NULL AS is_archived, ${held} AS held FROM products p WHERE ${isNamed}`,
);

/** Of one moment, since it is one statement. */
const selectFigures = sql(
  'stock.figures',
  `SELECT p.sku, p.archived_at IS NOT NULL AS is_archived, s.sellable, ${held} AS held, m.*
     FROM products p
     JOIN stock s ON s.product_id = p.id
    CROSS JOIN LATERAL (
      SELECT coalesce(sum(delta) FILTER (WHERE kind = 'received'), 0) AS received,
             coalesce(sum(delta) FILTER (WHERE kind = 'adjusted'), 0) AS adjusted,
             coalesce(sum(delta) FILTER (WHERE kind = 'returned'), 0) AS returned
        FROM stock_movements WHERE product_id = p.id) m
    WHERE ${isNamed}`,
);

/** The product whose SKU or id is `name`, archived or not. */
export async function findStocked(reader: Reader, name: string): Promise<StockedRow | undefined> {
  const [row] = await reader.query<StockedRow>(selectStocked, namesIn(name));
  return row;
}

/** All that is known of the stock of the product whose SKU or id is `name`. */
export async function findFigures(reader: Reader, name: string): Promise<FiguresRow | undefined> {
  const [row] = await reader.query<FiguresRow>(selectFigures, namesIn(name));
  return row;
}

function namesIn(name: string): [string, string | null] {
  return [name, isUuid(name) ? name : null];
}
