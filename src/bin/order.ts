import { type CancelResult, cancelOrder } from '../modules/checkout/cancel.ts';
import { type RetryResult, retryOrder } from '../modules/checkout/retry.ts';
import {
  findOrderId,
  getOrderPage,
  isOpenState,
  listOrders,
  type OrderPage,
} from '../modules/orders/order-desk.service.ts';
import type { OrderState } from '../modules/orders/orders.service.ts';
import { type PaymentGateway, type PaymentStep, paymentKey } from '../modules/payments/payments.service.ts';
import type { Config } from '../platform/config.ts';
import { amountOf } from './columns.ts';
import { reasonOf, UsageError } from './failure.ts';
import { operatorName } from './operator.ts';
import { type GatewayWord, orderPage, orderTable } from './order-page.ts';
import { type PaymentDesk, withPaymentDesk } from './payment-desk.ts';

/** Whether the goods come back with the money, and in whose name. */
export type CancelFlags = Readonly<{ restock?: boolean; by?: string }>;
/** Which orders, and at most how many. */
export type ListFlags = Readonly<{ status?: OrderState; parked?: boolean; unanswered?: boolean; limit: number }>;

const steps: readonly PaymentStep[] = ['authorize', 'capture', 'void', 'refund'];

/** `scalecommerce order show ID`: everything about an order, with what the gateway says of it now. */
export function showOrderCommand(config: Config, name: string): Promise<number> {
  return withPaymentDesk(config, async (desk) => {
    const order = await getOrderPage(desk.database, await idOf(desk, name));
    console.log(orderPage(order, await askGateway(desk.gateway, order)));
    return 0;
  });
}

/** `scalecommerce order list`: orders, the newest first. */
export function listOrdersCommand(
  config: Config,
  { status, parked = false, unanswered = false, limit }: ListFlags,
): Promise<number> {
  if (status && (parked || unanswered)) requireOpen(status, parked ? '--parked' : '--unanswered');
  return withPaymentDesk(config, async ({ database }) => {
    const orders = await listOrders(database, { status: status ?? null, parked, unanswered, limit });
    console.log(orders.length === 0 ? 'There are no such orders.' : orderTable(orders));
    return 0;
  });
}

function requireOpen(status: OrderState, flag: string): void {
  if (isOpenState(status)) return;
  throw new UsageError(
    `${flag} lists open orders, and none of status ${status} is open: only those of pending, authorized, captured are.`,
  );
}

/** `scalecommerce order cancel ID`: gives back what an order holds, or what was paid for it. */
export function cancelOrderCommand(
  config: Config,
  name: string,
  { restock = false, by = operatorName() }: CancelFlags,
): Promise<number> {
  return withPaymentDesk(config, async (desk) => {
    const id = await idOf(desk, name);
    const result = await explained(
      name,
      cancelOrder({ ...desk, notifications: null }, id, { restock, by }, () => undefined),
    );
    console.log(toldOfCancellation(result, await getOrderPage(desk.database, id), restock));
    return 0;
  });
}

/** `scalecommerce order retry ID`: lets workers try a parked order again. */
export function retryOrderCommand(config: Config, name: string): Promise<number> {
  return withPaymentDesk(config, async (desk) => {
    const id = await idOf(desk, name);
    const result = await explained(name, retryOrder({ ...desk, holdSeconds: config.HOLD_TTL_S }, id));
    console.log(toldOfRetry(result, await getOrderPage(desk.database, id)));
    return 0;
  });
}

async function idOf({ database }: PaymentDesk, name: string): Promise<string> {
  const id = await findOrderId(database, name);
  if (id === undefined) throw new Error(`There is no order "${name}".`);
  return id;
}

/** What an order command had done when the database or the gateway failed is on record, and can be looked at. */
async function explained<T>(name: string, work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (cause) {
    const advice = `See \`scalecommerce order show ${name}\` for how far it came; the same command can be run again.`;
    throw new Error(`${reasonOf(cause)}. ${advice}`, { cause });
  }
}

/** What is not on record may still arrive; who does not answer is no reason not to show the rest. */
function askGateway(gateway: PaymentGateway, order: OrderPage): Promise<GatewayWord[]> {
  const attempts = Array.from({ length: order.attempt }, (_, index) => index + 1);
  const words = attempts.flatMap((attempt) =>
    steps.map(async (step) => ({ attempt, step, word: await wordOn(gateway, paymentKey(order.id, attempt, step)) })),
  );
  return Promise.all(words);
}

function wordOn(gateway: PaymentGateway, key: string): Promise<GatewayWord['word']> {
  return gateway.lookup(key).catch(() => 'unanswered' as const);
}

/** Throws where the order is not, and will not be, undone. */
function toldOfCancellation(result: CancelResult, order: OrderPage, restock: boolean): string {
  const { number } = order;
  switch (result.result) {
    case 'cancelled':
      return `Order ${number} is cancelled: nothing was charged, and what it held can be sold again.`;
    case 'refunded':
      return `Order ${number} is refunded: ${amountOf(order.total, order.currency)} went back, ${goodsOf(order)}.`;
    case 'over':
      return toldOfEarlierEnd(order, restock);
    case 'unanswered':
      throw new Error(`The gateway has not answered; a worker goes on with it. Order ${number} is to be cancelled.`);
    case 'refused':
      throw new Error(
        `The gateway refuses to refund order ${number}: ${result.message}. Nothing was changed; the same command asks again.`,
      );
    case 'not_found':
      throw new Error(`There is no order ${number}.`);
  }
}

function toldOfEarlierEnd(order: OrderPage, restock: boolean): string {
  const { number, state } = order;
  if (state === 'failed')
    throw new Error(`Order ${number} has failed (${order.error_message}): there is nothing to cancel.`);
  if (state !== 'refunded' || !restock || order.restock) return `Order ${number} is ${state} already.`;
  return `Order ${number} is refunded already, ${goodsOf(order)}: \`scalecommerce stock add\` books what came back since.`;
}

function goodsOf({ restock }: OrderPage): string {
  return restock ? 'and its goods can be sold again' : 'and its goods were not booked as returned';
}

/** Throws where the order is not tried again. */
function toldOfRetry(result: RetryResult, { number }: OrderPage): string {
  switch (result.result) {
    case 'retried':
      return result.isNewAttempt
        ? `Order ${number} is tried again by the workers: attempt ${result.attempt} to pay it, the one before is closed.`
        : `Order ${number} was paid before it was parked: a worker completes it.`;
    case 'over':
      throw new Error(`Order ${number} is ${result.state} already: there is nothing to try again.`);
    case 'not_parked':
      throw new Error(`Order ${number} is ${result.state} and not parked: the workers see to it.`);
    case 'unanswered':
      throw new Error(`The gateway has not answered; order ${number} stays parked. Try again later.`);
    case 'changed':
      throw new Error(`Order ${number} was changed by somebody else in this moment; look at it again.`);
    case 'not_found':
      throw new Error(`There is no order ${number}.`);
  }
}
