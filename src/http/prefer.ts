import type { FastifyRequest } from 'fastify';

const waitPattern = /^\s*wait\s*=\s*"?(\d+)"?\s*$/i;

/**
 * For how many seconds the client would wait for a better answer (`Prefer: wait=N`, RFC 7240, section 4.3), `most` at
 * the most; null when it does not say. Where it says so several times, the first counts.
 */
export function preferredWaitSeconds(request: FastifyRequest, most: number): number | null {
  const preferences = [request.headers.prefer ?? []].flat().join(',').split(',');
  const waits = preferences.map((preference) => waitPattern.exec(preference.split(';', 1)[0] ?? '')?.[1]);
  const seconds = waits.find((wait) => wait !== undefined);
  return seconds === undefined ? null : Math.min(Number(seconds), most);
}
