import { Coalescer, type CoalescerLimits, type Departure } from '../../platform/coalescer.ts';
import type { Reader } from '../../platform/db.ts';
import { isUuid } from '../../shared/ids.ts';
import { type Money, money } from '../../shared/money.ts';
import { accepted, type Result, refused } from '../../shared/refusal.ts';
import { type ErrorCode, type OrderLineRow, type OrderRow, type OrderState, readOrders } from './orders.sql.ts';

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

/** Where an order stands in its basket's stream of events: none beyond `offset` has gone into its status. */
export type OrderPosition = Readonly<{ orderId: string; basketId: string; offset: number }>;

/** An order and what opens it. */
export type FoundOrder = Readonly<{ status: OrderStatus; position: OrderPosition; basketToken: string }>;

/** Where a client asks after the order with that id. */
export function orderPath(id: string): string {
  return `/api/v2/orders/${id}`;
}

/** Whether it is decided how the checkout ends. */
export function hasEnded({ order, error }: OrderStatus): boolean {
  return order !== null || error !== null;
}

/** The order with that id, for whoever holds the token of the basket it came from; not found for anybody else. */
export async function getOrderOfBasket(
  reader: Reader,
  id: string,
  token: string | null,
  departure?: Departure,
): Promise<Result<FoundOrder>> {
  const found = token !== null && isUuid(id) ? await lineOf(reader).submit(id.toLowerCase(), departure) : null;
  return found !== null && found.basketToken === token ? accepted(found) : orderNotFound(id);
}

/** The answer to who asks for an order that is not there, or not theirs. */
export function orderNotFound(id: string): ReturnType<typeof refused> {
  return refused('not_found', `Couldn't find Order with 'id'="${id.slice(0, 100)}"`);
}

/** The order with that id, for the shop's own use. Throws when there is none. */
export async function getOrder(reader: Reader, id: string): Promise<OrderStatus> {
  const found = await lineOf(reader).submit(id);
  if (!found) throw new Error(`Order ${id} does not exist`);
  return found.status;
}

type OrderLine = Coalescer<string, FoundOrder | null>;

const readLimits: CoalescerLimits = { waiting: 10_000, waitingPerKey: 0, batch: 500, inFlight: 2, waitMs: 5_000 };

/** All who read orders through the same reader share batches. */
const lines = new WeakMap<Reader, OrderLine>();

function lineOf(reader: Reader): OrderLine {
  const line = lines.get(reader) ?? openLine(reader);
  lines.set(reader, line);
  return line;
}

function openLine(reader: Reader): OrderLine {
  return new Coalescer({
    name: 'order reads',
    run: (ids) => findOrders(reader, ids),
    keyOf: () => null,
    // Ids are all that is sent, and known to be some: no member can make a batch fail.
    isMemberFault: () => false,
    onSplit: () => undefined,
    limits: readLimits,
  });
}

/** Those who ask for the same order at the same time share an answer. */
async function findOrders(reader: Reader, ids: readonly string[]): Promise<(FoundOrder | null)[]> {
  const rows = await readOrders(reader, [...new Set(ids)]);
  const found = new Map(rows.map((row) => [row.id, toFoundOrder(row)]));
  return ids.map((id) => found.get(id) ?? null);
}

function toFoundOrder(row: OrderRow): FoundOrder {
  const position = { orderId: row.id, basketId: row.basket_id, offset: row.last_event_offset };
  return { status: statusOf(row), position, basketToken: row.basket_token };
}

function statusOf(row: OrderRow): OrderStatus {
  return {
    id: row.id,
    status: row.state,
    order: row.lines ? toOrder(row, row.lines) : null,
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
