import type { FastifyInstance } from 'fastify';
import { Type } from 'typebox';
import { sendRefusal } from './problem.ts';
import { answers } from './schemas.ts';

const StatusSchema = Type.Object({ status: Type.String() }, { description: 'Yes. An error, or no answer, means no.' });

const obstacles = {
  503: ['The process is shutting down', 'The database cannot be reached', 'The database does not answer in time'],
};

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
        response: answers(200, StatusSchema, {}, obstacles),
      },
    },
    async (request, reply) => {
      const obstacle = await findObstacle();
      if (obstacle === null) return { status: 'ready' };
      return sendRefusal(request, reply, { kind: 'unavailable', messages: [obstacle] });
    },
  );
}
