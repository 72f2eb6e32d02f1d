import cors from '@fastify/cors';
import Fastify, { type FastifyBaseLogger, type FastifyInstance, type FastifyReply, LogController } from 'fastify';
import type { Refusal } from '../shared/refusal.ts';
import { answerBrokenRequests } from './broken-requests.ts';
import { answerInTime } from './deadline.ts';
import { answerErrors, errorSender, inPlainWords } from './errors.ts';
import { acceptJsonOnly, largestBodyBytes } from './json-body.ts';
import { followRequests, type OpenRequests } from './open-requests.ts';
import { originCheck, refusalOfForeignWrite } from './origins.ts';
import { sendRefusal } from './problem.ts';
import { refusalOfHead } from './request-head.ts';
import { extendValidator, refusalOfValidation, validatorOptions } from './validation.ts';

export type ServerOptions = Readonly<{ logger: FastifyBaseLogger; allowedOrigins: readonly string[] }>;

const headersTimeoutMs = 10_000;
const requestTimeoutMs = 20_000;
/** Above the 25 s for which a synchronous checkout waits. */
const deadline = { afterMs: 40_000, lookEveryMs: 1_000 };
const idleSocketTimeoutMs = 60_000;
/** Above the usual 60 s of a balancer, so that it is never the server that closes first. */
const keepAliveTimeoutMs = 72_000;

/** A server with this project's limits and errors, and no routes yet. */
export function createServer(options: ServerOptions): FastifyInstance {
  const brokenRequests = answerBrokenRequests();
  const sendError = errorSender(options.logger);
  const app: FastifyInstance = Fastify({
    loggerInstance: options.logger,
    // A logger for each request would cost as much as its answer; `errorSender` says which request it was.
    childLoggerFactory: (logger) => logger,
    logController: new LogController({ disableRequestLogging: true }),
    bodyLimit: largestBodyBytes,
    requestTimeout: requestTimeoutMs,
    connectionTimeout: idleSocketTimeoutMs,
    keepAliveTimeout: keepAliveTimeoutMs,
    // It would be answered past everything that an answer here has; `refuseOddRequests` does it instead.
    return503OnClosing: false,
    http: {
      headersTimeout: headersTimeoutMs,
      connectionsCheckingInterval: 1_000,
      // Node would answer without a body; `refusalOfHead` looks at the host instead.
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
  const open = followRequests(app);
  answerInTime(app, open, deadline);
  closeAfterLastAnswer(app, open);
  refuseOddRequests(app, options.allowedOrigins);
  if (options.allowedOrigins.length > 0) allowOrigins(app, options.allowedOrigins);
  return app;
}

/**
 * A connection that is kept alive after its answer would keep a server that is closing from its end. Where several
 * requests were sent on one, it ends after the last: their answers are on their way already.
 */
function closeAfterLastAnswer(app: FastifyInstance, open: OpenRequests): void {
  app.addHook('preClose', async () => {
    const lastOfSocket = new Map([...open.keys()].map((reply) => [reply.request.raw.socket, reply]));
    for (const reply of lastOfSocket.values()) reply.header('Connection', 'close');
  });
}

/** Returns what tells whether `app` has begun to close. */
function followClosing(app: FastifyInstance): () => boolean {
  let isClosing = false;
  app.addHook('preClose', async () => {
    isClosing = true;
  });
  return () => isClosing;
}

/** One hook, without a promise: each would cost every request some of its time. */
function refuseOddRequests(app: FastifyInstance, allowedOrigins: readonly string[]): void {
  const isAllowed = originCheck(allowedOrigins);
  const isClosing = followClosing(app);
  app.addHook('onRequest', (request, reply, done) => {
    forbidSniffing(reply);
    const ofHead = isClosing() ? inPlainWords('unavailable') : refusalOfHead(request);
    if (ofHead) reply.header('Connection', 'close');
    const refusal = ofHead ?? refusalOfForeignWrite(request, isAllowed) ?? refusalOfQuery(request.query);
    // First the parser reads on in what has come: it may find that none of it is a request.
    process.nextTick(refusal ? () => sendRefusal(request, reply, refusal) : done);
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
      'Last-Event-ID',
      'Prefer',
    ],
    exposedHeaders: [
      'Shopping-Basket-ID',
      'ETag',
      'Location',
      'Retry-After',
      'Idempotent-Replayed',
      'Preference-Applied',
    ],
    maxAge: 600,
    // OPTIONS is answered by the routes: 204 with what is allowed, for a preflight and for anybody else.
    strictPreflight: false,
    preflightContinue: true,
  });
}

/** `?page=1&page=2` and `?page[]=1` mean different things to different programs; here they mean nothing. */
function refusalOfQuery(query: unknown): Refusal | null {
  for (const [name, value] of Object.entries(query ?? {}))
    if (Array.isArray(value) || name.includes('['))
      return { kind: 'bad_request', messages: ['A query parameter is given more than once or as an array'] };
  return null;
}
