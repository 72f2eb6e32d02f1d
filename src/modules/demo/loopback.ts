import { once } from 'node:events';
import { Agent, type IncomingHttpHeaders, type IncomingMessage, request } from 'node:http';

export type Answer = Readonly<{ status: number; headers: IncomingHttpHeaders; body: Record<string, unknown> }>;

export type Message = Readonly<{ token?: string | undefined; body?: unknown; headers?: Record<string, string> }>;

/** A client of the shop in this very process, over the network: nothing that it sends takes a short cut. */
export class Loopback {
  readonly #agent = new Agent({ keepAlive: true });
  readonly #host: string;
  readonly #port: number;

  constructor(host: string, port: number) {
    this.#host = host;
    this.#port = port;
  }

  /** POST if there is a body, else GET. Rejects where the connection breaks. */
  async send(path: string, { token, body, headers = {} }: Message): Promise<Answer> {
    const sent = request({
      agent: this.#agent,
      host: this.#host,
      port: this.#port,
      path,
      method: body === undefined ? 'GET' : 'POST',
      headers: {
        ...headers,
        ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      },
    }).end(body === undefined ? undefined : JSON.stringify(body));
    // Told of here as well when it comes after the answer has begun.
    sent.on('error', () => undefined);
    const [response] = (await once(sent, 'response')) as [IncomingMessage];
    const text = Buffer.concat(await response.toArray()).toString();
    return { status: response.statusCode ?? 0, headers: response.headers, body: JSON.parse(text) };
  }

  /** Cuts every connection, also those with a request under way. */
  close(): void {
    this.#agent.destroy();
  }
}
