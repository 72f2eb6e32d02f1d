import type { FastifyBaseLogger, FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { reportRarely } from '../platform/report-rarely.ts';
import { type Refusal, type RefusalKind, Refused, Unavailable } from '../shared/refusal.ts';
import { kindOfStatus, nameErrorBodies, sendRefusal } from './problem.ts';

const plainWords: Partial<Record<RefusalKind, string>> = {
  bad_request: 'The request cannot be read',
  not_found: 'Not found',
  request_timeout: 'The request took too long to arrive',
  payload_too_large: 'The request body is larger than 64 KB',
  uri_too_long: 'The address is too long',
  unsupported_media_type: 'Send a JSON body with Content-Type: application/json',
  headers_too_large: 'The request headers are larger than 16 KB',
  unavailable: 'The service is busy, please try again',
  timeout: 'The request took too long; its outcome is unknown',
};

/** How an error is answered. */
export type SendError = (error: unknown, request: FastifyRequest, reply: FastifyReply) => FastifyReply;

/** Answers everything that goes wrong: one place that decides what an error looks like from outside. */
export function answerErrors(app: FastifyInstance, sendError: SendError): void {
  nameErrorBodies(app);
  app.setErrorHandler<FastifyError>(sendError);
  app.setNotFoundHandler((request, reply) => sendRefusal(request, reply, inPlainWords('not_found')));
}

/**
 * Answers with what an error means to the client, and nothing of its cause. That something cannot be had is told in the
 * log ever more rarely: in an outage it is so for every request.
 */
export function errorSender(logger: FastifyBaseLogger): SendError {
  const tellOutage = reportRarely((err, untold) => logger.warn({ err, untold }, 'Requests are answered with 503'));
  return (error, request, reply) => {
    if (error instanceof Refused) return sendRefusal(request, keepConnection(request, reply), error.refusal);
    if (error instanceof Unavailable) {
      tellOutage(error);
      return sendRefusal(request, reply.header('Retry-After', error.retryAfterSeconds), inPlainWords('unavailable'));
    }
    const kind = kindOfError(error);
    if (kind === 'internal')
      logger.error({ reqId: request.id, err: error, route: request.routeOptions.url }, 'request failed');
    return sendRefusal(request, reply, inPlainWords(kind));
  };
}

/**
 * Fastify ends the connection after every body that cannot be used, as there may be more of it. What is refused by its
 * content was read to its end, so that the next request can follow, if the client wants to and the server is not closing.
 */
function keepConnection(request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const goesOn = reply.hasHeader('Connection') && reply.raw.shouldKeepAlive && request.server.server.listening;
  return goesOn ? reply.header('Connection', 'keep-alive') : reply;
}

function kindOfError(error: unknown): RefusalKind {
  if (!(error instanceof Error) || !('code' in error)) return 'internal';
  const statusCode = 'statusCode' in error ? Number(error.statusCode) : 500;
  // The client went away in the middle of its body: Fastify adds the status, and nobody reads the answer.
  if (error.code === 'ECONNRESET' && statusCode === 400) return 'bad_request';
  if (!String(error.code).startsWith('FST_')) return 'internal';
  if (error.code === 'FST_ERR_MAX_PARAM_LENGTH' || error.code === 'FST_ERR_PARAM_TOO_LONG') return 'uri_too_long';
  return kindOfStatus(statusCode);
}

/** The refusal of that kind where nothing more is known. */
export function inPlainWords(kind: RefusalKind): Refusal {
  return { kind, messages: [plainWords[kind] ?? 'Internal server error'] };
}
