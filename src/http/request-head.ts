import type { FastifyReply, FastifyRequest } from 'fastify';
import { Refused } from '../shared/refusal.ts';

/** A name or an address, and perhaps a port (RFC 9110, section 7.2). */
const hostPattern = /^(?:\[[\da-f:.]+\]|[\w.~%-]+)(?::\d{0,5})?$/i;

/**
 * A hook that turns away, and closes the connection to, what the parser lets through although a program in front may
 * have read it differently: no host, two, or one that is none; a body in any coding but chunks.
 */
export async function refuseAmbiguousHead(request: FastifyRequest, reply: FastifyReply): Promise<void> {
  const fault = faultOf(request);
  if (fault === null) return;
  reply.header('Connection', 'close');
  throw new Refused('bad_request', fault);
}

function faultOf({ raw, headers }: FastifyRequest): string | null {
  const coding = headers['transfer-encoding'];
  if (coding !== undefined && coding.toLowerCase() !== 'chunked') return 'Transfer-Encoding can only be chunked';
  const hosts = countHosts(raw.rawHeaders);
  if (hosts === 0 && raw.httpVersion === '1.0') return null;
  if (hosts !== 1 || !hostPattern.test(headers.host ?? '')) return 'The request needs exactly one valid Host header';
  return null;
}

/** Node keeps the first of several and hides the rest. */
function countHosts(rawHeaders: readonly string[]): number {
  let hosts = 0;
  for (let index = 0; index < rawHeaders.length; index += 2) if (rawHeaders[index]?.toLowerCase() === 'host') hosts++;
  return hosts;
}
