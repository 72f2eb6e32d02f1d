import type { FastifyInstance } from 'fastify';
import { Type } from 'typebox';
import { sendRefusal } from './problem.ts';
import { answers } from './schemas.ts';

const StatusSchema = Type.Object({ status: Type.String() });

/**
 * Probes for whoever watches the process: `/up` and `/health` while it serves at all, `/ready` while it should be sent
 * requests. `findObstacle` says what stands in the way, or null.
 */
export function healthRoutes(app: FastifyInstance, findObstacle: () => Promise<string | null>): void {
  for (const [path, operationId] of [
    ['/up', 'up'],
    ['/health', 'health'],
  ] as const) {
    app.get(
      path,
      {
        schema: {
          operationId,
          summary: 'Whether the process serves',
          tags: ['Probes'],
          response: answers(200, StatusSchema),
        },
      },
      async () => ({ status: 'ok' }),
    );
  }

  app.get(
    '/ready',
    {
      schema: {
        operationId: 'ready',
        summary: 'Whether the process should be sent requests',
        tags: ['Probes'],
        response: answers(200, StatusSchema),
      },
    },
    async (request, reply) => {
      const obstacle = await findObstacle();
      if (obstacle === null) return { status: 'ready' };
      return sendRefusal(request, reply, { kind: 'unavailable', messages: [obstacle] });
    },
  );
}
