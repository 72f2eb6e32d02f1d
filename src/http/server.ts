import cors from '@fastify/cors';
import Fastify, { type FastifyBaseLogger, type FastifyInstance, type FastifyReply, LogController } from 'fastify';
import { Refused } from '../shared/refusal.ts';
import { answerBrokenRequests } from './broken-requests.ts';
import { answerErrors, errorSender } from './errors.ts';
import { acceptJsonOnly, largestBodyBytes } from './json-body.ts';
import { originCheck, refuseForeignWrites } from './origins.ts';
import { refuseAmbiguousHead } from './request-head.ts';
import { extendValidator, refusalOfValidation, validatorOptions } from './validation.ts';

export type ServerOptions = Readonly<{ logger: FastifyBaseLogger; allowedOrigins: readonly string[] }>;

const headersTimeoutMs = 10_000;
const requestTimeoutMs = 20_000;
/** Above the 25 s for which a synchronous checkout waits. */
const handlerTimeoutMs = 40_000;
const idleSocketTimeoutMs = 60_000;
/** Above the usual 60 s of a balancer, so that it is never the server that closes first. */
const keepAliveTimeoutMs = 72_000;

/** A server with this project's limits and errors, and no routes yet. */
export function createServer(options: ServerOptions): FastifyInstance {
  const brokenRequests = answerBrokenRequests();
  const sendError = errorSender(options.logger);
  const app: FastifyInstance = Fastify({
    loggerInstance: options.logger,
    logController: new LogController({ disableRequestLogging: true }),
    bodyLimit: largestBodyBytes,
    requestTimeout: requestTimeoutMs,
    handlerTimeout: handlerTimeoutMs,
    connectionTimeout: idleSocketTimeoutMs,
    keepAliveTimeout: keepAliveTimeoutMs,
    http: {
      headersTimeout: headersTimeoutMs,
      connectionsCheckingInterval: 1_000,
      // Node would answer without a body; `refuseAmbiguousHead` looks at the host instead.
      requireHostHeader: false,
      // Clients that offer HTTP/2 with every request are served without it.
      shouldUpgradeCallback: (request) =>
        request.headers.upgrade?.toLowerCase() === 'websocket' && app.server.listenerCount('upgrade') > 0,
    },
    routerOptions: { ignoreTrailingSlash: true },
    ajv: { customOptions: validatorOptions, plugins: [extendValidator] },
    schemaErrorFormatter: refusalOfValidation,
    clientErrorHandler: brokenRequests.answer,
    frameworkErrors: (error, request, reply) => sendError(error, request, forbidSniffing(reply)),
  });
  brokenRequests.watch(app.server);
  acceptJsonOnly(app);
  answerErrors(app, sendError);
  app.addHook('onRequest', refuseAmbiguousHead);
  app.addHook('onRequest', refuseForeignWrites(originCheck(options.allowedOrigins)));
  app.addHook('onRequest', async (request) => refuseRepeatedParameters(request.query));
  app.addHook('onSend', async (_request, reply) => void forbidSniffing(reply));
  closeAfterLastAnswer(app);
  if (options.allowedOrigins.length > 0) allowOrigins(app, options.allowedOrigins);
  return app;
}

/** A connection that is kept alive after its answer would keep a server that is closing from its end. */
function closeAfterLastAnswer(app: FastifyInstance): void {
  let isClosing = false;
  app.addHook('preClose', async () => {
    isClosing = true;
  });
  app.addHook('onSend', async (_request, reply) => {
    if (isClosing) reply.header('Connection', 'close');
  });
}

function forbidSniffing(reply: FastifyReply): FastifyReply {
  return reply.header('X-Content-Type-Options', 'nosniff');
}

function allowOrigins(app: FastifyInstance, origins: readonly string[]): void {
  app.register(cors, {
    origin: [...origins],
    methods: ['GET', 'HEAD', 'POST'],
    allowedHeaders: [
      'Authorization',
      'Content-Type',
      'Accept',
      'If-None-Match',
      'If-Modified-Since',
      'Idempotency-Key',
    ],
    exposedHeaders: ['Shopping-Basket-ID', 'ETag', 'Location', 'Retry-After', 'Idempotent-Replayed'],
    maxAge: 600,
    // OPTIONS is answered by the routes: 204 with what is allowed, for a preflight and for anybody else.
    strictPreflight: false,
    preflightContinue: true,
  });
}

/** `?page=1&page=2` and `?page[]=1` mean different things to different programs; here they mean nothing. */
function refuseRepeatedParameters(query: unknown): void {
  for (const [name, value] of Object.entries(query ?? {}))
    if (Array.isArray(value) || name.includes('['))
      throw new Refused('bad_request', 'A query parameter is given more than once or as an array');
}
