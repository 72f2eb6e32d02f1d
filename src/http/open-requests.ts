import type { FastifyInstance, FastifyReply } from 'fastify';

/**
 * The requests of a server whose answer is not written yet and may still be read, each with the time of its arrival
 * (`performance.now()`), the oldest first.
 */
export type OpenRequests = ReadonlyMap<FastifyReply, number>;

const decorator = 'openRequests';

/** Follows the requests of `app`. Call before any other hook is added: whoever leaves must not be missed. */
export function followRequests(app: FastifyInstance): OpenRequests {
  const open = new Map<FastifyReply, number>();
  app.decorate(decorator, open);
  app.addHook('onRequest', (_request, reply, done) => {
    open.set(reply, performance.now());
    // Told of every end, also of a client that goes away; Fastify's `onRequestAbort` is not, once the body is read.
    reply.raw.on('close', () => open.delete(reply));
    done();
  });
  return open;
}

/** Those that {@link followRequests} follows for `app`. */
export function openRequestsOf(app: FastifyInstance): OpenRequests {
  return app.getDecorator<OpenRequests>(decorator);
}
