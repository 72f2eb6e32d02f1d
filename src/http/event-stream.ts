import type { ServerResponse } from 'node:http';
import type { FastifyInstance, FastifyReply } from 'fastify';
import { Unavailable } from '../shared/refusal.ts';

/** What a client is sent. `data` is one line. `id` comes back as Last-Event-ID when the client connects again. */
type StreamedEvent = Readonly<{ id: number; event: string; data: string }>;

export type EventStream = Readonly<{
  send(event: StreamedEvent): void;
  /** Ends the answer; a client that listens for events connects again. */
  end(): void;
}>;

export type EventStreamLimits = Readonly<{
  /** Streams at the same time; the next client is turned away. */
  open: number;
  /** What may wait for a client to read it, in bytes; one that is sent more is cut off. */
  buffered: number;
  /** A client that was sent nothing for so long is sent a sign of life, up to a fifteenth of it later. */
  heartbeatMs: number;
}>;

const defaultLimits: EventStreamLimits = { open: 10_000, buffered: 1024 * 1024, heartbeatMs: 14_000 };

const retryAfterSeconds = 5;
/** When a client comes back: spread, for at a restart all of them do. */
const reconnectMs = { least: 2_000, spread: 2_000 };

const headers = {
  'Content-Type': 'text/event-stream',
  'Cache-Control': 'no-store',
  // A proxy that collected what comes would keep it from the client.
  'X-Accel-Buffering': 'no',
  // Nothing follows a stream, and a server that closes need not wait for the connection.
  Connection: 'close',
};

/**
 * The server-sent events (HTML standard, section 9.2) of an application: how many streams there are, what they may
 * hold back, their signs of life, and their end as soon as the application begins to close.
 */
export class EventStreams {
  readonly #limits: EventStreamLimits;
  /** With the time when something was last written to each, the longest ago first. */
  readonly #open = new Map<ServerResponse, number>();
  #isClosing = false;

  constructor(app: FastifyInstance, limits: EventStreamLimits = defaultLimits) {
    this.#limits = limits;
    const timer = setInterval(() => this.#beat(), limits.heartbeatMs / 15).unref();
    app.addHook('preClose', async () => {
      clearInterval(timer);
      this.#close();
    });
  }

  /** How many streams there are. */
  get size(): number {
    return this.#open.size;
  }

  /**
   * Answers with a stream; `onClose` is called once, when it has ended, whoever ended it. Null for HEAD, which is
   * answered, and for a client that has gone. Throws {@link Unavailable} when there are too many streams.
   */
  open(reply: FastifyReply, onClose: () => void): EventStream | null {
    if (this.#isClosing || this.#open.size >= this.#limits.open)
      throw new Unavailable('Too many event streams are open', { retryAfterSeconds });
    if (reply.raw.destroyed) return null;
    const response = takeOver(reply);
    if (reply.request.method === 'HEAD') {
      response.end();
      return null;
    }
    response.on('close', () => {
      if (this.#open.delete(response)) onClose();
    });
    // A connection that breaks closes the response.
    response.on('error', () => undefined);
    this.#open.set(response, performance.now());
    const afterMs = Math.round(reconnectMs.least + Math.random() * reconnectMs.spread);
    this.#write(response, `: listening\nretry: ${afterMs}\n\n`);
    return {
      send: ({ id, event, data }) => this.#write(response, `id: ${id}\nevent: ${event}\ndata: ${data}\n\n`),
      end: () => void response.end(),
    };
  }

  #write(response: ServerResponse, text: string): void {
    // It goes to the end of the line, unless its client has gone.
    if (!this.#open.delete(response)) return;
    this.#open.set(response, performance.now());
    if (response.writableEnded) return;
    if (response.writableLength > this.#limits.buffered) response.destroy();
    else response.write(text);
  }

  #beat(): void {
    const beforeMs = performance.now() - this.#limits.heartbeatMs;
    for (const [response, writtenAtMs] of this.#open) {
      if (writtenAtMs > beforeMs) return;
      this.#write(response, ':\n\n');
    }
  }

  /** What is not read yet is not waited for: the client comes back and asks for it. */
  #close(): void {
    this.#isClosing = true;
    for (const response of this.#open.keys())
      if (response.writableLength > 0) response.destroy();
      else response.end();
  }
}

/** The headers that hooks have set go with it. */
function takeOver(reply: FastifyReply): ServerResponse {
  const all = reply.headers(headers).getHeaders();
  const response = reply.hijack().raw;
  for (const [name, value] of Object.entries(all)) if (value !== undefined) response.setHeader(name, value);
  return response.writeHead(200);
}
