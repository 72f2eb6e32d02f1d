import { listenTo, mostPayloadBytes, notify } from '../../platform/channel.ts';
import { Coalescer } from '../../platform/coalescer.ts';
import type { Reader } from '../../platform/db.ts';
import { newId } from '../../shared/ids.ts';
import type { FanOut, FanOutListener } from './fan-out.ts';
import { isSentBy, packEvents, unpackEvents } from './fan-out-payload.ts';
import type { OutcomeEvent } from './outcome-streams.ts';

export type PostgresFanOutOptions = Readonly<{
  /** What notifications are sent with: one connection is enough, and a pooler may be in between. */
  database: Reader;
  /** What they are heard on: the database itself. Null: this process has nobody to tell, and does not listen. */
  listenUrl: string | null;
  onError: (error: Error) => void;
  /** Time between two signs of life on the connection that listens. */
  heartbeatMs?: number;
}>;

type Listener = ReturnType<typeof listenTo>;

const channel = 'scalecommerce_events';
const defaultHeartbeatMs = 5_000;

/** One statement at a time, for its COMMIT takes a lock that is the only one of its kind in the whole server. */
const limits = { waiting: 10_000, waitingPerKey: 10_000, batch: 2_000, inFlight: 1, waitMs: 5_000 };

/** Fans events out by NOTIFY, from outside the transaction that has made them, and by LISTEN. */
export function openPostgresFanOut(options: PostgresFanOutOptions): FanOut {
  const { database, listenUrl, onError, heartbeatMs = defaultHeartbeatMs } = options;
  const self = newId();
  const counts = { published: 0, received: 0, dropped: 0 };
  const line = publishingLine(self, database, onError);
  let listener: Listener | null = null;
  let last: Promise<unknown> = Promise.resolve();
  const receive = (payload: string, onEvents: FanOutListener['onEvents']): void => {
    if (isSentBy(self, payload)) return;
    const events = unpackEvents(payload);
    counts.received += events.length;
    onEvents(events);
  };
  return {
    publish: (event) => {
      last = line.submit(event).then(
        () => counts.published++,
        () => counts.dropped++,
      );
    },
    listen: ({ onEvents, onGap }) => {
      if (listenUrl === null) return;
      const onPayload = (payload: string): void => receive(payload, onEvents);
      const about = { url: listenUrl, channel, name: 'listen', heartbeatMs };
      listener = listenTo({ ...about, onPayload, onListening: onGap, onError });
    },
    figures: () => ({ ...counts, isListening: listener?.isListening() ?? null }),
    close: async () => {
      await Promise.all([listener?.close(), last]);
    },
  };
}

/**
 * Events that come while a statement is under way leave together with the next. Those that find the line full, or are in a
 * statement that fails, are dropped.
 */
function publishingLine(
  self: string,
  database: Reader,
  onError: (error: Error) => void,
): Coalescer<OutcomeEvent, undefined> {
  return new Coalescer({
    name: 'published events',
    run: async (events) => {
      await notify(database, channel, packEvents(self, events, mostPayloadBytes)).catch((error: Error) => {
        onError(error);
        throw error;
      });
      return events.map(() => undefined);
    },
    keyOf: () => null,
    isMemberFault: () => false,
    onSplit: () => undefined,
    limits,
  });
}
