import type { KeyObject } from 'node:crypto';
import { Coalescer, type CoalescerLimits, type Departure } from '../../platform/coalescer.ts';
import type { Reader } from '../../platform/db.ts';
import { isUuid } from '../../shared/ids.ts';
import { accepted, type Result } from '../../shared/refusal.ts';
import { orderNotFound } from '../orders/orders.service.ts';
import { expiryOfTicket } from '../orders/tickets.service.ts';
import type { CableReads } from './cable-reads.ts';
import { type Notifications, type OutcomeEvent, watchBasket } from './notifications.service.ts';
import { type OrderEventsRow, readOrderEvents } from './order-events.sql.ts';
import { eventOf } from './outcome-streams.ts';

/** The events of one order, as a client that comes to listen finds them. */
export type OrderEvents = Readonly<{
  orderId: string;
  basketId: string;
  /** Where the basket's stream ends. */
  offset: number;
  /** Whether no event can follow. */
  isOver: boolean;
  past: readonly OutcomeEvent[];
  /** For how long the client may listen before it has to show again that it may. */
  mayListenMs: number;
}>;

export type Credentials = Readonly<{ token: string | null; ticket: string | undefined }>;

const longestSeconds = 24 * 60 * 60;

/** Asks for events of orders: who asks at the same time shares a statement. */
export type OrderEventsLine = Coalescer<string, OrderEventsRow | null>;

const readLimits: CoalescerLimits = { waiting: 10_000, waitingPerKey: 0, batch: 500, inFlight: 2, waitMs: 5_000 };

export function openOrderEventsLine(reader: Reader): OrderEventsLine {
  return new Coalescer({
    name: 'order events',
    run: async (ids) => {
      const rows = await readOrderEvents(reader, [...new Set(ids)]);
      const found = new Map(rows.map((row) => [row.order_id, row]));
      return ids.map((id) => found.get(id) ?? null);
    },
    keyOf: () => null,
    // Ids are all that is sent, and known to be some: no member can make a batch fail.
    isMemberFault: () => false,
    onSplit: () => undefined,
    limits: readLimits,
  });
}

/**
 * The events of the order with that id, for whoever holds its ticket or the token of the basket that it came from; not
 * found for anybody else, so that nobody learns which orders there are. A forged ticket does not reach the database.
 */
export async function findOrderEvents(
  { line, ticketKey }: Readonly<{ line: OrderEventsLine; ticketKey: KeyObject }>,
  orderId: string,
  { token, ticket }: Credentials,
  departure: Departure,
): Promise<Result<OrderEvents>> {
  const id = orderId.toLowerCase();
  const expiresAt = ticket === undefined || !isUuid(id) ? null : expiryOfTicket(ticketKey, id, ticket);
  if (!isUuid(id) || (expiresAt === null && token === null)) return orderNotFound(orderId);
  const row = await line.submit(id, departure);
  if (!row) return orderNotFound(orderId);
  const ticketSeconds = (expiresAt ?? 0) - row.read_at;
  const secondsLeft = row.basket_token === token ? longestSeconds : Math.min(ticketSeconds, longestSeconds);
  return secondsLeft > 0 ? accepted(toOrderEvents(row, secondsLeft * 1_000)) : orderNotFound(orderId);
}

/** What the client has not had yet, who says that the last it had was at `lastOffset`. */
export function unseenOf({ past, offset }: OrderEvents, lastOffset: number): OutcomeEvent[] {
  // An offset that is not reached yet was given out by another database: nothing is known to be seen.
  const seenOffset = lastOffset <= offset ? lastOffset : 0;
  return past.filter((event) => event.offset > seenOffset);
}

export type OrderListener = Readonly<{
  /** `message` is JSON. */
  onEvent: (event: OutcomeEvent, message: string) => void;
  /** After the last event that can come. */
  onOver: () => void;
}>;

/** Tells a listener of what it has not seen, in order, and then of what comes. */
export class OrderFollower {
  readonly #reads: CableReads;
  readonly #listener: OrderListener;
  readonly #untold: OutcomeEvent[] = [];
  readonly #stopWatching: () => void;
  #isWanted = true;

  constructor(
    context: Readonly<{ notifications: Notifications; reads: CableReads; onError: (error: Error) => void }>,
    { orderId, basketId, offset }: OrderEvents,
    unseen: readonly OutcomeEvent[],
    listener: OrderListener,
  ) {
    this.#reads = context.reads;
    this.#listener = listener;
    const add = (event: OutcomeEvent): void => {
      if (event.orderId === orderId && this.#untold.push(event) === 1) this.#tellAll().catch(context.onError);
    };
    this.#stopWatching = watchBasket(context.notifications, basketId, offset, add);
    unseen.forEach(add);
  }

  /** From now on the listener is told nothing. */
  stop(): void {
    this.#isWanted = false;
    this.#stopWatching();
  }

  /** One at a time: a message that renders faster must not overtake the one before it. */
  async #tellAll(): Promise<void> {
    for (let event = this.#untold[0]; event && this.#isWanted; event = this.#untold[0]) {
      const message = await this.#reads.renderMessage(event, () => this.#isWanted);
      if (message === undefined || !this.#isWanted) return;
      this.#listener.onEvent(event, message);
      if (isLast(event)) this.#listener.onOver();
      this.#untold.shift();
    }
  }
}

/** Resolves at the order's next event beyond `offset` of its basket's stream, and when `signal` is aborted. */
export function untilNextEvent(
  notifications: Notifications,
  order: Readonly<{ orderId: string; basketId: string; offset: number }>,
  signal: AbortSignal,
): Promise<void> {
  return new Promise((resolve) => {
    const finish = (): void => {
      stop();
      resolve();
    };
    const stop = watchBasket(notifications, order.basketId, order.offset, (event) => {
      if (event.orderId === order.orderId) finish();
    });
    signal.addEventListener('abort', finish, { once: true });
  });
}

/** A completed order may still be refunded. */
function isLast({ kind }: OutcomeEvent): boolean {
  return kind !== 'completed';
}

function toOrderEvents(row: OrderEventsRow, mayListenMs: number): OrderEvents {
  return {
    orderId: row.order_id,
    basketId: row.basket_id,
    offset: row.last_event_offset,
    isOver: row.is_over,
    past: row.events.map(eventOf),
    mayListenMs,
  };
}
