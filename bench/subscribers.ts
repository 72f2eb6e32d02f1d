/**
 * Subscribers of the cable, as a process of the benchmark: each with a socket and a basket of its own. It speaks just
 * enough WebSocket, and reads no more of a message than whose it is.
 */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { answerParent } from './checkout/child.ts';
import type { Arrivals, ArrivalsQuestion, SubscribersSetup } from './checkout/messages.ts';

/** Handshakes under way at the same time: the server's line of those who wait for it has an end. */
const entrancesAtOnce = 100;
const endOfHead = '\r\n\r\n';
const handshake = [
  'GET /cable HTTP/1.1',
  'Host: shop',
  'Connection: Upgrade',
  'Upgrade: websocket',
  'Sec-WebSocket-Version: 13',
  `Sec-WebSocket-Key: ${Buffer.alloc(16).toString('base64')}`,
  'Sec-WebSocket-Protocol: actioncable-v1-json',
  '\r\n',
].join('\r\n');

const sockets = new Set<Socket>();
const arrivals: Array<readonly [eventId: string, atMs: number]> = [];
let onArrival = (): void => undefined;
/** One for all: a chunk is looked at before the next is read. */
const chunk = Buffer.allocUnsafe(16 * 1_024);

answerParent<SubscribersSetup | ArrivalsQuestion>(
  async (question) => ('tokens' in question ? subscribeAll(question) : arrivalsOf(question)),
  async () => sockets.forEach((socket) => void socket.removeAllListeners('close').destroy()),
);

async function subscribeAll({ port, tokens }: SubscribersSetup): Promise<object> {
  const left = [...tokens];
  const enterAll = async (): Promise<void> => {
    for (let token = left.pop(); token !== undefined; token = left.pop()) await subscribe(port, token);
  };
  await Promise.all(Array.from({ length: entrancesAtOnce }, enterAll));
  return {};
}

function arrivalsOf({ messages }: ArrivalsQuestion): Promise<Arrivals> {
  return new Promise((resolve) => {
    onArrival = () => {
      if (arrivals.length >= messages) resolve({ arrivals: arrivals.splice(0) });
    };
    onArrival();
  });
}

/** Returns when the subscription is confirmed. */
async function subscribe(port: number, token: string): Promise<void> {
  const confirmed = Promise.withResolvers<void>();
  const socket = connect({
    port,
    host: '127.0.0.1',
    noDelay: true,
    onread: { buffer: chunk, callback: reader((text) => receive(text, confirmed.resolve)) },
  });
  sockets.add(socket);
  await once(socket, 'connect');
  socket.on('error', failWith).on('close', () => failWith(new Error('A socket was closed')));
  socket.write(handshake);
  const identifier = JSON.stringify({ channel: 'CheckoutNotificationsChannel', shopping_basket_id: token });
  socket.write(masked(JSON.stringify({ command: 'subscribe', identifier })));
  await confirmed.promise;
}

function receive(text: string, onConfirmed: () => void): void {
  if (text.includes('"type":"ping"')) return;
  const eventId = /"event_id":"([\da-f-]{36})"/.exec(text)?.[1];
  if (eventId) {
    arrivals.push([eventId, performance.timeOrigin + performance.now()]);
    onArrival();
  } else if (text.includes('confirm_subscription')) onConfirmed();
  else if (!text.includes('"type":"welcome"')) failWith(new Error(`Not expected of the cable: ${text}`));
}

/** Takes chunks and calls `onText` with the text of each frame behind the head of the handshake's answer. */
function reader(onText: (text: string) => void): (size: number, bytes: Uint8Array) => boolean {
  let isOpen = false;
  let received = '';
  return (size, bytes) => {
    received += (bytes as Buffer).toString('latin1', 0, size);
    if (!isOpen) {
      const headEnd = received.indexOf(endOfHead);
      if (headEnd < 0) return true;
      if (!received.startsWith('HTTP/1.1 101 ')) failWith(new Error(`No socket was opened: ${received}`));
      isOpen = true;
      received = received.slice(headEnd + endOfHead.length);
    }
    received = takeFrames(received, onText);
    return true;
  };
}

/** The server's frames are unmasked and come in one piece. Returns what is left of the last. */
function takeFrames(received: string, onText: (text: string) => void): string {
  let at = 0;
  for (;;) {
    const short = received.charCodeAt(at + 1);
    if (short === 127) failWith(new Error('A frame of over 64 KB'));
    const headLength = short === 126 ? 4 : 2;
    if (received.length < at + headLength) return received.slice(at);
    const length = short === 126 ? received.charCodeAt(at + 2) * 256 + received.charCodeAt(at + 3) : short;
    const end = at + headLength + length;
    if (received.length < end) return received.slice(at);
    if ((received.charCodeAt(at) & 15) === 1) onText(received.slice(at + headLength, end));
    at = end;
  }
}

/** A text frame under a mask of zeros, which changes nothing: the protocol wants one of a client. */
function masked(text: string): Buffer {
  const payload = Buffer.from(text, 'latin1');
  if (payload.length < 126 || payload.length > 65_535) throw new Error(`${payload.length} bytes are not written here`);
  const head = Buffer.from([0x81, 0x80 | 126, payload.length >> 8, payload.length & 255, 0, 0, 0, 0]);
  return Buffer.concat([head, payload]);
}

function failWith(error: Error): never {
  throw error;
}
