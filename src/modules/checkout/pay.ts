import { type PaymentGateway, paymentKey } from '../payments/payments.service.ts';

/** An order to be paid. `total` in minor units of `currency`. */
export type Work = Readonly<{
  orderId: string;
  basketId: string;
  attempt: number;
  paymentToken: string;
  total: number;
  currency: string;
}>;

/** How a payment ended: taken, or declined in the gateway's words. */
export type PaymentOutcome = Readonly<{ captured: true; reference: string } | { captured: false; message: string }>;

/**
 * Takes the money for an order, with no transaction open. Every step goes under a key of its own, so that whoever
 * repeats it after a crash gets the first answer and nothing is charged twice. `beforeEachCall` may throw to stop.
 */
export async function payOrder(
  gateway: PaymentGateway,
  work: Work,
  beforeEachCall: () => void,
): Promise<PaymentOutcome> {
  const { total: amount, currency } = work;
  const authorizationKey = paymentKey(work.orderId, work.attempt, 'authorize');
  beforeEachCall();
  const authorization = await gateway.authorize({
    key: authorizationKey,
    paymentToken: work.paymentToken,
    amount,
    currency,
  });
  if (!authorization.approved) return { captured: false, message: authorization.message };
  beforeEachCall();
  const key = paymentKey(work.orderId, work.attempt, 'capture');
  const { reference } = await gateway.capture({ key, authorizationKey, amount, currency });
  return { captured: true, reference };
}
