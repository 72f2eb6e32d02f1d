import type { FastifyReply, FastifyRequest } from 'fastify';
import { Type } from 'typebox';
import { Refused } from '../shared/refusal.ts';
import { basketTokenOf } from './bearer.ts';
import { sendRefusal } from './problem.ts';

const bareKey = /^[\x21\x23-\x7e][\x21-\x7e]{0,254}$/;
/** A string of structured fields (RFC 9651), within which a quote and a backslash are escaped. */
const quotedKey = /^"((?:[\x21\x23-\x5b\x5d-\x7e]|\\["\\]){1,255})"$/;
const retryAfterSeconds = 1;

/** What a route that honours keys says of its request's headers. */
export const IdempotencyHeaders = Type.Object({
  'Idempotency-Key': Type.Optional(
    Type.String({
      description:
        'Any 1 to 255 visible ASCII characters, bare or as a quoted string, that the client makes up for one request. The same request with the same key, for the same basket and within 24 hours, is carried out once and answered alike; another one is refused with 422. Ignored without a known basket.',
      examples: ['"8e03978e-40d5-43dd-bc93-6894a57f9324"'],
    }),
  ),
});

/** What a route that honours keys says of its answer's headers. */
export const replayedHeader = { 'Idempotent-Replayed': '`true` when this is the answer to an earlier request.' };

/** The key that a request carries, or null. Throws {@link Refused} when it is empty, too long, given twice or else none. */
export function idempotencyKeyOf(request: FastifyRequest): string | null {
  const header = request.headers['idempotency-key'];
  if (header === undefined) return null;
  // One that is given twice arrives joined by a comma and a space, and spaces are not allowed.
  const text = String(header);
  const key = bareKey.test(text) ? text : quotedKey.exec(text)?.[1]?.replaceAll(/\\(.)/g, '$1');
  if (key !== undefined) return key;
  throw new Refused(
    'bad_request',
    'Idempotency-Key must be given once, as 1 to 255 visible ASCII characters, bare or as a quoted string',
  );
}

/** A hook for before the body is looked at: turns away a key that is none. */
export function refuseMalformedKey(request: FastifyRequest, _reply: FastifyReply, done: () => void): void {
  idempotencyKeyOf(request);
  done();
}

/** Marks an answer as that to an earlier request. */
export function markReplayed(reply: FastifyReply, isReplay: boolean): FastifyReply {
  return isReplay ? reply.header('Idempotent-Replayed', 'true') : reply;
}

/** The requests with a key that this process is carrying out now. */
export class KeysUnderWay {
  readonly #scopes = new Set<string>();

  /** Runs `work`, unless a request with the same key from the same basket to the same route is under way: null then. */
  run<T>(request: FastifyRequest, work: () => Promise<T>): Promise<T | null> {
    const scope = scopeOf(request);
    return scope === null ? work() : this.#runAlone(scope, work);
  }

  async #runAlone<T>(scope: string, work: () => Promise<T>): Promise<T | null> {
    if (this.#scopes.has(scope)) return null;
    this.#scopes.add(scope);
    try {
      return await work();
    } finally {
      this.#scopes.delete(scope);
    }
  }
}

/** Answers a request whose twin is under way. */
export function sendKeyUnderWay(request: FastifyRequest, reply: FastifyReply): FastifyReply {
  return sendRefusal(request, reply.header('Retry-After', retryAfterSeconds), {
    kind: 'conflict',
    messages: ['A request with this Idempotency-Key is being processed'],
  });
}

function scopeOf(request: FastifyRequest): string | null {
  const key = idempotencyKeyOf(request);
  const token = key === null ? null : basketTokenOf(request);
  return token === null ? null : `${request.method} ${request.routeOptions.url} ${token} ${key}`;
}
