import { type Reader, sql } from '../../platform/db.ts';
import type { OutcomeEvent } from './outcome-streams.ts';

/** Of events and their rendered messages, so much is in memory at a time for each client that asks for history. */
const pageLength = 100;

const selectHistory = sql(
  'notifications.history',
  `SELECT id, basket_id AS "basketId", stream_offset AS "offset", order_id AS "orderId", kind
     FROM events
    WHERE basket_id = $1 AND stream_offset > $2 AND stream_offset <= $3
    ORDER BY stream_offset
    LIMIT ${pageLength}`,
);

/** The least offset, not the oldest row: nothing may be left out where a clock was set back between two events. */
const selectOffsetBefore = sql(
  'notifications.offset_before',
  `SELECT min(stream_offset) - 1 AS "offset"
     FROM events
    WHERE basket_id = $1 AND created_at >= to_timestamp($2)`,
);

/** The first events (100 at most) of a basket's stream beyond `after`, up to `through`, oldest first. */
export function readHistory(
  reader: Reader,
  { basketId, after, through }: { basketId: string; after: number; through: number },
): Promise<OutcomeEvent[]> {
  return reader.query<OutcomeEvent>(selectHistory, [basketId, after, through]);
}

/** The offset behind which all events since that time stand (unix seconds), or null when there were none. */
export async function findOffsetBefore(
  reader: Reader,
  { basketId, sinceSeconds }: { basketId: string; sinceSeconds: number },
): Promise<number | null> {
  const [row] = await reader.query<{ offset: number | null }>(selectOffsetBefore, [basketId, sinceSeconds]);
  return row?.offset ?? null;
}
