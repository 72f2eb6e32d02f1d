import { setTimeout as sleep } from 'node:timers/promises';
import { packEvents } from '../../src/modules/notifications/fan-out-payload.ts';
import type { OutcomeEvent } from '../../src/modules/notifications/notifications.service.ts';
import { notify } from '../../src/platform/channel.ts';
import { openDatabase } from '../../src/platform/db.ts';
import { newId } from '../../src/shared/ids.ts';
import type { Ledger } from './ledger.ts';
import { between, oneOf, type Random } from './seed.ts';

/** Tells processes of events in the place of the shop. */
export type Meddler = Readonly<{
  /** How often it has told of an event that is in the table, and of one that is not. */
  counts: Readonly<{ told: number; forged: number }>;
  close(): Promise<void>;
}>;

/** Makes an event that is in no table out of one that is. */
type Forger = (event: OutcomeEvent) => OutcomeEvent;

const channel = 'scalecommerce_events';
const mostBytes = 7_999;
const longestPauseMs = 150;
/** What no process of the shop sends. */
const nonsense = ['', 'null', '[', '[]', '{"a":1}', '["x",[1]]', '["x",null,{}]', 'x'.repeat(mostBytes)];

/** Of other baskets, far ahead in the stream of this one, and just where its next event is waited for. */
export const forgers: readonly Forger[] = [
  (event) => ({ ...event, id: newId(), offset: event.offset + 1 }),
  (event) => ({ ...event, id: newId(), offset: event.offset + 1, kind: 'refunded' }),
  (event) => ({ ...event, id: newId(), basketId: newId() }),
  (event) => ({ ...event, id: newId(), offset: event.offset + 1_000 }),
  (event) => ({ ...event, id: newId(), offset: -event.offset }),
  (event) => ({ ...event, kind: 'lost' }) as unknown as OutcomeEvent,
  (event) => ({ ...event, id: 'x' }),
];

/**
 * Until it is closed: notifies of the events in the table, each as often as it falls, in any order, long after its commit
 * or never; and of what `forgers` make of them.
 */
export function openMeddler(
  stage: { url: string; ledger: Ledger },
  random: Random,
  forgers: readonly Forger[],
): Meddler {
  const failed = (error: Error): void => void process.stderr.write(`The meddler: ${error.message}\n`);
  const database = openDatabase({ url: stage.url, name: 'meddler', connections: 1, waiting: 10, onError: failed });
  const counts = { told: 0, forged: 0 };
  let isOpen = true;
  const meddleOnce = async (): Promise<void> => {
    const events = await readEvents(stage.ledger);
    const sample = Array.from({ length: events.length === 0 ? 0 : between(random, 0, 9) }, () => oneOf(random, events));
    const forged = sample.filter(() => random() < 0.5).map((event) => oneOf(random, forgers)(event));
    const both = [...sample, ...forged].toSorted(() => random() - 0.5);
    await notify(database, channel, [
      oneOf(random, nonsense),
      ...packEvents(newId(), both, between(random, 300, mostBytes)),
    ]);
    counts.told += sample.length;
    counts.forged += forged.length;
  };
  const meddle = async (): Promise<void> => {
    for (; isOpen; await sleep(between(random, 1, longestPauseMs))) await meddleOnce();
  };
  const done = meddle();
  return {
    counts,
    close: async () => {
      isOpen = false;
      await done.finally(() => database.close());
    },
  };
}

function readEvents(ledger: Ledger): Promise<OutcomeEvent[]> {
  return ledger.query<OutcomeEvent>(
    'SELECT id, basket_id AS "basketId", stream_offset::int AS "offset", order_id AS "orderId", kind FROM events',
  );
}
