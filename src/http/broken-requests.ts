import { type IncomingMessage, type Server, type ServerResponse, STATUS_CODES } from 'node:http';
import type { Duplex } from 'node:stream';
import type { Refusal, RefusalKind } from '../shared/refusal.ts';
import { inPlainWords } from './errors.ts';
import { errorBody, statusCodeOf } from './problem.ts';

/** Answers what never reaches a route, straight on the socket, and closes it. */
export type BrokenRequests = Readonly<{
  /** To be called with what the parser could not read, or waited for in vain. */
  answer(error: NodeJS.ErrnoException, socket: Duplex): void;
  /** Follows the requests of `server`, and answers those that Node itself would answer in a way of its own. */
  watch(server: Server): void;
}>;

/** Makes the answers of one server. */
export function answerBrokenRequests(): BrokenRequests {
  const latest = new WeakMap<Duplex, ServerResponse>();
  return {
    answer: (error, socket) => {
      const isLost = error.code === 'ECONNRESET' || !socket.writable;
      if (isLost || !mayAnswer(latest.get(socket))) socket.destroy();
      else endWith(socket, inPlainWords(kindOfParseError(error.code)));
    },
    watch: (server) => {
      server.on('request', (request, response) => latest.set(request.socket, response));
      // An expectation that nobody knows may be ignored (RFC 9110, section 10.1.1).
      server.on('checkExpectation', (request, response) => server.emit('request', request, response));
      server.on('connect', refuseTunnel);
    },
  };
}

/**
 * Whether an error answer would be taken for that of the broken request: not while an earlier one on the same socket,
 * perhaps a checkout that goes on, is still to be answered, nor when the broken one has its answer already.
 */
function mayAnswer(latest: ServerResponse | undefined): boolean {
  if (!latest) return true;
  return latest.req.complete ? latest.writableFinished : !latest.headersSent && latest.socket !== null;
}

function refuseTunnel(_request: IncomingMessage, socket: Duplex): void {
  socket.on('error', () => socket.destroy());
  socket.once('finish', () => socket.destroy());
  const refusal: Refusal = { kind: 'method_not_allowed', messages: ['CONNECT is not allowed here'] };
  endWith(socket, refusal, ['Allow: GET, HEAD, POST, OPTIONS']);
}

function endWith(socket: Duplex, refusal: Refusal, headers: readonly string[] = []): void {
  const statusCode = statusCodeOf(refusal.kind);
  const body = JSON.stringify(errorBody(statusCode, refusal.messages));
  const head = [
    `HTTP/1.1 ${statusCode} ${STATUS_CODES[statusCode]}`,
    'Content-Type: application/json; charset=utf-8',
    `Content-Length: ${Buffer.byteLength(body)}`,
    'Cache-Control: no-store',
    'X-Content-Type-Options: nosniff',
    'Connection: close',
    ...headers,
  ];
  socket.end(`${head.join('\r\n')}\r\n\r\n${body}`);
}

function kindOfParseError(code: string | undefined): RefusalKind {
  if (code === 'HPE_HEADER_OVERFLOW') return 'headers_too_large';
  return code === 'ERR_HTTP_REQUEST_TIMEOUT' ? 'request_timeout' : 'bad_request';
}
