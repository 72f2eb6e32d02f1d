import type { KeyObject } from 'node:crypto';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { type Static, Type } from 'typebox';
import { basketTokenOf } from '../../http/bearer.ts';
import { departureOf } from '../../http/departure.ts';
import { EventStreams } from '../../http/event-stream.ts';
import { sendRefusal } from '../../http/problem.ts';
import { streamAnswers } from '../../http/schemas.ts';
import type { Reader } from '../../platform/db.ts';
import { isUuid } from '../../shared/ids.ts';
import type { Refusal } from '../../shared/refusal.ts';
import { OrderParams } from '../orders/orders.schema.ts';
import { CableReads } from './cable-reads.ts';
import type { Notifications } from './notifications.service.ts';
import { findOrderEvents, type OrderEvents, OrderFollower, openOrderEventsLine, unseenOf } from './order-events.ts';
import type { OutcomeEvent } from './outcome-streams.ts';

const EventsQuery = Type.Object({
  ticket: Type.Optional(Type.String({ description: 'As it stands in `events_url`.' })),
});
const EventsHeaders = Type.Object({
  'last-event-id': Type.Optional(Type.String({ description: 'The `id` of the last event that the client has.' })),
});

type EventsRequest = FastifyRequest<{ Params: Static<typeof OrderParams>; Querystring: Static<typeof EventsQuery> }>;

export type OrderEventRoutesOptions = Readonly<{
  reader: Reader;
  notifications: Notifications;
  ticketKey: KeyObject;
  onError: (error: Error) => void;
}>;

type Context = OrderEventRoutesOptions & Readonly<{ streams: EventStreams; reads: CableReads }>;

/** Listening for the events of an order. */
export function orderEventRoutes(app: FastifyInstance, options: OrderEventRoutesOptions): void {
  const { reader, notifications, ticketKey, onError } = options;
  const streams = new EventStreams(app);
  const context = { ...options, streams, reads: new CableReads(notifications, onError) };
  const lookUp = { line: openOrderEventsLine(reader), ticketKey };
  app.get(
    '/api/v2/orders/:id/events',
    {
      schema: {
        operationId: 'listenToOrder',
        summary: 'The outcome of an order, as it comes',
        description:
          'Server-sent events `completed`, `failed`, `cancelled` and `refunded`; their data is the message of `/cable`. ' +
          'For whoever holds the token of the basket or the ticket in `events_url`; anybody else gets 404. ' +
          'Ends after an event that none can follow, and when the ticket expires.',
        tags: ['Orders'],
        security: [{ basket: [] }, {}],
        params: OrderParams,
        querystring: EventsQuery,
        headers: EventsHeaders,
        response: streamAnswers('Nothing is left to listen for: all has been told.', {
          404: [`Couldn't find Order with 'id'="1"`],
        }),
      },
    },
    async (request: EventsRequest, reply) => {
      const misplaced = refusalOfAddress(request.query);
      if (misplaced) return sendRefusal(request, reply, misplaced);
      const credentials = { token: basketTokenOf(request), ticket: request.query.ticket };
      const result = await findOrderEvents(lookUp, request.params.id, credentials, departureOf(request));
      if (!result.ok) return sendRefusal(request, reply, result.refusal);
      const unseen = unseenOf(result.value, lastEventIdOf(request));
      if (result.value.isOver && unseen.length === 0) return sendNothingLeft(reply);
      stream(context, reply, result.value, unseen);
      return reply;
    },
  );
}

/** What stands in an address is kept by browsers, proxies and their logs: no place for what opens a basket. */
function refusalOfAddress({ ticket, ...others }: Static<typeof EventsQuery>): Refusal | null {
  if (Object.keys(others).length === 0 && !isUuid(ticket)) return null;
  const message = "Only `ticket` may stand in this address; send a basket's token as `Authorization: Bearer <token>`";
  return { kind: 'bad_request', messages: [message] };
}

/** 0 for who has none, and for what is none of ours: better to be told again than not at all. */
function lastEventIdOf({ headers }: FastifyRequest): number {
  const id = String(headers['last-event-id'] ?? '');
  return /^\d{1,15}$/.test(id) ? Number(id) : 0;
}

/** The one answer after which a client does not connect again. */
function sendNothingLeft(reply: FastifyReply): FastifyReply {
  return reply.code(204).header('Cache-Control', 'no-store').send();
}

function stream(context: Context, reply: FastifyReply, events: OrderEvents, unseen: readonly OutcomeEvent[]): void {
  const ends: Array<() => void> = [];
  const client = context.streams.open(reply, () => ends.forEach((end) => void end()));
  if (!client) return;
  const follower = new OrderFollower(context, events, unseen, {
    onEvent: ({ offset, kind }, data) => client.send({ id: offset, event: kind, data }),
    onOver: () => client.end(),
  });
  ends.push(() => follower.stop());
  const timer = setTimeout(() => client.end(), events.mayListenMs);
  ends.push(() => clearTimeout(timer));
}
