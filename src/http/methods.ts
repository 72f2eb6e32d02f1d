import { METHODS } from 'node:http';
import type { FastifyInstance, FastifyReply, FastifyRequest, HTTPMethods } from 'fastify';
import { sendRefusal } from './problem.ts';

/**
 * Lets `app` answer every HTTP method on its routes: OPTIONS with what is allowed, any other that a route does not
 * have with 405. Call before the routes are registered; returns what to call after them.
 */
export function answerEveryMethod(app: FastifyInstance): () => void {
  for (const method of METHODS)
    if (method !== 'CONNECT' && !app.supportedMethods.includes(method)) app.addHttpMethod(method, { hasBody: true });
  const methodsOf = new Map<string, Set<string>>();
  app.addHook('onRoute', (route) => {
    const methods = methodsOf.get(route.url) ?? new Set();
    methodsOf.set(route.url, methods);
    for (const method of [route.method].flat()) methods.add(method);
  });
  return () => {
    for (const [url, methods] of [...methodsOf]) if (!url.includes('*')) addRefusingRoute(app, url, [...methods]);
  };
}

function addRefusingRoute(app: FastifyInstance, url: string, allowed: readonly string[]): void {
  const others = app.supportedMethods.filter((method) => !allowed.includes(method)) as HTTPMethods[];
  const allow = [...allowed, 'OPTIONS'].join(', ');
  app.route({
    method: others,
    url,
    // Answered before a body is read or its type complained of.
    onRequest: async (request, reply) => refuse(request, reply),
    handler: refuse,
  });

  function refuse(request: FastifyRequest, reply: FastifyReply): FastifyReply {
    reply.header('Allow', allow);
    if (request.method === 'OPTIONS') return reply.code(204).send();
    const messages = [`${request.method} is not allowed here; use ${allowed.join(' or ')}`];
    return sendRefusal(request, reply, { kind: 'method_not_allowed', messages });
  }
}
