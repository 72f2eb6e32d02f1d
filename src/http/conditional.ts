import { createHash } from 'node:crypto';
import type { FastifyReply, FastifyRequest } from 'fastify';

/** How old a change must be before its second is sent: by then no later change can fall into the same second. */
const settledAfterMs = 10_000;

export type Validity = Readonly<{ changedAt: Date; readAt: Date }>;

/**
 * Answers 200 with `document`, serialised by the route's schema, and a strong ETag of those bytes; or 304 when the
 * client has them already (RFC 9110, section 13). With `validity`, also a Last-Modified, once that is certain.
 */
export function sendConditional(
  request: FastifyRequest,
  reply: FastifyReply,
  document: unknown,
  validity?: Validity,
): FastifyReply {
  reply.code(200);
  const body = String(reply.serialize(document));
  const etag = etagOf(body);
  const lastModified = validity && isSettled(validity) ? wholeSecond(validity.changedAt) : null;
  reply.header('ETag', etag);
  if (lastModified) reply.header('Last-Modified', lastModified.toUTCString());
  if (isFresh(request, etag, lastModified)) return reply.code(304).send();
  return reply.type('application/json; charset=utf-8').serializer(String).send(body);
}

/** Whether the client has something that `document` has taken the place of; false when it does not say what it has. */
export function hasOutdated(request: FastifyRequest, reply: FastifyReply, document: unknown): boolean {
  const noneMatch = request.headers['if-none-match'];
  return noneMatch !== undefined && !matches(noneMatch, etagOf(String(reply.serialize(document))));
}

/** Marks an answer as one that only who asked may keep, and that depends on who asked. */
export function markPrivate(reply: FastifyReply): FastifyReply {
  return addVary(reply.header('Cache-Control', 'private, no-cache'), 'Authorization');
}

/** Marks an answer as one that anybody may keep but must ask about before using it again. */
export function markPublic(reply: FastifyReply): FastifyReply {
  return reply.header('Cache-Control', 'public, no-cache');
}

/** Adds a request header that the answer depends on. */
export function addVary(reply: FastifyReply, field: string): FastifyReply {
  const present = reply.getHeader('Vary');
  return reply.header('Vary', present ? `${present}, ${field}` : field);
}

function etagOf(body: string): string {
  return `"${createHash('sha256').update(body).digest('base64url').slice(0, 27)}"`;
}

/** If-Modified-Since counts only where If-None-Match is absent. */
function isFresh(request: FastifyRequest, etag: string, lastModified: Date | null): boolean {
  const noneMatch = request.headers['if-none-match'];
  if (noneMatch !== undefined) return matches(noneMatch, etag);
  const since = httpDate(request.headers['if-modified-since']);
  return since !== null && lastModified !== null && lastModified <= since;
}

/** A date as HTTP writes it (RFC 9110, section 5.6.7), and no other: `Date.parse` takes `9999` for a date, too. */
function httpDate(text: string | undefined): Date | null {
  const date = new Date(text ?? Number.NaN);
  return !Number.isNaN(date.getTime()) && date.toUTCString() === text ? date : null;
}

/** The weak comparison of RFC 9110, section 8.8.3.2. */
function matches(noneMatch: string, etag: string): boolean {
  const tags = noneMatch.split(',').map((tag) => tag.trim().replace(/^W\//, ''));
  return tags.includes('*') || tags.includes(etag);
}

function isSettled({ changedAt, readAt }: Validity): boolean {
  return readAt.getTime() - wholeSecond(changedAt).getTime() >= settledAfterMs + 1_000;
}

function wholeSecond(time: Date): Date {
  return new Date(Math.floor(time.getTime() / 1_000) * 1_000);
}
