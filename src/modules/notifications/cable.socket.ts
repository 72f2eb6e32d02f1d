import { type IncomingMessage, type Server, STATUS_CODES } from 'node:http';
import type { Duplex } from 'node:stream';
import { WebSocket, WebSocketServer } from 'ws';
import {
  type Command,
  chooseSubprotocol,
  type DisconnectReason,
  disconnection,
  parseCommand,
  ping,
  subprotocols,
  welcome,
} from './cable-protocol.ts';
import { CableReads } from './cable-reads.ts';
import { CableSubscriptions } from './cable-subscriptions.ts';
import type { Notifications } from './notifications.service.ts';

export type CableOptions = Readonly<{
  notifications: Notifications;
  /** For how long the offsets of a stream mean the same: constant per database. */
  epoch: string;
  /** Asked only for requests that name an origin; those of other programs than browsers do not. */
  isAllowedOrigin: (origin: string | undefined, host: string | undefined) => boolean;
  onError: (error: Error) => void;
  /** Time between two signs of life; clients give up after 6 s without one. */
  pingMs?: number;
  /** Sockets beyond it are turned away. */
  maxSockets?: number;
}>;

export type Cable = Readonly<{
  /** Tells every client to come back elsewhere, takes no more, and returns when all sockets are closed (1 s at most). */
  close(): Promise<void>;
}>;

type Refusal = Readonly<{ status: number; message: string; headers?: Readonly<Record<string, string>> }>;
type Context = Readonly<
  Pick<CableOptions, 'notifications' | 'epoch' | 'onError'> & { reads: CableReads; pingMs: number }
>;
type Farewell = Readonly<{ reason: DisconnectReason; reconnect: boolean; closeCode: number; why: string }>;

const path = '/cable';
const defaultPingMs = 3_000;
const defaultMaxSockets = 20_000;
const maxFrameBytes = 64 * 1024;
const maxBufferedBytes = 1024 * 1024;
/** A peer that has not been heard of between two probes is taken for dead: after 30 to 60 s. */
const pingsPerProbe = 10;

const limits = {
  maxPayload: maxFrameBytes,
  // A frame that drips in costs memory for each piece: far more of them than any client sends.
  maxBufferedChunks: 1_024,
  maxFragments: 64,
  closeTimeout: 1_000,
};

const farewells = {
  invalid: { reason: 'invalid_request', reconnect: false, closeCode: 1008, why: 'Not an Action Cable command' },
  slow: { reason: 'remote', reconnect: true, closeCode: 1013, why: 'Messages are not read fast enough' },
  restart: { reason: 'server_restart', reconnect: true, closeCode: 1001, why: 'Server restarts' },
} as const satisfies Record<string, Farewell>;

/** Serves Action Cable under `/cable` of `server`; an upgrade to anything else is answered with 404. */
export function attachCable(server: Server, options: CableOptions): Cable {
  const { notifications, epoch, onError, pingMs = defaultPingMs, maxSockets = defaultMaxSockets } = options;
  const sockets = new Set<WebSocket>();
  let isClosing = false;
  const context = { notifications, epoch, onError, pingMs, reads: new CableReads(notifications, onError) };
  const upgrader = new WebSocketServer({
    ...limits,
    noServer: true,
    clientTracking: false,
    perMessageDeflate: false,
    handleProtocols: (offered) => chooseSubprotocol([...offered].join()) ?? false,
  });
  server.on('upgrade', (request, socket, head) => {
    const refusal = refusalOf(request, options, isClosing || sockets.size >= maxSockets);
    if (refusal) return refuse(socket, refusal);
    upgrader.handleUpgrade(request, socket, head, (ws) => {
      sockets.add(ws);
      ws.on('close', () => sockets.delete(ws));
      serve(ws, context);
    });
  });
  return {
    close: async () => {
      isClosing = true;
      await Promise.all([...sockets].map((ws) => closed(ws, farewells.restart)));
    },
  };
}

function refusalOf({ url = '', headers }: IncomingMessage, options: CableOptions, isFull: boolean): Refusal | null {
  if (url.split('?', 1)[0] !== path) return { status: 404, message: 'Not found' };
  if (isFull) return { status: 503, message: 'Too many connections', headers: { 'Retry-After': '5' } };
  if (headers.origin !== undefined && !options.isAllowedOrigin(headers.origin, headers.host))
    return { status: 403, message: 'Origin is not allowed' };
  if (!chooseSubprotocol(headers['sec-websocket-protocol']))
    return { status: 400, message: `Subprotocol must be ${subprotocols.join(' or ')}` };
  return null;
}

function refuse(socket: Duplex, { status, message, headers }: Refusal): void {
  const body = JSON.stringify({ error: { code: status, messages: [message] } });
  const lines = {
    Connection: 'close',
    'Content-Type': 'application/json; charset=utf-8',
    'Content-Length': Buffer.byteLength(body),
    ...headers,
  };
  const head = Object.entries(lines).map(([name, value]) => `${name}: ${value}\r\n`);
  socket.on('error', () => socket.destroy());
  socket.once('finish', () => socket.destroy());
  socket.end(`HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\n${head.join('')}\r\n${body}`);
}

function serve(ws: WebSocket, context: Context): void {
  const send = (text: string): void => sendUnlessSlow(ws, text);
  const subprotocol = chooseSubprotocol(ws.protocol || undefined) ?? subprotocols[0];
  const epoch = subprotocol === 'actioncable-v1-ext-json' ? context.epoch : null;
  const subscriptions = new CableSubscriptions({ ...context, epoch, send });
  const stopBeating = beat(ws, send, context.pingMs);
  ws.on('message', (data, isBinary) => {
    // What a client has sent before it learnt that it has to go.
    if (ws.readyState !== WebSocket.OPEN) return;
    const command = isBinary ? null : parseCommand(data.toString(), subprotocol);
    if (command) obey(subscriptions, command);
    else dismiss(ws, farewells.invalid);
  });
  // A broken frame or connection: the socket closes itself.
  ws.on('error', () => undefined);
  ws.on('close', () => {
    stopBeating();
    subscriptions.clear();
  });
  send(welcome);
}

function obey(subscriptions: CableSubscriptions, command: Command): void {
  if (command.name === 'subscribe') subscriptions.subscribe(command.identifier, command.history);
  else if (command.name === 'unsubscribe') subscriptions.unsubscribe(command.identifier);
  else if (command.name === 'history') subscriptions.replay(command.identifier, command.history);
  // What is left has nothing to act on here, a message to the channel for one: nothing is done, and nothing answered.
}

/** Sends a ping every `pingMs`, and ends a socket whose peer is gone. Returns how to stop. */
function beat(ws: WebSocket, send: (text: string) => void, pingMs: number): () => void {
  let beats = 0;
  let wasHeard = true;
  const hear = (): void => {
    wasHeard = true;
  };
  ws.on('pong', hear).on('message', hear);
  const timer = setInterval(() => {
    send(ping(Math.floor(Date.now() / 1000)));
    beats++;
    if (beats % pingsPerProbe !== 0) return;
    if (!wasHeard) return ws.terminate();
    wasHeard = false;
    ws.ping();
  }, pingMs);
  return () => clearInterval(timer);
}

/** A message may be large; what must not grow is the line of those that a client does not read. */
function sendUnlessSlow(ws: WebSocket, text: string): void {
  if (ws.readyState !== WebSocket.OPEN) return;
  if (ws.bufferedAmount > maxBufferedBytes) dismiss(ws, farewells.slow);
  else ws.send(text);
}

/** Says goodbye once; who does not answer is cut off by the close timeout. */
function dismiss(ws: WebSocket, { reason, reconnect, closeCode, why }: Farewell): void {
  if (ws.readyState !== WebSocket.OPEN) return;
  ws.send(disconnection(reason, reconnect));
  ws.close(closeCode, why);
}

function closed(ws: WebSocket, farewell: Farewell): Promise<void> {
  return new Promise((resolve) => {
    ws.once('close', () => resolve());
    dismiss(ws, farewell);
  });
}
