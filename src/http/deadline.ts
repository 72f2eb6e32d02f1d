import type { FastifyInstance, FastifyReply } from 'fastify';
import { inPlainWords } from './errors.ts';
import type { OpenRequests } from './open-requests.ts';
import { sendRefusal } from './problem.ts';

export type Deadline = Readonly<{ afterMs: number; lookEveryMs: number }>;

/**
 * Answers 504 for what is still not answered so long after it arrived; whatever was begun for it goes on. One timer for
 * all of them: one for each would cost more than most requests.
 */
export function answerInTime(app: FastifyInstance, open: OpenRequests, { afterMs, lookEveryMs }: Deadline): void {
  const timer = setInterval(() => {
    const arrivedBeforeMs = performance.now() - afterMs;
    for (const [reply, arrivedAtMs] of open) {
      if (arrivedAtMs > arrivedBeforeMs) return;
      giveUp(reply);
    }
  }, lookEveryMs).unref();
  app.addHook('onClose', async () => clearInterval(timer));
}

function giveUp(reply: FastifyReply): void {
  if (reply.sent) return;
  if (reply.raw.headersSent) reply.raw.destroy();
  else sendRefusal(reply.request, reply, inPlainWords('timeout'));
}
