import type { Socket } from 'node:net';
import type { FastifyInstance, FastifyReply } from 'fastify';

/**
 * The requests of a server whose answer is not written yet and may still be read, each with the time of its arrival
 * (`performance.now()`), the oldest first.
 */
export type OpenRequests = ReadonlyMap<FastifyReply, number>;

const decorator = 'openRequests';

/** Who sends so many requests without having read an answer means no good: all those answers would be kept for it. */
const mostPerConnection = 100;

/**
 * Follows the requests of `app`, and cuts connections that have too many of them open. Call before any other hook is added:
 * whoever leaves must not be missed.
 */
export function followRequests(app: FastifyInstance): OpenRequests {
  const open = new Map<FastifyReply, number>();
  const ofConnection = new WeakMap<Socket, number>();
  app.decorate(decorator, open);
  app.addHook('onRequest', (request, reply, done) => {
    const { socket } = request.raw;
    const openBefore = ofConnection.get(socket) ?? 0;
    if (openBefore >= mostPerConnection) return void socket.destroy();
    ofConnection.set(socket, openBefore + 1);
    open.set(reply, performance.now());
    // Told of every end, also of a client that goes away; Fastify's `onRequestAbort` is not, once the body is read.
    reply.raw.on('close', () => {
      ofConnection.set(socket, (ofConnection.get(socket) ?? 1) - 1);
      open.delete(reply);
    });
    done();
  });
  return open;
}

/** Those that {@link followRequests} follows for `app`. */
export function openRequestsOf(app: FastifyInstance): OpenRequests {
  return app.getDecorator<OpenRequests>(decorator);
}
