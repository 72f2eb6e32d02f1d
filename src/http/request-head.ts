import type { FastifyRequest } from 'fastify';
import type { Refusal } from '../shared/refusal.ts';

/** A name or an address, and perhaps a port (RFC 9110, section 7.2). */
const hostPattern = /^(?:\[[\da-f:.]+\]|[\w.~%-]+)(?::\d{0,5})?$/i;

/**
 * Why to turn away, and to close the connection to, what the parser lets through although a program in front may have
 * read it differently: no host, two, or one that is none; a body in any coding but chunks. Null for any other request.
 */
export function refusalOfHead(request: FastifyRequest): Refusal | null {
  const fault = faultOf(request);
  return fault === null ? null : { kind: 'bad_request', messages: [fault] };
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
