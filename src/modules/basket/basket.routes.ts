import type { FastifyInstance, FastifyRequest } from 'fastify';
import type { Static } from 'typebox';
import { basketTokenOf } from '../../http/bearer.ts';
import { markPrivate, sendConditional } from '../../http/conditional.ts';
import { departureOf } from '../../http/departure.ts';
import { sendRefusal } from '../../http/problem.ts';
import { answers, conditionalAnswers } from '../../http/schemas.ts';
import { BasketSchema, SetQuantityBody } from './basket.schema.ts';
import { type Baskets, getBasket, setQuantity } from './basket.service.ts';

type SetQuantityRequest = FastifyRequest<{ Body: Static<typeof SetQuantityBody> }>;

/** The basket: the same in both versions of the API. */
export function basketRoutes(app: FastifyInstance, baskets: Baskets): void {
  for (const version of ['v1', 'v2'] as const) {
    app.get(
      `/api/${version}/shopping_basket`,
      {
        schema: {
          operationId: `getBasket${version.toUpperCase()}`,
          summary: `The basket; an empty one without a known token (${version.toUpperCase()})`,
          tags: ['Basket'],
          security: [{}, { basket: [] }],
          response: conditionalAnswers(BasketSchema),
        },
      },
      async (request, reply) =>
        sendConditional(
          request,
          markPrivate(reply),
          await getBasket(baskets, basketTokenOf(request), departureOf(request)),
        ),
    );

    app.post(
      `/api/${version}/shopping_basket/products`,
      {
        schema: {
          operationId: `setQuantity${version.toUpperCase()}`,
          summary: `Set the quantity of a product in the basket (${version.toUpperCase()})`,
          description: 'Without a known token a basket is made; its token comes in the header `Shopping-Basket-ID`.',
          tags: ['Basket'],
          security: [{}, { basket: [] }],
          body: SetQuantityBody,
          response: answers(201, BasketSchema, { 'Shopping-Basket-ID': 'The token of a basket that was made.' }),
        },
      },
      async (request: SetQuantityRequest, reply) => {
        const { product_id, quantity } = request.body.product;
        const result = await setQuantity(baskets, basketTokenOf(request), product_id, quantity, departureOf(request));
        if (!result.ok) return sendRefusal(request, reply, result.refusal);
        if (result.value.newToken) reply.header('Shopping-Basket-ID', result.value.newToken);
        return markPrivate(reply).code(201).send(result.value.basket);
      },
    );
  }
}
