import type { ErrorCode } from '../orders/orders.service.ts';
import {
  type AuthorizeRequest,
  type CaptureAnswer,
  type PaymentGateway,
  paymentKey,
} from '../payments/payments.service.ts';
import type { Work } from './work.ts';

/** How a payment ended. Where nothing was captured, nothing of that attempt can be any more. */
export type PaymentOutcome =
  | Readonly<{ captured: true; reference: string }>
  | Readonly<{ captured: false; attempt: 'declined' | 'voided'; code: ErrorCode; message: string }>;

type Reason = Readonly<{ code: ErrorCode; message: string }>;

const holdExpired: Reason = { code: 'hold_expired', message: 'The payment was not completed in time' };
const cancelled: Reason = { code: 'cancelled', message: 'The order was cancelled' };
const closedElsewhere: Reason = { code: 'internal', message: 'The payment was closed before it was completed' };

/**
 * Brings the payment of an order to its end, with no transaction open: forward, unless the hold is over or the order is
 * to be cancelled. Every step goes under a key of its own, so that whoever repeats it after a crash gets the first answer
 * and nothing is charged twice. `beforeEachCall` may throw to stop.
 */
export function endPayment(gateway: PaymentGateway, work: Work, beforeEachCall: () => void): Promise<PaymentOutcome> {
  if (work.isToBeCancelled) return closePayment(gateway, work, cancelled, beforeEachCall);
  if (work.holdIsOver) return closePayment(gateway, work, holdExpired, beforeEachCall);
  return pay(gateway, work, beforeEachCall);
}

async function pay(gateway: PaymentGateway, work: Work, beforeEachCall: () => void): Promise<PaymentOutcome> {
  beforeEachCall();
  const authorization = authorizationOf(work);
  const answer = await gateway.authorize(authorization);
  if (answer.outcome === 'declined')
    return { captured: false, attempt: 'declined', code: 'payment_required', message: answer.message };
  if (answer.outcome === 'closed') return closePayment(gateway, work, closedElsewhere, beforeEachCall);
  beforeEachCall();
  const key = paymentKey(work.orderId, work.attempt, 'capture');
  const capture = await gateway.capture({ key, authorization });
  if (capture.outcome === 'captured') return { captured: true, reference: capture.reference };
  return closePayment(gateway, work, reasonOf(capture), beforeEachCall);
}

/** The gateway decides whether the capture or this came first. */
async function closePayment(
  gateway: PaymentGateway,
  work: Work,
  reason: Reason,
  beforeEachCall: () => void,
): Promise<PaymentOutcome> {
  beforeEachCall();
  const key = paymentKey(work.orderId, work.attempt, 'void');
  const answer = await gateway.void({ key, authorization: authorizationOf(work) });
  if (answer.outcome === 'captured') return { captured: true, reference: answer.reference };
  return { captured: false, attempt: 'voided', ...reason };
}

function reasonOf(capture: Exclude<CaptureAnswer, { outcome: 'captured' }>): Reason {
  return capture.outcome === 'refused' ? { code: 'payment_required', message: capture.message } : closedElsewhere;
}

/** The request that the payment began with: the same from whoever sends it. */
export function authorizationOf(
  work: Pick<Work, 'orderId' | 'attempt' | 'paymentToken' | 'total' | 'currency'>,
): AuthorizeRequest {
  const { orderId, attempt, paymentToken, total: amount, currency } = work;
  return { key: paymentKey(orderId, attempt, 'authorize'), paymentToken, amount, currency };
}
