import type { KeyObject } from 'node:crypto';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { type Static, Type } from 'typebox';
import { basketTokenOf } from '../../http/bearer.ts';
import { addVary, hasOutdated, markPrivate, sendConditional } from '../../http/conditional.ts';
import { departureOf } from '../../http/departure.ts';
import { preferredWaitSeconds } from '../../http/prefer.ts';
import { sendRefusal } from '../../http/problem.ts';
import { conditionalAnswers } from '../../http/schemas.ts';
import { WaitingRequests } from '../../http/waiting-requests.ts';
import type { Reader } from '../../platform/db.ts';
import type { Result } from '../../shared/refusal.ts';
import { OrderParams, OrderStatusSchema } from './orders.schema.ts';
import { type FoundOrder, getOrderOfBasket, hasEnded, type OrderPosition } from './orders.service.ts';
import { eventsPath } from './tickets.service.ts';

type OrderRequest = FastifyRequest<{ Params: Static<typeof OrderParams> }>;

/** Resolves when something has happened to an order since it was at that position, and when the signal is aborted. */
export type UntilChanged = (order: OrderPosition, signal: AbortSignal) => Promise<void>;

export type OrderRoutesOptions = Readonly<{
  reader: Reader;
  ticketKey: KeyObject;
  untilChanged: UntilChanged;
}>;

/** Requests that may wait for a change at the same time; each costs a socket and a timer, no connection. */
const mostWaiting = 10_000;

/** Well below the time after which what has no answer is given up. */
const longestWaitSeconds = 25;

const PreferHeaders = Type.Object({
  prefer: Type.Optional(
    Type.String({
      description: `\`wait=N\`: while the order is under way, and no other than the client has, answer after N seconds (at most ${longestWaitSeconds}) or as soon as it has ended.`,
      examples: ['wait=20'],
    }),
  ),
});

/** Asking after an order. */
export function orderRoutes(app: FastifyInstance, { reader, ticketKey, untilChanged }: OrderRoutesOptions): void {
  const waiting = new WaitingRequests(app, mostWaiting);
  app.get(
    '/api/v2/orders/:id',
    {
      schema: {
        operationId: 'getOrder',
        summary: 'How far an order has come',
        description: 'For whoever holds the token of the basket it came from; anybody else gets 404.',
        tags: ['Orders'],
        security: [{ basket: [] }],
        params: OrderParams,
        headers: PreferHeaders,
        response: conditionalAnswers(OrderStatusSchema, { 404: [`Couldn't find Order with 'id'="1"`] }),
      },
    },
    async (request: OrderRequest, reply) => {
      const documentOf = ({ status }: FoundOrder) => ({ ...status, events_url: eventsPath(ticketKey, status.id) });
      const waitSeconds = preferredWaitSeconds(request, longestWaitSeconds);
      let result = await findOrder(request, reader);
      if (result.ok && waitSeconds !== null && isToBeWaitedFor(result.value)) {
        const { position } = result.value;
        await waiting.wait(reply, waitSeconds * 1_000, (signal) => untilChanged(position, signal));
        result = await findOrder(request, reader);
      }
      if (!result.ok) return sendRefusal(request, reply, result.refusal);
      if (waitSeconds !== null) reply.header('Preference-Applied', `wait=${waitSeconds}`);
      return sendConditional(request, addVary(markPrivate(reply), 'Prefer'), documentOf(result.value));

      function isToBeWaitedFor(found: FoundOrder): boolean {
        return !hasEnded(found.status) && !hasOutdated(request, reply, documentOf(found));
      }
    },
  );
}

function findOrder(request: OrderRequest, reader: Reader): Promise<Result<FoundOrder>> {
  return getOrderOfBasket(reader, request.params.id, basketTokenOf(request), departureOf(request));
}
