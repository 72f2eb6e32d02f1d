import { type Reader, sql } from '../../platform/db.ts';
import type { ErrorCode, OrderState } from './orders.sql.ts';

/** An order with all that an operator may have to know of it; never the basket's token, nor the payment token. */
export type OrderPageRow = {
  id: string;
  number: string;
  currency: string;
  items_total: number;
  shipping_total: number;
  tax_total: number;
  discount_total: number;
  total: number;
  created_at: Date;
  email: string | null;
  state: OrderState;
  attempt: number;
  takeovers: number;
  hold_until: Date;
  hold_is_over: boolean;
  parked_at: Date | null;
  parked_reason: string | null;
  unanswered_since: Date | null;
  error_code: ErrorCode | null;
  error_message: string | null;
  ended_at: Date | null;
  is_owned: boolean;
  worker_host: string | null;
  worker_pid: number | null;
  leased_until: Date | null;
  requested_at: Date | null;
  requested_by: string | null;
  restock: boolean | null;
  refused_message: string | null;
  cancellation_ended_at: Date | null;
};

export type PageLineRow = { sku: string; name: string; quantity: number; unit_price: number };
export type AttemptRow = {
  attempt: number;
  state: 'authorized' | 'captured' | 'declined' | 'voided' | 'refunded';
  amount: number;
  reference: string | null;
  created_at: Date;
};
export type PageEventRow = { kind: string; stream_offset: number; created_at: Date };

export type ListedOrder = {
  number: string;
  state: OrderState;
  created_at: Date;
  total: number;
  currency: string;
  parked_reason: string | null;
  unanswered_since: Date | null;
  error_message: string | null;
};

export type OpenOrderCounts = { open: number; unanswered: number; parked: number };

/** Which orders to list; null: of every status. */
export type OrderFilter = Readonly<{
  status: OrderState | null;
  parked: boolean;
  unanswered: boolean;
  limit: number;
}>;

const selectIdOfNumber = sql('order_desk.id_of_number', 'SELECT id FROM orders WHERE number = $1');

const selectPage = sql(
  'order_desk.page',
  `SELECT o.id, o.number, o.currency, o.items_total, o.shipping_total, o.tax_total, o.discount_total, o.total,
          o.created_at, c.email, s.state, s.attempt, s.takeovers, s.hold_until,
          s.hold_until < clock_timestamp() AS hold_is_over, s.parked_at, s.parked_reason, s.unanswered_since,
          s.error_code, s.error_message, s.ended_at, s.worker_id IS NOT NULL AND s.ended_at IS NULL AS is_owned,
          w.host AS worker_host, w.pid AS worker_pid, w.leased_until, x.requested_at, x.requested_by, x.restock,
          x.refused_message, x.ended_at AS cancellation_ended_at
     FROM orders o
     JOIN order_states s ON s.order_id = o.id
     JOIN order_contacts c ON c.order_id = o.id
     LEFT JOIN workers w ON w.id = s.worker_id AND w.epoch = s.worker_epoch AND w.leased_until > clock_timestamp()
     LEFT JOIN cancellations x ON x.order_id = o.id
    WHERE o.id = $1`,
);

const selectLines = sql(
  'order_desk.lines',
  `SELECT p.sku, l.name, l.quantity, l.unit_price FROM order_lines l JOIN products p ON p.id = l.product_id
    WHERE l.order_id = $1 ORDER BY l.position`,
);

const selectAttempts = sql(
  'order_desk.attempts',
  'SELECT attempt, state, amount, reference, created_at FROM payment_attempts WHERE order_id = $1 ORDER BY attempt',
);

const selectEvents = sql(
  'order_desk.events',
  'SELECT kind, stream_offset, created_at FROM events WHERE order_id = $1 ORDER BY stream_offset',
);

const listed = `o.number, s.state, o.created_at, o.total, o.currency, s.parked_reason, s.unanswered_since, s.error_message
     FROM order_states s JOIN orders o ON o.id = s.order_id`;

/** Ids follow time, so that the newest are at the end of the index. */
const listAll = sql(
  'order_desk.list',
  `SELECT ${listed} WHERE $1::text IS NULL OR s.state = $1 ORDER BY s.order_id DESC LIMIT $2`,
);

/** By way of the partial index of open orders, however many have ended. */
const listOpen = sql(
  'order_desk.list_open',
  `SELECT ${listed}
    WHERE s.ended_at IS NULL AND ($1::text IS NULL OR s.state = $1)
      AND (NOT $2::boolean OR s.parked_at IS NOT NULL) AND (NOT $3::boolean OR s.unanswered_since IS NOT NULL)
    ORDER BY s.order_id DESC LIMIT $4`,
);

const countOpen = sql(
  'order_desk.count_open',
  `SELECT count(*) AS open, count(unanswered_since) AS unanswered, count(parked_at) AS parked
     FROM order_states WHERE ended_at IS NULL`,
);

/** Of orders that are not over yet. */
export const openStates: ReadonlySet<OrderState | null> = new Set(['pending', 'authorized', 'captured'] as const);

/** The id of the order with that number. */
export async function findIdOfNumber(reader: Reader, number: string): Promise<string | undefined> {
  const [row] = await reader.query<{ id: string }>(selectIdOfNumber, [number]);
  return row?.id;
}

/** The order with that id. */
export async function findPage(reader: Reader, id: string): Promise<OrderPageRow | undefined> {
  const [row] = await reader.query<OrderPageRow>(selectPage, [id]);
  return row;
}

/** What was ordered. */
export function readPageLines(reader: Reader, id: string): Promise<PageLineRow[]> {
  return reader.query(selectLines, [id]);
}

/** What our books say of each attempt to pay an order. */
export function readPageAttempts(reader: Reader, id: string): Promise<AttemptRow[]> {
  return reader.query(selectAttempts, [id]);
}

/** What the shopper was told of an order. */
export function readPageEvents(reader: Reader, id: string): Promise<PageEventRow[]> {
  return reader.query(selectEvents, [id]);
}

/** Orders by `filter`, the newest first. */
export function readOrders(reader: Reader, { status, parked, unanswered, limit }: OrderFilter): Promise<ListedOrder[]> {
  const isOpen = parked || unanswered || openStates.has(status);
  return isOpen ? reader.query(listOpen, [status, parked, unanswered, limit]) : reader.query(listAll, [status, limit]);
}

/** How many orders are not over yet; of those, how many wait for the gateway and how many for an operator. */
export async function readOpenOrderCounts(reader: Reader): Promise<OpenOrderCounts> {
  const [counts] = await reader.query<OpenOrderCounts>(countOpen);
  return counts ?? { open: 0, unanswered: 0, parked: 0 };
}
