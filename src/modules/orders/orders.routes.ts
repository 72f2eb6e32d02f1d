import type { KeyObject } from 'node:crypto';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import type { Static } from 'typebox';
import { basketTokenOf } from '../../http/bearer.ts';
import { markPrivate, sendConditional } from '../../http/conditional.ts';
import { departureOf } from '../../http/departure.ts';
import { sendRefusal } from '../../http/problem.ts';
import { conditionalAnswers } from '../../http/schemas.ts';
import type { Reader } from '../../platform/db.ts';
import { OrderParams, OrderStatusSchema } from './orders.schema.ts';
import { getOrderOfBasket } from './orders.service.ts';
import { eventsPath } from './tickets.service.ts';

type OrderRequest = FastifyRequest<{ Params: Static<typeof OrderParams> }>;

export type OrderRoutesOptions = Readonly<{ reader: Reader; ticketKey: KeyObject }>;

/** Asking after an order. */
export function orderRoutes(app: FastifyInstance, { reader, ticketKey }: OrderRoutesOptions): void {
  app.get(
    '/api/v2/orders/:id',
    {
      schema: {
        operationId: 'getOrder',
        summary: 'How far an order has come',
        description: 'For whoever holds the token of the basket it came from; anybody else gets 404.',
        tags: ['Orders'],
        security: [{ basket: [] }],
        params: OrderParams,
        response: conditionalAnswers(OrderStatusSchema, { 404: [`Couldn't find Order with 'id'="1"`] }),
      },
    },
    async (request: OrderRequest, reply) => {
      const result = await getOrderOfBasket(reader, request.params.id, basketTokenOf(request), departureOf(request));
      if (!result.ok) return sendRefusal(request, reply, result.refusal);
      return sendConditional(request, markPrivate(reply), {
        ...result.value,
        events_url: eventsPath(ticketKey, result.value.id),
      });
    },
  );
}
