import { isOpenState, type ListedOrder, type OrderPage } from '../modules/orders/order-desk.service.ts';
import type { GatewayRecord } from '../modules/payments/payments.service.ts';
import { amountOf, inColumns, inPairs } from './columns.ts';

/** What the gateway says of one step of an attempt to pay: what it has on record, if anything, unless it does not answer. */
export type GatewayWord = Readonly<{ attempt: number; step: string; word: GatewayRecord | null | 'unanswered' }>;

/** Everything of one order, for an operator to read. */
export function orderPage(order: OrderPage, gateway: readonly GatewayWord[]): string {
  const sections = [
    headOf(order),
    linesOf(order),
    totalsOf(order),
    attemptsOf(order),
    gatewayOf(gateway),
    eventsOf(order),
    cancellationOf(order),
  ];
  return sections.filter((section) => section !== '').join('\n\n');
}

/** One line for each order. */
export function orderTable(orders: readonly ListedOrder[]): string {
  const columns = [
    { title: 'number' },
    { title: 'status' },
    { title: 'created' },
    { title: 'total', align: 'right' },
    { title: 'note' },
  ] as const;
  return inColumns(
    columns,
    orders.map((order) => [
      order.number,
      order.state,
      timeOf(order.created_at),
      amountOf(order.total, order.currency),
      noteOn(order),
    ]),
  );
}

function headOf(order: OrderPage): string {
  return inPairs([
    ['number', order.number],
    ['id', order.id],
    ['status', order.state],
    ['reason', order.error_code && `${order.error_code}: ${order.error_message ?? ''}`],
    ['created', timeOf(order.created_at)],
    ['ended', order.ended_at && timeOf(order.ended_at)],
    ['hold', order.ended_at ? null : `${order.hold_is_over ? 'ended' : 'until'} ${timeOf(order.hold_until)}`],
    ['owner', order.ended_at ? null : ownerOf(order)],
    ['parked', order.ended_at || !order.parked_at ? null : `since ${timeOf(order.parked_at)}: ${order.parked_reason}`],
    ['unanswered', order.ended_at || !order.unanswered_since ? null : `since ${timeOf(order.unanswered_since)}`],
    ['takeovers', order.takeovers > 0 ? `${order.takeovers}, from workers that had crashed` : null],
    ['e-mail', order.email ?? '(erased)'],
  ]);
}

function ownerOf(order: OrderPage): string {
  if (order.leased_until)
    return `process ${order.worker_pid} on ${order.worker_host}, leased until ${timeOf(order.leased_until)}`;
  return order.is_owned ? 'a worker that is gone' : 'nobody';
}

function linesOf({ lines, currency }: OrderPage): string {
  const columns = [
    { title: 'SKU' },
    { title: 'name' },
    { title: 'quantity', align: 'right' },
    { title: 'unit price', align: 'right' },
    { title: 'total', align: 'right' },
  ] as const;
  return inColumns(
    columns,
    lines.map((line) => [
      line.sku,
      line.name,
      String(line.quantity),
      amountOf(line.unit_price, currency),
      amountOf(line.quantity * line.unit_price, currency),
    ]),
  );
}

function totalsOf(order: OrderPage): string {
  const amount = (cents: number): string => amountOf(cents, order.currency);
  const unlessNone = (cents: number): string | null => (cents === 0 ? null : amount(cents));
  return inPairs([
    ['items', amount(order.items_total)],
    ['shipping', unlessNone(order.shipping_total)],
    ['tax', unlessNone(order.tax_total)],
    ['discount', unlessNone(-order.discount_total)],
    ['total', amount(order.total)],
  ]);
}

function attemptsOf({ attempts, currency }: OrderPage): string {
  if (attempts.length === 0) return '';
  return inColumns(
    [
      { title: 'attempt', align: 'right' },
      { title: 'our books' },
      { title: 'amount', align: 'right' },
      { title: 'recorded' },
    ],
    attempts.map((row) => [String(row.attempt), row.state, amountOf(row.amount, currency), timeOf(row.created_at)]),
  );
}

function gatewayOf(words: readonly GatewayWord[]): string {
  const rows = words.flatMap(({ attempt, step, word }) => {
    if (word === null) return [];
    if (word === 'unanswered') return [[String(attempt), step, 'does not answer', '', '']];
    const { approved, amount, currency, reference } = word;
    return [[String(attempt), step, approved ? 'approved' : 'refused', amountOf(amount, currency), reference]];
  });
  if (rows.length === 0) return 'The gateway has nothing on record.';
  return inColumns(
    [
      { title: 'attempt', align: 'right' },
      { title: 'gateway' },
      { title: 'answer' },
      { title: 'amount', align: 'right' },
      { title: 'reference' },
    ],
    rows,
  );
}

function eventsOf({ events }: OrderPage): string {
  if (events.length === 0) return '';
  return inColumns(
    [{ title: 'event' }, { title: 'told' }],
    events.map((event) => [event.kind, timeOf(event.created_at)]),
  );
}

function cancellationOf(order: OrderPage): string {
  if (!order.requested_at) return '';
  return inPairs([
    ['cancellation', `asked for by ${order.requested_by} at ${timeOf(order.requested_at)}`],
    ['restock', order.restock ? 'yes' : 'no'],
    ['outcome', cancellationOutcome(order)],
  ]);
}

function cancellationOutcome(order: OrderPage): string {
  if (order.refused_message !== null) return `refused by the gateway: ${order.refused_message}`;
  return order.cancellation_ended_at ? `ended at ${timeOf(order.cancellation_ended_at)}` : 'not done yet';
}

function noteOn(order: ListedOrder): string {
  if (!isOpenState(order.state)) return order.error_message ?? '';
  if (order.parked_reason !== null) return `parked: ${order.parked_reason}`;
  if (order.unanswered_since) return `no answer from the gateway since ${timeOf(order.unanswered_since)}`;
  return order.error_message ?? '';
}

function timeOf(date: Date): string {
  return date.toISOString();
}
