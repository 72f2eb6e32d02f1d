import type { EventKind, EventRow } from './notifications.sql.ts';

/** Something that a shopper is told: the `offset`-th event of a basket's stream. */
export type OutcomeEvent = Readonly<{
  id: string;
  basketId: string;
  offset: number;
  orderId: string;
  kind: EventKind;
}>;

type Listener = (event: OutcomeEvent) => void;
type Watcher = { seenOffset: number; listener: Listener };
export type SeenStream = Readonly<{ basketId: string; offset: number }>;

/**
 * Who in this process waits for which basket's events. Each watcher gets each event once and in the order of its
 * stream, whether it is passed on at once or found later in the table: what would leave a gap is held for the table.
 */
export class OutcomeStreams {
  readonly #watchers = new Map<string, Set<Watcher>>();

  /** Calls `listener` for every event of the basket beyond `seenOffset`. Returns how to stop. */
  watch(basketId: string, seenOffset: number, listener: Listener): () => void {
    const watcher = { seenOffset, listener };
    const watchers = this.#watchers.get(basketId) ?? new Set();
    this.#watchers.set(basketId, watchers.add(watcher));
    return () => {
      watchers.delete(watcher);
      if (watchers.size === 0 && this.#watchers.get(basketId) === watchers) this.#watchers.delete(basketId);
    };
  }

  isWatched(basketId: string): boolean {
    return this.#watchers.has(basketId);
  }

  /** Whether somebody waits for the event, or for one before it. */
  isNews({ basketId, offset }: OutcomeEvent): boolean {
    const watchers = this.#watchers.get(basketId);
    return watchers !== undefined && offset > leastSeen(watchers);
  }

  /** Passes a committed event on to those whose next event it is. Returns whether there was one. */
  pass(event: OutcomeEvent): boolean {
    let isNews = false;
    for (const watcher of this.#watchers.get(event.basketId) ?? []) {
      if (event.offset !== watcher.seenOffset + 1) continue;
      watcher.seenOffset = event.offset;
      isNews = true;
      watcher.listener(event);
    }
    return isNews;
  }

  /** The baskets that somebody watches. */
  watched(): string[] {
    return [...this.#watchers.keys()];
  }

  /** How far the watchers of each basket have come, the last of them; of `basketIds`, those that are still watched. */
  seen(basketIds: Iterable<string> = this.#watchers.keys()): SeenStream[] {
    const seen: SeenStream[] = [];
    for (const basketId of basketIds) {
      const watchers = this.#watchers.get(basketId);
      if (watchers) seen.push({ basketId, offset: leastSeen(watchers) });
    }
    return seen;
  }

  /** How many watchers there are. */
  get size(): number {
    let size = 0;
    for (const watchers of this.#watchers.values()) size += watchers.size;
    return size;
  }
}

/** The event that a row of the table tells of. */
export function eventOf(row: EventRow): OutcomeEvent {
  const { id, basket_id: basketId, stream_offset: offset, order_id: orderId, kind } = row;
  return { id, basketId, offset, orderId, kind };
}

function leastSeen(watchers: Iterable<Watcher>): number {
  let least = Number.POSITIVE_INFINITY;
  for (const { seenOffset } of watchers) least = Math.min(least, seenOffset);
  return least;
}
