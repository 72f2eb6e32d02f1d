import type { FastifyRequest } from 'fastify';
import type { Refusal } from '../shared/refusal.ts';

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

const foreignWrite: Refusal = {
  kind: 'forbidden',
  messages: ['Origin is not allowed; the shop can list it in ALLOWED_ORIGINS'],
};

/** Why to turn away a write of a page from elsewhere (cross-site request forgery); null for any other request. */
export function refusalOfForeignWrite({ method, headers }: FastifyRequest, isAllowed: OriginCheck): Refusal | null {
  const isSafe = method === 'GET' || method === 'HEAD' || method === 'OPTIONS';
  return isSafe || isAllowed(headers.origin, headers.host) ? null : foreignWrite;
}
