import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { type Agent, type IncomingMessage, request } from 'node:http';
import { fileURLToPath } from 'node:url';
import { eventually } from './eventually.ts';
import { checkoutBody } from './shop.ts';

/** A shop, or part of one, in a process of its own. */
export type ShopProcess = Readonly<{
  pid: number;
  /** Where it listens; empty for a worker. */
  address: string;
  /** What it has written to standard error so far. */
  errors(): string;
  signal(name: NodeJS.Signals): void;
  /** Sends a signal that ends it, and returns its exit status (null if the signal was its end). */
  end(name: NodeJS.Signals): Promise<number | null>;
}>;

const root = fileURLToPath(new URL('../..', import.meta.url));
const command = fileURLToPath(new URL('../../bin/scalecommerce.js', import.meta.url));
const startTimeoutMs = 60_000;

/** Runs `scalecommerce start` on the database at `url` until it says that it is ready. */
export async function startProcess(url: string, environment: Record<string, string> = {}): Promise<ShopProcess> {
  const env = { DATABASE_URL: url, PORT: '0', SEED_PRODUCTS: '0', LOG_LEVEL: 'error', ...environment };
  const child = spawn(process.execPath, [command, 'start'], {
    cwd: root,
    env: { PATH: process.env.PATH, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  // Not 'exit': its last words may still be on their way then.
  const ended = once(child, 'close');
  // However the run of the tests ends, this does not stay behind.
  const killToo = (): void => void child.kill('SIGKILL');
  process.once('exit', killToo);
  child.once('exit', () => process.off('exit', killToo));
  const said = textFrom(child.stdout);
  const errors = textFrom(child.stderr);
  const ready = await eventually(() => {
    if (child.exitCode !== null) throw new Error(`The process ended with ${child.exitCode}: ${errors()}`);
    return /open at (\S+)|worker: paying/.exec(said());
  }, startTimeoutMs);
  return {
    pid: child.pid ?? 0,
    address: ready[1] ?? '',
    errors,
    signal: (name) => void child.kill(name),
    end: (name) => end(child, ended, name),
  };
}

async function end(child: ChildProcess, ended: Promise<unknown[]>, name: NodeJS.Signals): Promise<number | null> {
  if (child.exitCode === null && child.signalCode === null) child.kill(name);
  await ended;
  return child.exitCode;
}

function textFrom(stream: NodeJS.ReadableStream): () => string {
  let text = '';
  stream.setEncoding('utf8').on('data', (chunk: string) => {
    text += chunk;
  });
  return () => text;
}

export type Answer = Readonly<{ status: number; body: Record<string, unknown>; location: string | null }>;

/** A shopper who comes over the network; without an `agent` on a connection for each request. Rejects where it breaks. */
export class RemoteShopper {
  readonly #address: string;
  readonly #agent: Agent | false;
  token: string | null;

  constructor(address: string, options: { token?: string | null; agent?: Agent } = {}) {
    this.#address = address;
    this.#agent = options.agent ?? false;
    this.token = options.token ?? null;
  }

  put(productId: string, quantity: number): Promise<Answer> {
    return this.#request('/api/v1/shopping_basket/products', { product: { product_id: productId, quantity } });
  }

  checkout(version: 'v1' | 'v2', changes: Record<string, unknown> = {}): Promise<Answer> {
    return this.#request(`/api/${version}/shopping_basket/checkout`, checkoutBody(changes));
  }

  order(id: string): Promise<Answer> {
    return this.#request(`/api/v2/orders/${id}`);
  }

  async lines(): Promise<Record<string, number>> {
    const { body } = await this.#request('/api/v1/shopping_basket');
    const products = body.products as Array<{ id: string; quantity: number }>;
    return Object.fromEntries(products.map((line) => [line.id, line.quantity]));
  }

  async #request(path: string, body?: unknown): Promise<Answer> {
    const sent = request(this.#address + path, {
      agent: this.#agent,
      method: body === undefined ? 'GET' : 'POST',
      headers: {
        ...(this.token ? { authorization: `Bearer ${this.token}` } : {}),
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      },
    }).end(body === undefined ? undefined : JSON.stringify(body));
    const [response] = (await once(sent, 'response')) as [IncomingMessage];
    const { statusCode: status = 0, headers } = response;
    const text = Buffer.concat(await response.toArray()).toString();
    this.token = headers['shopping-basket-id']?.toString() ?? this.token;
    return { status, body: JSON.parse(text), location: headers.location ?? null };
  }
}

/** The id of the order that `answer` tells of. */
export function orderIn(answer: Answer): string {
  return String(answer.location).replace(/^.*\//, '');
}
