import { setTimeout as sleep } from 'node:timers/promises';
import { WebSocket } from 'ws';
import { identifierOf } from './cable-client.ts';
import { oneOf, type Random } from './seed.ts';

/** What a listener was told of, in the order in which it came. */
export type Told = Readonly<{ token: string; eventId: string; offset: number; status: string }>;

type Position = Readonly<{ streamId: string; offset: number; epoch: string }>;
type Subscription = {
  readonly token: string;
  position: Position | null;
  readonly confirmed: PromiseWithResolvers<void>;
};
type Frame = Readonly<{
  type?: string;
  identifier?: string;
  reason?: string;
  reconnect?: boolean;
  message?: { event_id: string; status: string };
  stream_id?: string;
  epoch?: string;
  offset?: number;
}>;

const subprotocol = 'actioncable-v1-ext-json';
const pauseMs = 100;
/** The server pings every 3 s; on a busy machine a few may be late. */
const silenceMs = 20_000;

export type ListenerOptions = Readonly<{
  /** Of the processes that listen now; it goes to any of them. */
  addresses: () => readonly string[];
  random: Random;
  /** Where it is put down what it was told. */
  told: Told[];
}>;

/**
 * Listens for many baskets over one socket, as a client of the extended protocol does: wherever the socket breaks, it opens
 * another one, perhaps to another process, and asks for what came after what it has heard last.
 */
export class Listener {
  readonly #options: ListenerOptions;
  readonly #subscriptions = new Map<string, Subscription>();
  readonly #since = Math.floor(Date.now() / 1_000) - 1;
  #socket: WebSocket | null = null;
  #isClosed = false;
  /** The farewells of servers: their reason, and whether to come back. */
  readonly farewells: Array<Readonly<{ reason: string | undefined; reconnect: boolean | undefined }>> = [];

  constructor(options: ListenerOptions) {
    this.#options = options;
    void this.#stayConnected();
  }

  /** Returns once the subscription to a basket's outcomes is confirmed. */
  listenTo(token: string): Promise<void> {
    const subscription = { token, position: null, confirmed: Promise.withResolvers<void>() };
    this.#subscriptions.set(identifierOf({ token }), subscription);
    this.#subscribe(subscription);
    return subscription.confirmed.promise;
  }

  close(): void {
    this.#isClosed = true;
    this.#socket?.terminate();
  }

  async #stayConnected(): Promise<void> {
    while (!this.#isClosed) {
      await this.#connectOnce();
      await sleep(pauseMs * (0.5 + this.#options.random()));
    }
  }

  /** Until the socket is closed. */
  #connectOnce(): Promise<void> {
    const { addresses, random } = this.#options;
    const [first] = addresses();
    if (first === undefined) return Promise.resolve();
    const address = oneOf(random, addresses()).replace(/^http/, 'ws');
    const socket = new WebSocket(`${address}/cable`, [subprotocol]);
    return new Promise((resolve) => {
      let silence = setTimeout(() => socket.terminate(), silenceMs);
      socket.on('message', (data) => {
        clearTimeout(silence);
        silence = setTimeout(() => socket.terminate(), silenceMs);
        this.#receive(socket, JSON.parse(data.toString()) as Frame);
      });
      socket.on('error', () => undefined);
      socket.on('close', () => {
        clearTimeout(silence);
        this.#socket = null;
        resolve();
      });
    });
  }

  #receive(socket: WebSocket, frame: Frame): void {
    if (frame.type === 'welcome') {
      this.#socket = socket;
      for (const subscription of this.#subscriptions.values()) this.#subscribe(subscription);
    }
    if (frame.type === 'disconnect') this.farewells.push({ reason: frame.reason, reconnect: frame.reconnect });
    const subscription = frame.identifier ? this.#subscriptions.get(frame.identifier) : undefined;
    if (!subscription) return;
    if (frame.type === 'confirm_subscription') subscription.confirmed.resolve();
    if (frame.message) this.#hear(subscription, frame);
  }

  #hear(subscription: Subscription, { message, stream_id = '', epoch = '', offset = 0 }: Frame): void {
    if (!message) return;
    subscription.position = { streamId: stream_id, epoch, offset };
    const { token } = subscription;
    this.#options.told.push({ token, eventId: message.event_id, offset, status: message.status });
  }

  #subscribe({ token, position }: Subscription): void {
    const streams = position && { [position.streamId]: { offset: position.offset, epoch: position.epoch } };
    const history = { since: this.#since, ...(streams ? { streams } : {}) };
    const command = { command: 'subscribe', identifier: identifierOf({ token }), history };
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(command));
  }
}
