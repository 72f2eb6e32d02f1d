import { expect } from 'vitest';
import { type ClientRecord, expectAgreement, recorded } from './client-records.ts';
import { eventually } from './eventually.ts';
import { expectNothingLeftOver } from './invariants.ts';
import { expectReleasedByGateway, untilAllEnded } from './order-facts.ts';
import { RemoteShopper } from './process.ts';
import { type Random, randomOf } from './seed.ts';
import { addProduct } from './shop.ts';
import { onStage, type Stage } from './stage.ts';

/** A call that is not answered is given up after 8 s, a lost lease ends after 10 s; several in a row on a busy machine. */
export const allEndedMs = 120_000;

/** Of a test that plays with orders; most of it is for a busy machine. */
export const orderTestTimeoutMs = 360_000;
/** Units of the product of an {@link OrderStage}; a unit costs 10.00. */
export const stock = 1_000;

/** A stage with a product for sale. `records` is where it is put down what shoppers were told. */
export type OrderStage = Stage & Readonly<{ product: string; random: Random; records: ClientRecord[] }>;

/** Gives `play` such a stage, with chance as the seed and `name` say. */
export function onOrderStage(name: string, play: (stage: OrderStage) => Promise<void>): Promise<void> {
  return onStage(async (stage) => {
    const product = await addProduct(stage.ledger, { stock });
    await play({ ...stage, product, random: randomOf(name), records: [] });
  });
}

/** An order that a shopper was told is accepted. */
export type PlacedOrder = Readonly<{ shopper: RemoteShopper; orderId: string; acceptedInMs: number }>;

export type OrderWish = Readonly<{
  product: string;
  quantity?: number;
  paymentToken?: string;
  /** How it has to end. */
  end?: ClientRecord['end'];
}>;

/** A shopper comes, fills a basket and checks it out, and expects the order to be accepted. `records` tells of it. */
export async function placeOrder(address: string, records: ClientRecord[], wish: OrderWish): Promise<PlacedOrder> {
  const shopper = new RemoteShopper(address);
  const { product, quantity = 1, paymentToken = 'tok_success', end = 'completed' } = wish;
  const about = { end, token: () => shopper.token };
  const put = await recorded(records, { ...about, what: 'put' }, () => shopper.put(product, quantity));
  expect(put.status).toBe(201);
  const payment = { payment_token: paymentToken };
  const checkout = await recorded(records, { ...about, what: 'checkout' }, () => shopper.checkout('v2', payment));
  expect(checkout.status).toBe(202);
  return { shopper, orderId: String(checkout.orderId), acceptedInMs: checkout.tookMs };
}

/** The order as its shopper sees it once it is over, asked for at `address`, if not where it was placed. */
export function endOf(placed: PlacedOrder, address?: string): Promise<Record<string, unknown>> {
  const { token } = placed.shopper;
  const shopper = address === undefined ? placed.shopper : new RemoteShopper(address, { token });
  return eventually(async () => {
    const { body } = await shopper.order(placed.orderId);
    return body.status === 'completed' || body.status === 'failed' ? body : null;
  }, allEndedMs);
}

/** The same records, where an order may have ended either way: now with the end that its shopper is told of. */
export async function withEndsAsTold(
  records: readonly ClientRecord[],
  placed: readonly PlacedOrder[],
): Promise<ClientRecord[]> {
  const ends = await Promise.all(placed.map((order) => endOf(order)));
  const endOfOrder = new Map(placed.map(({ orderId }, index) => [orderId, ends[index]?.status as ClientRecord['end']]));
  return records.map((record) => ({ ...record, end: endOfOrder.get(record.orderId ?? '') ?? record.end }));
}

/** Expects the clients to have been told nothing but the truth, and every payment to have ended by the gateway's word. */
export async function expectTruth(stage: Stage, records: readonly ClientRecord[]): Promise<void> {
  await untilAllEnded(stage.ledger, allEndedMs);
  await expectAgreement(stage.ledger, records);
  await expectReleasedByGateway(stage.ledger);
  await expectNothingLeftOver(stage.url);
}
