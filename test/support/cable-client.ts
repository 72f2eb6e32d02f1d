import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import { type ClientOptions, WebSocket } from 'ws';
import { expectSoon } from './expect-soon.ts';
import type { Basket } from './ordered-basket.ts';

/** A client that speaks the protocol by hand. */
export type CableClient = Readonly<{
  socket: WebSocket;
  /** What the server sent, parsed, oldest first; without pings. */
  frames: unknown[];
  /** The times in its pings. */
  pings: number[];
  send(command: unknown): void;
  /** Returns once the server has handled all that was sent before. */
  settled(): Promise<void>;
  /** The code of the close frame, once it is closed. */
  closeCode: Promise<number>;
}>;

type ConnectOptions = ClientOptions & { protocols?: string[]; path?: string };

/** The identifier that the Rails client makes for a basket. */
export function identifierOf(basket: Pick<Basket, 'token'>): string {
  return JSON.stringify({ channel: 'CheckoutNotificationsChannel', shopping_basket_id: basket.token });
}

export async function connect(port: number, options: ConnectOptions = {}): Promise<CableClient> {
  const socket = open(port, options);
  const client = listen(socket);
  await once(socket, 'open');
  await expectSoon(() => client.frames).toContainEqual({ type: 'welcome' });
  client.frames.shift();
  return client;
}

/** The status with which an upgrade is refused, and its body. */
export async function refusal(port: number, options: ConnectOptions = {}): Promise<{ status: number; body: unknown }> {
  const socket = open(port, options);
  // `ws` reports an error of its own when it is closed before it was ever open.
  socket.on('error', () => undefined);
  const [, response] = (await once(socket, 'unexpected-response')) as [unknown, IncomingMessage];
  const chunks = await response.toArray();
  return { status: response.statusCode ?? 0, body: JSON.parse(Buffer.concat(chunks).toString()) };
}

function open(port: number, { protocols = ['actioncable-v1-json'], path = '/cable', ...options }: ConnectOptions) {
  return new WebSocket(`ws://127.0.0.1:${port}${path}`, protocols, options);
}

function listen(socket: WebSocket): CableClient {
  const frames: unknown[] = [];
  const pings: number[] = [];
  const closeCode = new Promise<number>((resolve) => socket.on('close', resolve));
  socket.on('error', () => undefined);
  socket.on('message', (data) => {
    const frame = JSON.parse(data.toString()) as { type?: string; message: number };
    if (frame.type === 'ping') pings.push(frame.message);
    else frames.push(frame);
  });
  const send = (command: unknown): void => socket.send(JSON.stringify(command));
  const settled = async (): Promise<void> => {
    const identifier = `no subscription ${frames.length}`;
    const answer = { type: 'reject_subscription', identifier };
    send({ command: 'subscribe', identifier });
    await expectSoon(() => frames).toContainEqual(answer);
    const index = frames.findIndex((frame) => (frame as { identifier?: string }).identifier === identifier);
    frames.splice(index, 1);
  };
  return { socket, frames, pings, send, settled, closeCode };
}
