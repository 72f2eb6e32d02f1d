import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { Static } from 'typebox';
import { markPublic, sendConditional } from '../../http/conditional.ts';
import { sendRefusal } from '../../http/problem.ts';
import { conditionalAnswers } from '../../http/schemas.ts';
import { KeyedPageSchema, NumberedPageSchema, PageQuery, ProductParams, ProductSchema } from './catalog.schema.ts';
import {
  type Catalog,
  type Dated,
  getKeyedPage,
  getNumberedPage,
  getProduct,
  pageNumberFrom,
} from './catalog.service.ts';

type PageRequest = FastifyRequest<{ Querystring: Static<typeof PageQuery> }>;
type ProductRequest = FastifyRequest<{ Params: Static<typeof ProductParams> }>;

const twoPages = 'A query parameter is given more than once or as an array';
const noSuchProduct = { 404: [`Couldn't find Product with 'id'="1"`] };

/** Browsing: pages by number (V1) and by key (V2), and single products. */
export function catalogRoutes(app: FastifyInstance, catalog: Catalog): void {
  app.get(
    '/api/v1/products',
    {
      schema: {
        operationId: 'listProductsByNumber',
        summary: 'A page of products, by its number',
        tags: ['Products'],
        querystring: PageQuery,
        response: conditionalAnswers(NumberedPageSchema, { 400: [twoPages] }),
      },
    },
    async (request: PageRequest, reply) =>
      sendDated(request, reply, await getNumberedPage(catalog, pageNumberFrom(request.query.page))),
  );

  app.get(
    '/api/v2/products',
    {
      schema: {
        operationId: 'listProductsByKey',
        summary: 'A page of products, by its key',
        tags: ['Products'],
        querystring: PageQuery,
        response: conditionalAnswers(KeyedPageSchema, { 400: ['Invalid page key', twoPages] }),
      },
    },
    async (request: PageRequest, reply) => {
      const result = await getKeyedPage(catalog, request.query.page);
      return result.ok ? sendDated(request, reply, result.value) : sendRefusal(request, reply, result.refusal);
    },
  );

  for (const version of ['v1', 'v2'] as const) {
    app.get(
      `/api/${version}/products/:id`,
      {
        schema: {
          operationId: `getProduct${version.toUpperCase()}`,
          summary: `One product (${version.toUpperCase()})`,
          tags: ['Products'],
          params: ProductParams,
          response: conditionalAnswers(ProductSchema, noSuchProduct),
        },
      },
      async (request: ProductRequest, reply) => {
        const result = await getProduct(catalog, request.params.id);
        return result.ok ? sendDated(request, reply, result.value) : sendRefusal(request, reply, result.refusal);
      },
    );
  }
}

function sendDated(request: FastifyRequest, reply: FastifyReply, dated: Dated<unknown>): FastifyReply {
  return sendConditional(request, markPublic(reply), dated.document, dated);
}
