/** The closed set of reasons for which a request is turned down. Mapped once, to HTTP, in `http/problem.ts`. */
export type RefusalKind =
  | 'bad_request'
  | 'payment_required'
  | 'forbidden'
  | 'not_found'
  | 'method_not_allowed'
  | 'request_timeout'
  | 'conflict'
  | 'payload_too_large'
  | 'uri_too_long'
  | 'unsupported_media_type'
  | 'unprocessable'
  | 'too_many_requests'
  | 'headers_too_large'
  | 'internal'
  | 'unavailable'
  | 'timeout';

/** A "no" of the business: a value, not an exception. Its messages are for the client to read. */
export type Refusal = Readonly<{ kind: RefusalKind; messages: readonly string[] }>;

/** What a service answers: a value, or why there is none. */
export type Result<T> = Readonly<{ ok: true; value: T }> | Readonly<{ ok: false; refusal: Refusal }>;

/** A result that carries `value`. */
export function accepted<T>(value: T): Result<T> {
  return { ok: true, value };
}

/** A result that carries no value but the reason why. */
export function refused(kind: RefusalKind, ...messages: string[]): Readonly<{ ok: false; refusal: Refusal }> {
  return { ok: false, refusal: { kind, messages } };
}

/** Something that is needed does not answer: no fault of the request, and none of this program. */
export class Outage extends Error {}

/**
 * Thrown where something that is needed cannot be had now (the database, a place in a line): the request took
 * nothing and may be repeated after `retryAfterSeconds`.
 */
export class Unavailable extends Outage {
  readonly retryAfterSeconds: number;

  constructor(message: string, options: { retryAfterSeconds?: number; cause?: unknown } = {}) {
    super(message, { cause: options.cause });
    this.name = 'Unavailable';
    this.retryAfterSeconds = options.retryAfterSeconds ?? 1;
  }
}

/** Thrown at the edge where a request cannot be read at all: answered as its refusal says. */
export class Refused extends Error {
  readonly refusal: Refusal;

  constructor(kind: RefusalKind, ...messages: string[]) {
    super(messages.join('; '));
    this.name = 'Refused';
    this.refusal = { kind, messages };
  }
}
