import type { Reader, Tx } from '../../platform/db.ts';
import { isUuid, newId } from '../../shared/ids.ts';
import { getOrder, type Order, type OrderError } from '../orders/orders.service.ts';
import { type FanOut, type FanOutFigures, inProcessFanOut } from './fan-out.ts';
import { MissedEvents } from './missed-events.ts';
import { deferEvents, findStream } from './notifications.sql.ts';
import { eventOf, type OutcomeEvent, OutcomeStreams } from './outcome-streams.ts';

export type { OutcomeEvent } from './outcome-streams.ts';

/** Figures of this process: since its beginning, and how many watchers there are now. */
export type EventFigures = FanOutFigures & Readonly<{ found: number; watchers: number }>;

export type Notifications = Readonly<{
  reader: Reader;
  streams: OutcomeStreams;
  fanOut: FanOut;
  figures: () => EventFigures;
  /** Ends the look-ups in the table. */
  stop: () => void;
}>;

/** What a subscriber is sent. Old clients ignore the two ids. */
export type OutcomeMessage = (
  | { status: 'completed' | 'refunded'; order: Order }
  | { status: 'failed'; error: OrderError }
) & { order_id: string; event_id: string };

/** A basket's stream as a new subscriber finds it; `outcome` is how its latest order ended, once that is over. */
export type Stream = Readonly<{ basketId: string; offset: number; outcome: OutcomeEvent | null }>;

/**
 * Opens the process's door to outcomes. What comes by `fanOut` only says in which streams to look: watchers are told what
 * the table holds. What does not come, whatever the reason, is found there, too: looked for every `pollMs`, and at once
 * when the fan-out may have missed something.
 */
export function openNotifications(options: {
  reader: Reader;
  fanOut?: FanOut;
  pollMs: number;
  onError: (error: Error) => void;
}): Notifications {
  const streams = new OutcomeStreams();
  const { reader, fanOut = inProcessFanOut, pollMs: everyMs, onError } = options;
  const missed = new MissedEvents({ reader, streams, everyMs, onError });
  fanOut.listen({
    onEvents: (events) =>
      missed.lookAtStreams(events.filter((event) => streams.isNews(event)).map((event) => event.basketId)),
    onGap: () => missed.lookNow(),
  });
  const figures = (): EventFigures => ({ ...fanOut.figures(), found: missed.found, watchers: streams.size });
  return { reader, streams, fanOut, figures, stop: () => missed.stop() };
}

/** In the commit of `tx`: appends events to the streams of locked baskets. Pass them on with {@link announce} after. */
export function recordEvents(tx: Tx, abouts: readonly Omit<OutcomeEvent, 'id'>[]): OutcomeEvent[] {
  const events = abouts.map((about) => ({ id: newId(), ...about }));
  deferEvents(
    tx,
    events.map((event) => ({
      id: event.id,
      basket_id: event.basketId,
      stream_offset: event.offset,
      order_id: event.orderId,
      kind: event.kind,
    })),
  );
  return events;
}

/**
 * Passes a committed event on to those who wait for it: in this process at once, in others soon after, for which nobody
 * waits here. Never before its commit, nor inside of it.
 */
export function announce({ streams, fanOut }: Notifications, event: OutcomeEvent): void {
  streams.pass(event);
  fanOut.publish(event);
}

/** Calls `listener` once for each event of the basket beyond `seenOffset`, in order. Returns how to stop. */
export function watchBasket(
  notifications: Notifications,
  basketId: string,
  seenOffset: number,
  listener: (event: OutcomeEvent) => void,
): () => void {
  return notifications.streams.watch(basketId, seenOffset, listener);
}

/** Whether anybody in this process waits for events of the basket. */
export function isWatched(notifications: Notifications, basketId: string): boolean {
  return notifications.streams.isWatched(basketId);
}

/** Waits up to `timeoutMs` for the end of an order; false when it has not come by then. */
export function waitForOutcome(
  notifications: Notifications,
  order: { orderId: string; basketId: string; eventOffset: number },
  timeoutMs: number,
): Promise<boolean> {
  return new Promise((resolve) => {
    const finish = (hasEnded: boolean): void => {
      clearTimeout(timer);
      stop();
      resolve(hasEnded);
    };
    const timer = setTimeout(() => finish(false), timeoutMs);
    const stop = watchBasket(notifications, order.basketId, order.eventOffset, (event) => {
      if (event.orderId === order.orderId) finish(true);
    });
  });
}

/** The stream of the basket that `token` opens, or null when it opens none. */
export async function findBasketStream(notifications: Notifications, token: unknown): Promise<Stream | null> {
  const row = isUuid(token) ? await findStream(notifications.reader, token) : undefined;
  if (!row) return null;
  const outcome = row.id === null ? null : eventOf(row);
  return { basketId: row.basket_id, offset: row.last_event_offset, outcome };
}

/** The message that tells of an event, rendered from its order as it is now. */
export async function renderMessage(notifications: Notifications, event: OutcomeEvent): Promise<OutcomeMessage> {
  const ids = { order_id: event.orderId, event_id: event.id };
  const { order, error } = await getOrder(notifications.reader, event.orderId);
  if (event.kind === 'completed' || event.kind === 'refunded') {
    if (!order) throw new Error(`Order ${event.orderId} has the event ${event.kind} but was not sold`);
    return { status: event.kind, order, ...ids };
  }
  if (!error) throw new Error(`Order ${event.orderId} has the event ${event.kind} but no error`);
  return { status: 'failed', error, ...ids };
}
