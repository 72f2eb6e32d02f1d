import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { Static } from 'typebox';
import { basketTokenOf } from '../../http/bearer.ts';
import { markPrivate } from '../../http/conditional.ts';
import { sendRefusal } from '../../http/problem.ts';
import { answers } from '../../http/schemas.ts';
import { OrderSchema } from '../orders/orders.schema.ts';
import { type OrderStatus, orderPath } from '../orders/orders.service.ts';
import { AcceptedSchema, CheckoutBody } from './checkout.schema.ts';
import { type Checkout, type CheckoutDesk, checkoutAndWait, startCheckout } from './checkout.service.ts';

type CheckoutRequest = FastifyRequest<{ Body: Static<typeof CheckoutBody> }>;

/** Checking out: V1 answers with the outcome, V2 at once. */
export function checkoutRoutes(app: FastifyInstance, desk: CheckoutDesk): void {
  app.post(
    '/api/v1/shopping_basket/checkout',
    {
      schema: {
        operationId: 'checkoutAndWait',
        summary: 'Check out and wait for the outcome',
        description: 'Answers 504 when there is none after 25 s; the order goes on, `Location` says where to ask.',
        tags: ['Checkout'],
        security: [{ basket: [] }],
        body: CheckoutBody,
        response: answers(201, OrderSchema, { Location: 'Where to ask after the order.' }),
      },
    },
    async (request: CheckoutRequest, reply) => {
      const result = await checkoutAndWait(desk, checkoutFrom(request));
      if (!result.ok) return sendRefusal(request, reply, result.refusal);
      return sendOutcome(request, reply, result.value.orderId, result.value.outcome);
    },
  );

  app.post(
    '/api/v2/shopping_basket/checkout',
    {
      schema: {
        operationId: 'checkout',
        summary: 'Check out; the outcome is notified',
        description: 'The outcome comes over `/cable` and from the order at `Location`.',
        tags: ['Checkout'],
        security: [{ basket: [] }],
        body: CheckoutBody,
        response: answers(202, AcceptedSchema, { Location: 'Where to ask after the order.' }),
      },
    },
    async (request: CheckoutRequest, reply) => {
      const checkout = checkoutFrom(request);
      const result = await startCheckout(desk, checkout);
      if (!result.ok) return sendRefusal(request, reply, result.refusal);
      return markPrivate(reply)
        .code(202)
        .header('Location', orderPath(result.value.orderId))
        .send({
          message: 'Checkout processing started',
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

function sendOutcome(
  request: FastifyRequest,
  reply: FastifyReply,
  orderId: string,
  outcome: OrderStatus | null,
): FastifyReply {
  markPrivate(reply).header('Location', orderPath(orderId));
  if (!outcome)
    return sendRefusal(request, reply, { kind: 'timeout', messages: ['The order is still being processed'] });
  if (outcome.order) return reply.code(201).send(outcome.order);
  return sendRefusal(request, reply, {
    kind: 'payment_required',
    messages: [outcome.error?.message ?? 'Payment failed'],
  });
}
