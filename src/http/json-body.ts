import type { FastifyInstance, FastifyRequest } from 'fastify';
import { Refused } from '../shared/refusal.ts';

/** The largest body, in bytes. */
export const largestBodyBytes = 64 * 1_024;
const deepest = 32;
const mostValues = 1_000;

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** Makes JSON the only thing that can be sent; anything else is 415. An empty body counts as none. */
export function acceptJsonOnly(app: FastifyInstance): void {
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('application/json', { parseAs: 'buffer' }, (request, body: Buffer, done) => {
    try {
      refuseEncoded(request);
      done(null, body.length === 0 ? undefined : parseJson(body));
    } catch (error) {
      done(error as Error);
    }
  });
}

/** A small body can unpack to a huge one. */
function refuseEncoded(request: FastifyRequest): void {
  const encoding = request.headers['content-encoding'] ?? 'identity';
  if (encoding.toLowerCase() !== 'identity')
    throw new Refused('unsupported_media_type', 'Send the body as it is, without Content-Encoding');
}

/** Parses a JSON text (RFC 8259, no byte order mark). Throws {@link Refused} without repeating any of it. */
export function parseJson(bytes: Uint8Array): unknown {
  const value = parse(bytes);
  checkShape(value, 0, 1);
  return value;
}

function parse(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(decoder.decode(bytes));
  } catch {
    // biome-ignore lint/style/useErrorCause: the parser's message quotes the body, which may hold what must not be logged.
    throw new Refused('bad_request', 'Invalid JSON in the request body');
  }
}

/** Returns how many values there are with those within `value`. The depth is the sender's choice, as far as it is allowed. */
function checkShape(value: unknown, depth: number, valuesBefore: number): number {
  if (typeof value !== 'object' || value === null) return valuesBefore;
  refuseForgedPrototype(value);
  const children = Object.values(value);
  let values = valuesBefore + children.length;
  if (depth >= deepest || values > mostValues)
    throw new Refused('bad_request', 'The request body is nested too deeply or has too many values');
  for (const child of children) values = checkShape(child, depth + 1, values);
  return values;
}

function refuseForgedPrototype(value: object): void {
  const forged = Object.hasOwn(value, '__proto__') || (Object.hasOwn(value, 'constructor') && reachesPrototype(value));
  if (forged) throw new Refused('bad_request', 'The request body has a key that is not allowed');
}

function reachesPrototype(value: object): boolean {
  const { constructor: forged } = value as { constructor: unknown };
  return typeof forged === 'object' && forged !== null && Object.hasOwn(forged, 'prototype');
}
