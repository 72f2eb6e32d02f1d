import { STATUS_CODES } from 'node:http';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { Type } from 'typebox';
import type { Refusal, RefusalKind } from '../shared/refusal.ts';

const statusCodes: Readonly<Record<RefusalKind, number>> = {
  bad_request: 400,
  payment_required: 402,
  forbidden: 403,
  not_found: 404,
  method_not_allowed: 405,
  request_timeout: 408,
  conflict: 409,
  payload_too_large: 413,
  uri_too_long: 414,
  unsupported_media_type: 415,
  unprocessable: 422,
  too_many_requests: 429,
  headers_too_large: 431,
  internal: 500,
  unavailable: 503,
  timeout: 504,
};

const retryAfterSeconds = 1;

/** What every error answer looks like. */
const ErrorSchema = Type.Object(
  {
    error: Type.Object({
      code: Type.Integer({ description: 'The HTTP status.' }),
      messages: Type.Array(Type.String()),
    }),
  },
  { $id: 'Error', description: 'An error. Send `Accept: application/problem+json` to get it as RFC 9457 instead.' },
);

const ProblemSchema = Type.Object(
  {
    type: Type.String(),
    title: Type.String(),
    status: Type.Integer(),
    detail: Type.String({ description: 'The messages in one line.' }),
    messages: Type.Array(Type.String()),
  },
  { $id: 'Problem', description: 'An error as problem details (RFC 9457).' },
);

/** Makes the bodies of errors known to `app` by name, for its description. */
export function nameErrorBodies(app: FastifyInstance): void {
  app.addSchema(ErrorSchema).addSchema(ProblemSchema);
}

/** The HTTP status of a kind of refusal. */
export function statusCodeOf(kind: RefusalKind): number {
  return statusCodes[kind];
}

/** The kind of refusal that stands for an HTTP status from elsewhere; what is unknown is an internal fault. */
export function kindOfStatus(statusCode: number): RefusalKind {
  const found = Object.entries(statusCodes).find(([, code]) => code === statusCode);
  return found ? (found[0] as RefusalKind) : statusCode >= 400 && statusCode < 500 ? 'bad_request' : 'internal';
}

/** The body of an error answer. */
export function errorBody(
  statusCode: number,
  messages: readonly string[],
): { error: { code: number; messages: string[] } } {
  return { error: { code: statusCode, messages: [...messages] } };
}

/** Answers with a refusal: as the contract says, or as problem details (RFC 9457) for whoever accepts those. */
export function sendRefusal(request: FastifyRequest, reply: FastifyReply, refusal: Refusal): FastifyReply {
  const statusCode = statusCodeOf(refusal.kind);
  reply.code(statusCode).header('Cache-Control', 'no-store');
  if ((statusCode === 503 || statusCode === 429) && !reply.hasHeader('Retry-After'))
    reply.header('Retry-After', retryAfterSeconds);
  if (!acceptsProblemDetails(request))
    return sendJson(reply, 'application/json; charset=utf-8', errorBody(statusCode, refusal.messages));
  return sendJson(reply, 'application/problem+json', {
    type: 'about:blank',
    title: STATUS_CODES[statusCode],
    status: statusCode,
    detail: refusal.messages.join('; '),
    messages: refusal.messages,
  });
}

/** Past the compiled serialisers, which know the answers of success only. */
function sendJson(reply: FastifyReply, type: string, body: object): FastifyReply {
  return reply.type(type).serializer(String).send(JSON.stringify(body));
}

function acceptsProblemDetails(request: FastifyRequest): boolean {
  return (request.headers.accept ?? '').toLowerCase().includes('application/problem+json');
}
