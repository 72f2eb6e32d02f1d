import type { FastifyInstance, FastifyRequest } from 'fastify';
import type { Static } from 'typebox';
import { basketTokenOf } from '../../http/bearer.ts';
import { markPrivate, sendConditional } from '../../http/conditional.ts';
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
import { answers, conditionalAnswers } from '../../http/schemas.ts';
import { requestKey } from '../idempotency/idempotency.service.ts';
import { BasketSchema, SetQuantityBody } from './basket.schema.ts';
import { type Baskets, getBasket, setQuantity } from './basket.service.ts';

type SetQuantityRequest = FastifyRequest<{ Body: Static<typeof SetQuantityBody> }>;

const setQuantityErrors = {
  400: ['Missing parameter: product'],
  404: [`Couldn't find Product with 'id'="019a2b3c-0000-7000-8000-000000000000"`],
  409: ['A request with this Idempotency-Key is being processed'],
  422: [
    'Quantity must be an integer',
    'Quantity must be greater than or equal to 0',
    'Quantity must be less than or equal to 10000',
    'Quantity exceeds available stock.',
    'Basket is full',
    'Idempotency-Key was used before with another request',
  ],
  429: ['Too many changes to this basket are waiting'],
};

/** The basket: the same in both versions of the API. */
export function basketRoutes(app: FastifyInstance, baskets: Baskets): void {
  const underWay = new KeysUnderWay();
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
        preValidation: refuseMalformedKey,
        schema: {
          operationId: `setQuantity${version.toUpperCase()}`,
          summary: `Set the quantity of a product in the basket (${version.toUpperCase()})`,
          description: 'Without a known token a basket is made; its token comes in the header `Shopping-Basket-ID`.',
          tags: ['Basket'],
          security: [{}, { basket: [] }],
          headers: IdempotencyHeaders,
          body: SetQuantityBody,
          response: answers(
            201,
            BasketSchema,
            { 'Shopping-Basket-ID': 'The token of a basket that was made.', ...replayedHeader },
            setQuantityErrors,
          ),
        },
      },
      async (request: SetQuantityRequest, reply) => {
        const result = await underWay.run(request, () => setQuantityAsAsked(baskets, request, version));
        if (result === null) return sendKeyUnderWay(request, reply);
        if (!result.ok) return sendRefusal(request, reply, result.refusal);
        const { basket, newToken, isReplay } = result.value;
        if (newToken) reply.header('Shopping-Basket-ID', newToken);
        return markReplayed(markPrivate(reply), isReplay).code(201).send(basket);
      },
    );
  }
}

function setQuantityAsAsked(
  baskets: Baskets,
  request: SetQuantityRequest,
  version: string,
): ReturnType<typeof setQuantity> {
  const { product_id, quantity } = request.body.product;
  const name = idempotencyKeyOf(request);
  const key =
    name === null
      ? null
      : requestKey(`setQuantity ${version}`, name, { product_id: String(product_id).toLowerCase(), quantity });
  return setQuantity(baskets, basketTokenOf(request), product_id, quantity, departureOf(request), key);
}
