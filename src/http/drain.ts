import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import type { FastifyInstance } from 'fastify';

export type Drain = Readonly<{
  /** Takes no more connections, lets requests that have arrived whole be answered for up to `deadlineMs`, cuts the rest. */
  close: (deadlineMs: number) => Promise<void>;
}>;

/**
 * Counts the requests of `app` that are being answered, so that it can be closed without waiting for clients that only
 * keep a connection open, or never finish what they began to send. Call before it is ready.
 */
export function drainOf(app: FastifyInstance): Drain {
  const open = new Set<string>();
  const idle = new EventTarget();
  // A request counts once its body is there: until then nothing has been done for it.
  app.addHook('preHandler', async (request) => void open.add(request.id));
  app.addHook('onResponse', async (request) => leave(request.id));
  app.addHook('onRequestAbort', async (request) => leave(request.id));

  function leave(id: string): void {
    if (open.delete(id) && open.size === 0) idle.dispatchEvent(new Event('idle'));
  }

  return {
    close: async (deadlineMs) => {
      const closed = app.close();
      const deadline = sleep(deadlineMs, undefined, { ref: false });
      if (open.size > 0) await Promise.race([once(idle, 'idle'), deadline]);
      app.server.closeAllConnections();
      await Promise.race([closed, deadline]);
    },
  };
}
