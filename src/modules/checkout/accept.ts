import type { Database, Tx } from '../../platform/db.ts';
import { newId } from '../../shared/ids.ts';
import { orderNumbers } from '../../shared/order-number.ts';
import { accepted, type Result, refused } from '../../shared/refusal.ts';
import {
  type BasketLine,
  beginCheckout,
  type LockedBasket,
  lockBasket,
  readBasketLines,
} from '../basket/basket.service.ts';
import { lockStock, takeStock } from '../inventory/inventory.service.ts';
import { deferOrder, drawOrderSequence, type NewOrderLine, type ProductFacts, readProducts } from './accept.sql.ts';
import { allocate, type CheckoutRequest, type Decision } from './allocation.ts';
import type { Owner } from './lease.sql.ts';

/** How long stock is held for an order that is not paid yet. */
const holdSeconds = 600;

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

/** An order that has been accepted and is still to be paid. `total` in minor units. */
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
}>;

type Acceptance = Readonly<{ currency: string; orderNumberKey: Buffer; owner: Owner | null }>;

const refusals = {
  total_changed: refused('conflict', 'Total has changed'),
  short: refused('unprocessable', 'Quantity exceeds available stock.'),
  nothing_sellable: refused('unprocessable', 'No items available in stock.'),
};
const alreadyProcessing = refused('conflict', 'Checkout is already being processed');

/**
 * Turns a basket into an order in one commit: the order with its lines, the stock taken for it, the lines out of the
 * basket. Strategy `atomic`: one transaction per order, its stock rows locked in the order of their ids.
 */
export function acceptCheckout(
  database: Database,
  acceptance: Acceptance,
  checkout: Checkout,
): Promise<Result<AcceptedOrder>> {
  return database.transaction(async (tx) => {
    const basket = checkout.token === null ? null : await lockBasket(tx, checkout.token);
    if (basket?.liveOrderId) return alreadyProcessing;
    const lines = basket ? await readBasketLines(tx, basket.id) : [];
    const productIds = lines.map((line) => line.productId);
    const sellable = await lockStock(tx, productIds);
    const [products, sequence] = await Promise.all([readProducts(tx, productIds), drawOrderSequence(tx)]);
    const decision = decideOne(checkout, lines, products, sellable);
    if (decision.verdict !== 'sold') return refusals[decision.verdict];
    if (!basket) throw new Error('A checkout without a basket was decided as sold');
    return accepted(writeOrder(tx, { acceptance, checkout, basket, lines, products, sequence, decision }));
  });
}

function decideOne(
  checkout: Checkout,
  lines: readonly BasketLine[],
  products: ReadonlyMap<string, ProductFacts>,
  sellable: ReadonlyMap<string, number>,
): Decision {
  const request: CheckoutRequest = {
    fulfilment: checkout.fulfilment,
    expectedTotal: checkout.expectedTotal,
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
  const [decision] = allocate([request], sellable);
  if (!decision) throw new Error('One request was not given one decision');
  return decision;
}

type Sale = Readonly<{
  acceptance: Acceptance;
  checkout: Checkout;
  basket: LockedBasket;
  lines: readonly BasketLine[];
  products: ReadonlyMap<string, ProductFacts>;
  sequence: number;
  decision: Extract<Decision, { verdict: 'sold' }>;
}>;

function writeOrder(tx: Tx, sale: Sale): AcceptedOrder {
  const { acceptance, basket, checkout, decision } = sale;
  const isSold = new Set(decision.productIds);
  const sold = sale.lines.filter((line) => isSold.has(line.productId));
  const orderId = newId();
  takeStock(tx, sold);
  deferOrder(tx, {
    id: orderId,
    number: orderNumbers([sale.sequence], acceptance.orderNumberKey).join(),
    basketId: basket.id,
    currency: acceptance.currency,
    total: decision.total,
    holdSeconds,
    owner: acceptance.owner,
    email: checkout.email,
    address: JSON.stringify(checkout.address),
    paymentToken: checkout.paymentToken,
    lines: sold.map((line) => orderLine(line, factsOf(sale.products, line))),
  });
  beginCheckout(tx, basket.id, orderId, decision.productIds);
  return {
    orderId,
    basketId: basket.id,
    eventOffset: basket.eventOffset,
    owner: acceptance.owner,
    attempt: 1,
    paymentToken: checkout.paymentToken,
    total: decision.total,
    currency: acceptance.currency,
  };
}

function orderLine(line: BasketLine, product: ProductFacts): NewOrderLine {
  return {
    productId: line.productId,
    basketPosition: line.position,
    quantity: line.quantity,
    unitPrice: product.price_cents,
    name: product.name,
    description: product.description,
  };
}

function factsOf(products: ReadonlyMap<string, ProductFacts>, line: BasketLine): ProductFacts {
  const product = products.get(line.productId);
  if (!product) throw new Error(`Product ${line.productId} is in a basket but does not exist`);
  return product;
}
