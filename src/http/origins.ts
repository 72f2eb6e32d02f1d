import type { FastifyReply, FastifyRequest } from 'fastify';
import { sendRefusal } from './problem.ts';

export type OriginCheck = (origin: string | undefined, host: string | undefined) => boolean;

/**
 * Whether a page of that origin may write or listen: one of the same host, or one that is listed. What sends no
 * Origin is no browser. `null`, the origin of sandboxed pages and local files, is nobody's.
 */
export function originCheck(allowed: readonly string[]): OriginCheck {
  return (origin, host) => {
    if (origin === undefined) return true;
    return allowed.includes(origin) || isOfHost(origin, host);
  };
}

/** Both are read as parts of an address, so that letter case and the port that goes without saying do not matter. */
function isOfHost(origin: string, host: string | undefined): boolean {
  if (!host || !URL.canParse(origin)) return false;
  const { protocol, host: originHost } = new URL(origin);
  const address = `${protocol}//${host}`;
  return originHost !== '' && URL.canParse(address) && new URL(address).host === originHost;
}

/** A hook that turns away writes of pages from elsewhere (cross-site request forgery). */
export function refuseForeignWrites(isAllowed: OriginCheck) {
  return async (request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply | undefined> => {
    const isSafe = request.method === 'GET' || request.method === 'HEAD' || request.method === 'OPTIONS';
    if (isSafe || isAllowed(request.headers.origin, request.headers.host)) return;
    return sendRefusal(request, reply, {
      kind: 'forbidden',
      messages: ['Origin is not allowed; the shop can list it in ALLOWED_ORIGINS'],
    });
  };
}
