import type { Tx } from '../../platform/db.ts';
import { orderNumbers } from '../../shared/order-number.ts';
import { accepted, type Result, refused } from '../../shared/refusal.ts';
import {
  type BasketLine,
  beginCheckouts,
  type LockedBasket,
  lockBaskets,
  readBasketLines,
} from '../basket/basket.service.ts';
import {
  type Effect,
  type KeptRequest,
  type RequestKey,
  recallEffects,
  rememberEffects,
} from '../idempotency/idempotency.service.ts';
import { lockStock } from '../inventory/inventory.service.ts';
import {
  deferOrders,
  drawOrderSequences,
  type NewOrder,
  type ProductFacts,
  readAcceptedOrders,
  readProducts,
} from './accept.sql.ts';
import { allocate, type CheckoutRequest, type Decision } from './allocation.ts';
import type { Owner } from './lease.sql.ts';

type Address = {
  line_1: string;
  line_2?: string | null;
  city: string;
  state: string;
  zip: string;
  country: string;
};

/** A checkout as a shopper asks for it. `expectedTotal` in minor units. */
export type Checkout = Readonly<{
  token: string | null;
  paymentToken: string;
  email: string;
  address: Address;
  fulfilment: 'partial' | 'all_or_nothing';
  expectedTotal: number | null;
}>;

/** A checkout of a known token, with all that must be settled before it is sent: its order's id and its owner. */
export type PlannedOrder = Readonly<{
  id: string;
  owner: Owner | null;
  token: string;
  checkout: Checkout;
  key: RequestKey | null;
}>;

/** An order that has been accepted. `total` in minor units. */
export type AcceptedOrder = Readonly<{
  orderId: string;
  basketId: string;
  /** Where the basket's stream of events ended at acceptance. */
  eventOffset: number;
  owner: Owner | null;
  attempt: number;
  paymentToken: string;
  total: number;
  currency: string;
  /** Accepted before, by a request with the same key: it is on its way already, or over. */
  isReplay: boolean;
}>;

/** Decides on checkouts and takes what they are sold, given what is sellable of their locked products. */
export type TakeStock = (
  tx: Tx,
  requests: readonly CheckoutRequest[],
  sellable: ReadonlyMap<string, number>,
) => Promise<readonly Decision[]>;

/** What is the same for every order of the shop. Stock is held for `holdSeconds` for an order that is not paid. */
export type Acceptance = Readonly<{ currency: string; orderNumberKey: Buffer; holdSeconds: number }>;

const refusals = {
  total_changed: refused('conflict', 'Total has changed'),
  short: refused('unprocessable', 'Quantity exceeds available stock.'),
  nothing_sellable: refused('unprocessable', 'No items available in stock.'),
};
/** What a checkout is told whose basket has another one under way. */
export const alreadyProcessing = refused('conflict', 'Checkout is already being processed');

/** What is decided about a checkout that names no basket: as about an empty one. */
export function refuseWithoutBasket(checkout: Checkout): Result<AcceptedOrder> {
  const { fulfilment, expectedTotal } = checkout;
  const [decision] = allocate([{ lines: [], fulfilment, expectedTotal }], new Map());
  return decision?.verdict === 'total_changed' ? refusals.total_changed : refusals.nothing_sellable;
}

/**
 * Turns baskets into orders, in the commit of `tx`: orders with their lines, the stock taken for them, the lines out of
 * the baskets. Decides in the order of `planned`, as if one came after the other; answers each. No two may be of one
 * basket. In a repeat, after a COMMIT whose answer was lost, orders that are there already are answered as they are; so
 * is, at any time, the order that was made under the same key.
 */
export async function acceptOrders(
  tx: Tx,
  acceptance: Acceptance,
  takeFor: TakeStock,
  planned: readonly PlannedOrder[],
  isRepeat: boolean,
): Promise<Result<AcceptedOrder>[]> {
  const baskets = await lockBaskets(
    tx,
    planned.map((order) => order.token),
  );
  const known = await answerFromBefore(tx, planned, baskets, isRepeat);
  const missing = planned.filter((order) => !known.has(order));
  const answers = await acceptMissing(tx, acceptance, takeFor, missing, without(baskets, known));
  const answerTo = new Map(missing.map((order, index) => [order, answers[index]]));
  return planned.map((order) => (known.get(order) ?? answerTo.get(order)) as Result<AcceptedOrder>);
}

type Answers = ReadonlyMap<PlannedOrder, Result<AcceptedOrder>>;

/** Baskets whose checkouts are answered already have no further part in it. */
function without(baskets: readonly LockedBasket[], answered: Answers): readonly LockedBasket[] {
  if (answered.size === 0) return baskets;
  const tokens = new Set([...answered.keys()].map((order) => order.token));
  return baskets.filter((basket) => !tokens.has(basket.token));
}

async function acceptMissing(
  tx: Tx,
  acceptance: Acceptance,
  takeFor: TakeStock,
  planned: readonly PlannedOrder[],
  baskets: readonly LockedBasket[],
): Promise<Result<AcceptedOrder>[]> {
  if (planned.length === 0) return [];
  const free = baskets.filter((basket) => basket.liveOrderId === null);
  const lines = await readBasketLines(
    tx,
    free.map((basket) => basket.id),
  );
  const productIds = [...new Set(lines.map((line) => line.productId))];
  const sellable = await lockStock(tx, productIds);
  const [products, sequences] = await Promise.all([
    readProducts(tx, productIds),
    drawOrderSequences(tx, planned.length),
  ]);
  const candidates = candidatesOf(planned, baskets, lines);
  const open = candidates.filter((candidate) => !candidate.basket?.liveOrderId);
  const requests = open.map((candidate) => requestOf(candidate, products));
  const decisions = await takeFor(tx, requests, sellable);
  const sales = salesOf(open, decisions, products);
  writeSales(tx, acceptance, sales, sequences);
  return answersTo(candidates, open, decisions, acceptance.currency);
}

/** The answers that are there already. The baskets must be locked. */
async function answerFromBefore(
  tx: Tx,
  planned: readonly PlannedOrder[],
  baskets: readonly LockedBasket[],
  isRepeat: boolean,
): Promise<Answers> {
  const own = new Map(isRepeat ? planned.map((order) => [order.id, order]) : []);
  const done = await findAccepted(tx, own, false);
  const others = planned.filter((order) => !done.has(order));
  return new Map([...done, ...(await answerFromKeys(tx, others, baskets))]);
}

/** What requests with the same keys have come to. */
async function answerFromKeys(
  tx: Tx,
  planned: readonly PlannedOrder[],
  baskets: readonly LockedBasket[],
): Promise<Answers> {
  const idOf = new Map(baskets.map((basket) => [basket.token, basket.id]));
  const keyed = planned.flatMap((order) => {
    const basketId = idOf.get(order.token);
    return order.key && basketId ? [{ order, basketId, key: order.key }] : [];
  });
  const effects = await recallEffects(tx, keyed);
  const answers = new Map<PlannedOrder, Result<AcceptedOrder>>();
  const replayed = new Map<string, PlannedOrder>();
  for (const [index, { order }] of keyed.entries()) {
    const effect = effects[index];
    if (effect?.ok) replayed.set(orderOf(effect.value), order);
    else if (effect) answers.set(order, effect);
  }
  return new Map([...answers, ...(await findAccepted(tx, replayed, true))]);
}

function orderOf({ orderId }: Effect): string {
  if (orderId === null) throw new Error('The idempotency key of a checkout names no order');
  return orderId;
}

/** Those orders that exist, by their ids, each as the answer to what was planned. Their baskets must be locked. */
async function findAccepted(
  tx: Tx,
  wanted: ReadonlyMap<string, PlannedOrder>,
  isReplay: boolean,
): Promise<Map<PlannedOrder, Result<AcceptedOrder>>> {
  const rows = wanted.size === 0 ? [] : await readAcceptedOrders(tx, [...wanted.keys()]);
  return new Map(
    rows.map((row) => {
      const order = wanted.get(row.id);
      if (!order) throw new Error(`Order ${row.id} was not asked for`);
      const { id: orderId, basket_id: basketId, event_offset: eventOffset, total, currency } = row;
      const { owner, checkout } = order;
      const { paymentToken } = checkout;
      const answer = { orderId, basketId, eventOffset, owner, attempt: 1, paymentToken, total, currency, isReplay };
      return [order, accepted(answer)];
    }),
  );
}

type Candidate = Readonly<{ order: PlannedOrder; basket: LockedBasket | undefined; lines: readonly BasketLine[] }>;
type Sale = Readonly<{ order: PlannedOrder; basket: LockedBasket; lines: readonly PricedLine[]; total: number }>;
type PricedLine = BasketLine & Readonly<{ unitPrice: number }>;

function candidatesOf(
  planned: readonly PlannedOrder[],
  baskets: readonly LockedBasket[],
  lines: readonly BasketLine[],
): Candidate[] {
  const basketOf = new Map(baskets.map((basket) => [basket.token, basket]));
  const linesOf = Map.groupBy(lines, (line) => line.basketId);
  return planned.map((order) => {
    const basket = basketOf.get(order.token);
    return { order, basket, lines: (basket && linesOf.get(basket.id)) ?? [] };
  });
}

function requestOf({ order, lines }: Candidate, products: ReadonlyMap<string, ProductFacts>): CheckoutRequest {
  const { fulfilment, expectedTotal } = order.checkout;
  return {
    fulfilment,
    expectedTotal,
    lines: lines.map((line) => {
      const product = factsOf(products, line);
      return {
        productId: line.productId,
        quantity: line.quantity,
        unitPrice: product.price_cents,
        isOnSale: product.on_sale,
        maxPerOrder: product.max_per_order,
      };
    }),
  };
}

function salesOf(
  open: readonly Candidate[],
  decisions: readonly Decision[],
  products: ReadonlyMap<string, ProductFacts>,
): Sale[] {
  return open.flatMap(({ order, basket, lines }, index) => {
    const decision = decisions[index];
    if (decision?.verdict !== 'sold' || !basket) return [];
    const isSold = new Set(decision.productIds);
    const sold = lines
      .filter((line) => isSold.has(line.productId))
      .map((line) => ({ ...line, unitPrice: factsOf(products, line).price_cents }));
    return [{ order, basket, lines: sold, total: decision.total }];
  });
}

function writeSales(tx: Tx, acceptance: Acceptance, sales: readonly Sale[], sequences: readonly number[]): void {
  if (sales.length === 0) return;
  const sold = sales.flatMap((sale) => sale.lines);
  const numbers = orderNumbers(sequences.slice(0, sales.length), acceptance.orderNumberKey);
  const orders = sales.map((sale, index) => newOrder(acceptance, sale, numbers[index] ?? ''));
  deferOrders(tx, orders);
  beginCheckouts(tx, orders, sold);
  rememberEffects(tx, sales.flatMap(keptOf));
}

function keptOf({ order: { id, key }, basket }: Sale): KeptRequest[] {
  return key === null ? [] : [{ basketId: basket.id, key, effect: { orderId: id, answer: null } }];
}

function newOrder(acceptance: Acceptance, { order, basket, lines, total }: Sale, number: string): NewOrder {
  const { checkout } = order;
  return {
    id: order.id,
    number,
    basketId: basket.id,
    currency: acceptance.currency,
    total,
    holdSeconds: acceptance.holdSeconds,
    owner: order.owner,
    email: checkout.email,
    address: JSON.stringify(checkout.address),
    paymentToken: checkout.paymentToken,
    lines: lines.map((line, index) => ({
      orderId: order.id,
      place: index + 1,
      productId: line.productId,
      basketPosition: line.position,
      quantity: line.quantity,
      unitPrice: line.unitPrice,
    })),
  };
}

function answersTo(
  candidates: readonly Candidate[],
  open: readonly Candidate[],
  decisions: readonly Decision[],
  currency: string,
): Result<AcceptedOrder>[] {
  const decisionOn = new Map(open.map((candidate, index) => [candidate, decisions[index]]));
  return candidates.map((candidate) => {
    const decision = decisionOn.get(candidate);
    if (!decision) return alreadyProcessing;
    if (decision.verdict !== 'sold') return refusals[decision.verdict];
    return accepted(acceptedOrder(candidate, decision.total, currency));
  });
}

function acceptedOrder({ order, basket }: Candidate, total: number, currency: string): AcceptedOrder {
  if (!basket) throw new Error('A checkout without a basket was decided as sold');
  return {
    orderId: order.id,
    basketId: basket.id,
    eventOffset: basket.eventOffset,
    owner: order.owner,
    attempt: 1,
    paymentToken: order.checkout.paymentToken,
    total,
    currency,
    isReplay: false,
  };
}

function factsOf(products: ReadonlyMap<string, ProductFacts>, line: BasketLine): ProductFacts {
  const product = products.get(line.productId);
  if (!product) throw new Error(`Product ${line.productId} is in a basket but does not exist`);
  return product;
}
