import { setTimeout as sleep } from 'node:timers/promises';
import type { FastifyInstance, FastifyReply } from 'fastify';
import { type OpenRequests, openRequestsOf } from './open-requests.ts';

export type Drain = Readonly<{
  /** Takes no more connections, lets requests that have arrived whole be answered for up to `deadlineMs`, cuts the rest. */
  close: (deadlineMs: number) => Promise<void>;
}>;

/**
 * Lets `app` be closed without waiting for clients that only keep a connection open, or never finish what they began
 * to send.
 */
export function drainOf(app: FastifyInstance): Drain {
  const open = openRequestsOf(app);
  return {
    close: async (deadlineMs) => {
      const closed = app.close();
      const deadline = sleep(deadlineMs, undefined, { ref: false });
      await Promise.race([untilAnswered(open), deadline]);
      app.server.closeAllConnections();
      await Promise.race([closed, deadline]);
    },
  };
}

async function untilAnswered(open: OpenRequests): Promise<void> {
  for (let next = firstWhole(open); next; next = firstWhole(open)) await endOf(next);
}

/** Until its body is there nothing has been done for a request. */
function firstWhole(open: OpenRequests): FastifyReply | undefined {
  for (const reply of open.keys()) if (reply.request.raw.complete) return reply;
}

function endOf(reply: FastifyReply): Promise<void> {
  return new Promise((resolve) => reply.raw.once('close', resolve));
}
