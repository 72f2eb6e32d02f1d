import type { Reader } from '../../platform/db.ts';
import { isUuid } from '../../shared/ids.ts';
import { type Money, money } from '../../shared/money.ts';
import { accepted, type Result, refused } from '../../shared/refusal.ts';
import {
  type ErrorCode,
  findOrder,
  findOrderOfBasket,
  type OrderLineRow,
  type OrderRow,
  type OrderState,
  readOrderLines,
} from './orders.sql.ts';

export type { ErrorCode, OrderState } from './orders.sql.ts';

type OrderProduct = {
  id: string;
  name: string;
  description: string;
  quantity: number;
  unit_price: Money;
  total_price: Money;
};

/** An order as a shopper who has bought it sees it. */
export type Order = {
  id: string;
  email: string;
  created_at: string;
  total_price: Money;
  order_products: OrderProduct[];
};

export type OrderError = { code: ErrorCode; message: string };

/** How far an order has come: `order` once it is completed, `error` once it has failed or was cancelled. */
export type OrderStatus = { id: string; status: OrderState; order: Order | null; error: OrderError | null };

/** Where a client asks after the order with that id. */
export function orderPath(id: string): string {
  return `/api/v2/orders/${id}`;
}

/** The order with that id, for whoever holds the token of the basket it came from; not found for anybody else. */
export async function getOrderOfBasket(reader: Reader, id: string, token: string | null): Promise<Result<OrderStatus>> {
  const row = token !== null && isUuid(id) ? await findOrderOfBasket(reader, id, token) : undefined;
  if (!row) return refused('not_found', `Couldn't find Order with 'id'="${id.slice(0, 100)}"`);
  return accepted(await statusOf(reader, row));
}

/** The order with that id, for the shop's own use. Throws when there is none. */
export async function getOrder(reader: Reader, id: string): Promise<OrderStatus> {
  const row = await findOrder(reader, id);
  if (!row) throw new Error(`Order ${id} does not exist`);
  return statusOf(reader, row);
}

async function statusOf(reader: Reader, row: OrderRow): Promise<OrderStatus> {
  const isSold = row.state === 'completed' || row.state === 'refunded';
  return {
    id: row.id,
    status: row.state,
    order: isSold ? toOrder(row, await readOrderLines(reader, row.id)) : null,
    error: row.error_code === null ? null : { code: row.error_code, message: row.error_message ?? '' },
  };
}

/** A contact that was erased on request leaves an empty e-mail address. */
function toOrder(row: OrderRow, lines: readonly OrderLineRow[]): Order {
  return {
    id: row.id,
    email: row.email ?? '',
    created_at: row.created_at.toISOString(),
    total_price: money(row.total, row.currency),
    order_products: lines.map((line) => toOrderProduct(line, row.currency)),
  };
}

function toOrderProduct(line: OrderLineRow, currency: string): OrderProduct {
  return {
    id: line.product_id,
    name: line.name,
    description: line.description,
    quantity: line.quantity,
    unit_price: money(line.unit_price, currency),
    total_price: money(line.unit_price * line.quantity, currency),
  };
}
