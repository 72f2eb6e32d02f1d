import type { KeyObject } from 'node:crypto';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { Static } from 'typebox';
import { basketTokenOf } from '../../http/bearer.ts';
import { markPrivate } from '../../http/conditional.ts';
import { departureOf } from '../../http/departure.ts';
import {
  IdempotencyHeaders,
  idempotencyKeyOf,
  KeysUnderWay,
  markReplayed,
  refuseMalformedKey,
  replayedHeader,
  sendKeyUnderWay,
} from '../../http/idempotency-key.ts';
import { sendRefusal } from '../../http/problem.ts';
import { answers } from '../../http/schemas.ts';
import { requestKey } from '../idempotency/idempotency.service.ts';
import { OrderSchema } from '../orders/orders.schema.ts';
import { orderPath } from '../orders/orders.service.ts';
import { eventsPath } from '../orders/tickets.service.ts';
import { AcceptedSchema, CheckoutBody } from './checkout.schema.ts';
import {
  type Checkout,
  type CheckoutDesk,
  checkoutAndWait,
  type Sender,
  startCheckout,
  type WaitedCheckout,
} from './checkout.service.ts';

type CheckoutRequest = FastifyRequest<{ Body: Static<typeof CheckoutBody> }>;

const acceptedHeaders = { Location: 'Where to ask after the order.', ...replayedHeader };

const checkoutErrors = {
  400: ['Missing parameter: address'],
  409: [
    'Checkout is already being processed',
    'Total has changed',
    'A request with this Idempotency-Key is being processed',
  ],
  422: [
    'No items available in stock.',
    'Quantity exceeds available stock.',
    "City can't be blank",
    "Payment token can't be blank",
    'Email is invalid',
    'Idempotency-Key was used before with another request',
  ],
};

/** Checking out: V1 answers with the outcome, V2 at once. */
export function checkoutRoutes(app: FastifyInstance, desk: CheckoutDesk, ticketKey: KeyObject): void {
  const underWay = new KeysUnderWay();
  app.post(
    '/api/v1/shopping_basket/checkout',
    {
      preValidation: refuseMalformedKey,
      schema: {
        operationId: 'checkoutAndWait',
        summary: 'Check out and wait for the outcome',
        description: 'Answers 504 when there is none after 25 s; the order goes on, `Location` says where to ask.',
        tags: ['Checkout'],
        security: [{ basket: [] }],
        headers: IdempotencyHeaders,
        body: CheckoutBody,
        response: answers(201, OrderSchema, acceptedHeaders, {
          ...checkoutErrors,
          402: ['Insufficient funds'],
          504: ['The order is still being processed'],
        }),
      },
    },
    async (request: CheckoutRequest, reply) => {
      const checkout = checkoutFrom(request);
      const result = await checkoutAndWait(desk, checkout, senderOf(request, 'checkoutAndWait', checkout));
      if (!result.ok) return sendRefusal(request, reply, result.refusal);
      return sendOutcome(request, reply, result.value);
    },
  );

  app.post(
    '/api/v2/shopping_basket/checkout',
    {
      preValidation: refuseMalformedKey,
      schema: {
        operationId: 'checkout',
        summary: 'Check out; the outcome is notified',
        description: 'The outcome comes over `/cable`, from `events_url`, and from the order at `Location`.',
        tags: ['Checkout'],
        security: [{ basket: [] }],
        headers: IdempotencyHeaders,
        body: CheckoutBody,
        response: answers(202, AcceptedSchema, acceptedHeaders, checkoutErrors),
      },
    },
    async (request: CheckoutRequest, reply) => {
      const checkout = checkoutFrom(request);
      const sender = senderOf(request, 'checkout', checkout);
      const result = await underWay.run(request, () => startCheckout(desk, checkout, sender));
      if (result === null) return sendKeyUnderWay(request, reply);
      if (!result.ok) return sendRefusal(request, reply, result.refusal);
      return markReplayed(markPrivate(reply), result.value.isReplay)
        .code(202)
        .header('Location', orderPath(result.value.orderId))
        .send({
          message: 'Checkout processing started',
          events_url: eventsPath(ticketKey, result.value.orderId),
          notifications: {
            channel: 'CheckoutNotificationsChannel',
            params: { shopping_basket_id: checkout.token ?? '' },
          },
        });
    },
  );
}

function checkoutFrom(request: CheckoutRequest): Checkout {
  const { payment_token, email, address, fulfilment, expected_total } = request.body;
  const { line_1, line_2 = null, city, state, zip, country } = address;
  return {
    token: basketTokenOf(request),
    paymentToken: payment_token,
    email,
    address: { line_1, line_2, city, state, zip, country },
    fulfilment: fulfilment ?? 'partial',
    expectedTotal: expected_total ?? null,
  };
}

/** The basket's token is whose key it is, not what is asked for: it may be replaced in between. */
function senderOf(request: FastifyRequest, operation: string, { token: _, ...wish }: Checkout): Sender {
  const key = idempotencyKeyOf(request);
  return { key: key === null ? null : requestKey(operation, key, wish), departure: departureOf(request) };
}

function sendOutcome(
  request: FastifyRequest,
  reply: FastifyReply,
  { orderId, isReplay, outcome }: WaitedCheckout,
): FastifyReply {
  markReplayed(markPrivate(reply), isReplay).header('Location', orderPath(orderId));
  // Neither sold nor failed: what was read is older than what was told.
  if (!outcome || (!outcome.order && !outcome.error))
    return sendRefusal(request, reply, { kind: 'timeout', messages: ['The order is still being processed'] });
  if (outcome.order) return reply.code(201).send(outcome.order);
  return sendRefusal(request, reply, {
    kind: 'payment_required',
    messages: [outcome.error?.message ?? 'Payment failed'],
  });
}
