import type { CableReads, IsWanted } from './cable-reads.ts';
import type { OutcomeEvent, Stream } from './notifications.service.ts';

/** The latest time that `since` may name; PostgreSQL's own limit is far beyond. */
const maxSinceSeconds = 1e11;
/** `since` is told by the client's clock, which may be ahead of ours. */
const clockSlackSeconds = 60;

type Position = Readonly<{ offset: number; epoch: string }>;

/** What a client asks to be told again: what came after its position in each stream, otherwise after a time. */
type HistoryRequest = Readonly<{
  sinceSeconds: number | null;
  positions: ReadonlyMap<string, Position>;
}>;

/** What a client asks for; null when that is nothing, `malformed` when it cannot be told. */
export type HistoryWish = HistoryRequest | 'malformed' | null;

/** How the replay of a stream begins: behind `after`, and whether the client has been told of anything before that. */
export type Start = Readonly<{ after: number; isKnown: boolean }>;

/** Reads the `history` of a frame. `false` is how a client says that it does not go by time. */
export function parseHistory(history: unknown): HistoryWish {
  if (history === undefined || history === null) return null;
  if (!isObject(history)) return 'malformed';
  const { since = null, streams = null } = history;
  const positions = Object.entries(isObject(streams) ? streams : {});
  const isValid =
    (isTime(since) || since === null || since === false) &&
    (isObject(streams) || streams === null) &&
    positions.every(([, position]) => isPosition(position));
  if (!isValid) return 'malformed';
  if (!isTime(since) && positions.length === 0) return null;
  return { sinceSeconds: isTime(since) ? since : null, positions: new Map(positions as Array<[string, Position]>) };
}

/**
 * Where the replay of `stream` begins that is to reach `through`. Null when there is no such history: another epoch,
 * another stream, an offset that does not exist yet. Undefined when no longer wanted.
 */
export async function findStart(
  request: HistoryWish,
  { stream, epoch, through }: { stream: Stream; epoch: string | null; through: number },
  reads: CableReads,
  isWanted: IsWanted,
): Promise<Start | null | undefined> {
  if (request === null || request === 'malformed') return null;
  if ([...request.positions.keys()].some((id) => id !== stream.basketId)) return null;
  const position = request.positions.get(stream.basketId);
  if (position) {
    const exists = position.epoch === epoch && position.offset <= stream.offset;
    return exists ? { after: position.offset, isKnown: true } : null;
  }
  if (request.sinceSeconds === null) return null;
  // While an order is live, the end of an earlier one, before `since`, would be taken for its own.
  const slackSeconds = stream.outcome ? clockSlackSeconds : 0;
  const found = await reads.findOffsetBefore(stream.basketId, request.sinceSeconds - slackSeconds, isWanted);
  return found && { after: found.offset ?? through, isKnown: false };
}

/**
 * Tells all that a stream holds beyond `after` and up to `through`, in order and page by page. False when some of it
 * is not kept any more: what comes before that has been told by then.
 */
export async function replay(
  { basketId, after, through }: { basketId: string; after: number; through: number },
  reads: CableReads,
  tell: (event: OutcomeEvent) => Promise<void>,
  isWanted: IsWanted,
): Promise<boolean> {
  for (let reached = after; reached < through; ) {
    const page = await reads.readHistory({ basketId, after: reached, through }, isWanted);
    if (page && page[0]?.offset !== reached + 1) return false;
    for (const event of page ?? []) if (isWanted()) await tell(event);
    reached = page?.at(-1)?.offset ?? through;
  }
  return true;
}

function isTime(value: unknown): value is number {
  return typeof value === 'number' && value >= 0 && value <= maxSinceSeconds;
}

function isPosition(value: unknown): value is Position {
  if (!isObject(value)) return false;
  const { offset, epoch } = value;
  return Number.isSafeInteger(offset) && (offset as number) >= 0 && typeof epoch === 'string';
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
