import type { FastifyInstance, FastifyReply } from 'fastify';
import { Unavailable } from '../shared/refusal.ts';

/** Requests that wait for something to happen before they are answered: so many at the same time, and no longer than needed. */
export class WaitingRequests {
  readonly #most: number;
  readonly #letGo = new Set<() => void>();
  #isClosing = false;

  constructor(app: FastifyInstance, most: number) {
    this.#most = most;
    app.addHook('preClose', async () => {
      this.#isClosing = true;
      for (const letGo of [...this.#letGo]) letGo();
    });
  }

  /** How many wait. */
  get size(): number {
    return this.#letGo.size;
  }

  /**
   * Waits for `happening`, whose signal is aborted after `timeoutMs`, when the client goes away, and when the
   * application begins to close. Throws {@link Unavailable} when too many wait.
   */
  async wait(reply: FastifyReply, timeoutMs: number, happening: (signal: AbortSignal) => Promise<void>): Promise<void> {
    if (this.#isClosing || reply.raw.destroyed) return;
    if (this.#letGo.size >= this.#most) throw new Unavailable('Too many requests are waiting for a change');
    const waiting = new AbortController();
    const letGo = (): void => waiting.abort();
    const timer = setTimeout(letGo, timeoutMs);
    this.#letGo.add(letGo);
    reply.raw.on('close', letGo);
    try {
      await happening(waiting.signal);
    } finally {
      clearTimeout(timer);
      this.#letGo.delete(letGo);
      reply.raw.off('close', letGo);
    }
  }
}
