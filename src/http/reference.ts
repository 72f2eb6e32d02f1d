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
      tags: ['Products', 'Basket', 'Checkout', 'Orders', 'Probes'].map((name) => ({ name })),
      components: {
        securitySchemes: {
          basket: { type: 'http', scheme: 'bearer', description: "The basket's token, from `Shopping-Basket-ID`." },
        },
      },
    },
    // What has no tag is for machines: the document itself, and the refusal of other methods.
    hideUntagged: true,
  };
}

/** Serves the document at `/openapi.json` and a page to read it at `/docs`; both work without the internet. */
export async function referencePage(app: FastifyInstance): Promise<void> {
  app.get('/openapi.json', { schema: { hide: true } }, async () => app.swagger());
  await app.register(scalar, {
    routePrefix: '/docs',
    configuration: {
      url: '/openapi.json',
      title: 'ScaleCommerce API',
      // Everything that would call somebody else's server is off.
      withDefaultFonts: false,
      telemetry: false,
      showDeveloperTools: 'never',
      hideClientButton: true,
      agent: { disabled: true },
      mcp: { disabled: true },
    },
  });
}
