import { once } from 'node:events';
import { connect, type Socket } from 'node:net';

export type RawResponse = Readonly<{ status: number; headers: Readonly<Record<string, string>>; body: string }>;

const patienceMs = 20_000;

/** Sends `bytes` as they are, and returns what is answered until the server closes the connection. */
export async function exchange(port: number, bytes: string | Uint8Array): Promise<RawResponse[]> {
  const socket = open(port);
  socket.write(bytes);
  return answersOf(socket);
}

/** Sends `bytes` and then one of `drops` every 50 ms, over and over, until the server closes the connection. */
export async function drip(port: number, bytes: string, drops: string): Promise<RawResponse[]> {
  const socket = open(port);
  socket.write(bytes);
  let sent = 0;
  const tap = setInterval(() => void socket.write(drops.charAt(sent++ % drops.length)), 50);
  try {
    return await answersOf(socket);
  } finally {
    clearInterval(tap);
  }
}

/** A connection on which nothing has been said yet. It outlives resets. */
export function open(port: number): Socket {
  const socket = connect(port, '127.0.0.1');
  socket.on('error', () => undefined);
  return socket;
}

/** What comes on `socket` until it is closed. */
export async function answersOf(socket: Socket): Promise<RawResponse[]> {
  const chunks: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => chunks.push(chunk));
  await once(socket, 'close', { signal: AbortSignal.timeout(patienceMs) });
  return parseResponses(Buffer.concat(chunks).toString());
}

function parseResponses(text: string): RawResponse[] {
  const responses: RawResponse[] = [];
  for (let rest = text; rest !== ''; ) {
    const headEnd = rest.indexOf('\r\n\r\n');
    if (headEnd < 0) throw new Error(`Not an HTTP response: ${JSON.stringify(rest)}`);
    const [statusLine = '', ...lines] = rest.slice(0, headEnd).split('\r\n');
    const headers = Object.fromEntries(lines.map(parseHeader));
    const bodyEnd = headEnd + 4 + Number(headers['content-length'] ?? 0);
    responses.push({ status: statusOf(statusLine), headers, body: rest.slice(headEnd + 4, bodyEnd) });
    rest = rest.slice(bodyEnd);
  }
  return responses;
}

function statusOf(statusLine: string): number {
  const [, status] = statusLine.match(/^HTTP\/1\.1 (\d{3}) [A-Z][\w '-]+$/) ?? [];
  if (!status) throw new Error(`Not a status line: ${statusLine}`);
  return Number(status);
}

function parseHeader(line: string): [string, string] {
  const colon = line.indexOf(':');
  return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()];
}
