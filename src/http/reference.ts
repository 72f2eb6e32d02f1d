import { readFileSync } from 'node:fs';
import type { SwaggerOptions } from '@fastify/swagger';
import scalar from '@scalar/fastify-api-reference';
import type { FastifyInstance } from 'fastify';

const manifest = new URL('../../package.json', import.meta.url);

/** What the OpenAPI document says beside the routes. */
export function describeApi(): SwaggerOptions {
  const { version } = JSON.parse(readFileSync(manifest, 'utf8')) as { version: string };
  return {
    // What has a name keeps it.
    refResolver: { buildLocalReference: ({ $id }, _base, _fragment, index) => String($id ?? `def-${index}`) },
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'ScaleCommerce',
        version,
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

/** Serves the document at `/openapi.json` and a page to read it at `/docs`, where `/` leads; both work without the internet. */
export async function referencePage(app: FastifyInstance): Promise<void> {
  // Made once, and the same bytes for all: it is large, and somebody may ask for it again and again.
  let document: Buffer | null = null;
  app.get('/openapi.json', { schema: { hide: true } }, async (_request, reply) => {
    document ??= Buffer.from(JSON.stringify(app.swagger()));
    return reply.type('application/json; charset=utf-8').send(document);
  });
  app.get('/', { schema: { hide: true } }, async (request, reply) =>
    // The router takes the target that stands for the whole server for this path.
    request.url === '*' ? reply.callNotFound() : reply.redirect('/docs/'),
  );
  await app.register(scalar, {
    routePrefix: '/docs',
    configuration: {
      url: '/openapi.json',
      pageTitle: 'ScaleCommerce API',
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
