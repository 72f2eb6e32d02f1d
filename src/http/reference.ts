import type { SwaggerOptions } from '@fastify/swagger';
import scalar from '@scalar/fastify-api-reference';
import type { FastifyInstance } from 'fastify';

/** What the OpenAPI document says beside the routes. */
export function describeApi(): SwaggerOptions {
  return {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'ScaleCommerce',
        version: '2.0.0',
        description:
          'A headless commerce backend: catalogue, baskets, checkout, orders. Live outcomes come over `/cable` (Action Cable).',
      },
      components: {
        securitySchemes: {
          basket: { type: 'http', scheme: 'bearer', description: "The basket's token, from `Shopping-Basket-ID`." },
        },
      },
    },
    // Fastify adds a HEAD route beside every GET; the document need not say everything twice.
    hideUntagged: true,
  };
}

/** Serves the document at `/openapi.json` and a page to read it at `/docs`; both work without the internet. */
export async function referencePage(app: FastifyInstance): Promise<void> {
  app.get('/openapi.json', async () => app.swagger());
  await app.register(scalar, {
    routePrefix: '/docs',
    configuration: { url: '/openapi.json', title: 'ScaleCommerce API', withDefaultFonts: false, telemetry: false },
  });
}
