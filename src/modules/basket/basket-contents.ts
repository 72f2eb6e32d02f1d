import { type Money, money } from '../../shared/money.ts';
import type { StockStatus } from '../catalog/catalog.service.ts';
import type { BasketLineRow } from './basket.sql.ts';

type BasketProduct = {
  id: string;
  name: string;
  description: string;
  quantity: number;
  stock_status: StockStatus;
  total_price: Money;
};

/** A basket as its shopper sees it. */
export type Basket = { products: BasketProduct[]; total_price: Money };

/** What a basket with those lines looks like. */
export function toBasket(rows: readonly BasketLineRow[], currency: string): Basket {
  const products = rows.map((row) => ({
    id: row.product_id,
    name: row.name,
    description: row.description,
    quantity: row.quantity,
    stock_status: row.available ? ('AVAILABLE' as const) : ('OUT_OF_STOCK' as const),
    total_price: money(row.price_cents * row.quantity, currency),
  }));
  const total = products.reduce((sum, product) => sum + product.total_price.cents, 0);
  return { products, total_price: money(total, currency) };
}

/** Each basket of `tokens` by its token, from the lines of all. */
export function toBaskets(
  tokens: readonly string[],
  rows: readonly BasketLineRow[],
  currency: string,
): Map<string, Basket> {
  const linesOf = Map.groupBy(rows, (row) => row.token);
  return new Map(tokens.map((token) => [token, toBasket(linesOf.get(token) ?? [], currency)]));
}
