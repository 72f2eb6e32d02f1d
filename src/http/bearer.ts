import type { FastifyRequest } from 'fastify';
import { isUuid } from '../shared/ids.ts';

/**
 * The basket token that a request carries: the last word of its Authorization header, whatever the scheme. A missing
 * or malformed one is no error, it only opens nothing.
 */
export function basketTokenOf(request: FastifyRequest): string | null {
  const word = request.headers.authorization?.trim().split(/\s+/).pop();
  return isUuid(word) ? word.toLowerCase() : null;
}
