import type { Reader } from '../../platform/db.ts';
import { isUuid } from '../../shared/ids.ts';
import {
  type AttemptRow,
  findIdOfNumber,
  findPage,
  type ListedOrder,
  type OpenOrderCounts,
  type OrderFilter,
  type OrderPageRow,
  openStates,
  type PageEventRow,
  type PageLineRow,
  readOpenOrderCounts,
  readOrders,
  readPageAttempts,
  readPageEvents,
  readPageLines,
} from './order-desk.sql.ts';
import type { OrderState } from './orders.sql.ts';

export type { ListedOrder, OpenOrderCounts, OrderFilter } from './order-desk.sql.ts';

/** All that an operator may have to know of an order, with its lines, attempts to pay and events. */
export type OrderPage = Readonly<
  OrderPageRow & { lines: readonly PageLineRow[]; attempts: readonly AttemptRow[]; events: readonly PageEventRow[] }
>;

/** The id of the order that `name` names: its id, or its number however it was written down. */
export async function findOrderId(reader: Reader, name: string): Promise<string | undefined> {
  if (isUuid(name)) return (await findPage(reader, name))?.id;
  return findIdOfNumber(reader, numberIn(name));
}

/** The page of the order with that id. Throws when there is none. */
export async function getOrderPage(reader: Reader, id: string): Promise<OrderPage> {
  const [page, lines, attempts, events] = await Promise.all([
    findPage(reader, id),
    readPageLines(reader, id),
    readPageAttempts(reader, id),
    readPageEvents(reader, id),
  ]);
  if (!page) throw new Error(`Order ${id} does not exist`);
  return { ...page, lines, attempts, events };
}

/** Orders by `filter`, the newest first. */
export function listOrders(reader: Reader, filter: OrderFilter): Promise<ListedOrder[]> {
  return readOrders(reader, filter);
}

/** Whether an order of that status is not over yet. */
export function isOpenState(state: OrderState): boolean {
  return openStates.has(state);
}

/** How many orders are not over yet; of those, how many wait for the gateway and how many for an operator. */
export function countOpenOrders(reader: Reader): Promise<OpenOrderCounts> {
  return readOpenOrderCounts(reader);
}

/** In small letters, without the hyphen, or with letters that a number has not since they look like digits. */
function numberIn(text: string): string {
  const signs = text.toUpperCase().replaceAll('-', '').replaceAll('O', '0').replace(/[IL]/g, '1');
  return `${signs.slice(0, 4)}-${signs.slice(4)}`;
}
