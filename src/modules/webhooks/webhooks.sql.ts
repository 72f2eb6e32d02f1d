import { type Reader, sql, type Tx } from '../../platform/db.ts';

export type EventKind = 'completed' | 'failed' | 'cancelled' | 'refunded';

/** An event that the endpoints are still to be told of. */
export type OutboxRow = { event_id: string; order_id: string; kind: EventKind; created_at: Date };

/** An endpoint as it is shown: all but its secret. */
export type EndpointRow = { id: string; url: string; description: string; created_at: Date; disabled_at: Date | null };

/** Where to send to, and what to sign with. */
export type Recipient = { url: string; secret: string };

const insertEndpoint = sql(
  'webhooks.insert_endpoint',
  'INSERT INTO webhook_endpoints (id, url, secret, description) VALUES ($1, $2, $3, $4)',
);

const selectEndpoints = sql(
  'webhooks.endpoints',
  'SELECT id, url, description, created_at, disabled_at FROM webhook_endpoints ORDER BY created_at, id',
);

const selectEndpointsAt = sql(
  'webhooks.endpoints_at',
  'SELECT id FROM webhook_endpoints WHERE url = $1 AND disabled_at IS NULL ORDER BY created_at, id',
);

const selectRecipient = sql('webhooks.recipient', 'SELECT url, secret FROM webhook_endpoints WHERE id = $1');

const selectActiveRecipient = sql(
  'webhooks.active_recipient',
  'SELECT url, secret FROM webhook_endpoints WHERE id = $1 AND disabled_at IS NULL',
);

const deleteEndpoint = sql('webhooks.delete_endpoint', 'DELETE FROM webhook_endpoints WHERE id = $1 RETURNING id');

const disableEndpoint = sql(
  'webhooks.disable_endpoint',
  'UPDATE webhook_endpoints SET disabled_at = clock_timestamp() WHERE id = $1 AND disabled_at IS NULL',
);

const selectNews = sql(
  'webhooks.news',
  `SELECT EXISTS (SELECT FROM webhook_outbox) AS is_waiting,
          ARRAY (SELECT id FROM webhook_endpoints WHERE disabled_at IS NULL)::text[] AS endpoint_ids`,
);

/** Whoever removes or disables one waits: it goes with its queue, to which nothing can be added then. */
const lockEndpoints = sql(
  'webhooks.lock_endpoints',
  'SELECT id FROM webhook_endpoints WHERE disabled_at IS NULL ORDER BY id FOR SHARE',
);

/** Those that others are about to take are left to them, whichever was written first. */
const takeOutbox = sql(
  'webhooks.take_outbox',
  `WITH taken AS (SELECT event_id FROM webhook_outbox ORDER BY event_id LIMIT $1 FOR UPDATE SKIP LOCKED)
   DELETE FROM webhook_outbox o USING taken WHERE o.event_id = taken.event_id
   RETURNING o.event_id, o.order_id, o.kind, o.created_at`,
);

/** Adds an endpoint. Events are passed on to it from the next commit. */
export async function addEndpoint(
  db: Reader,
  endpoint: Readonly<{ id: string; url: string; secret: string; description: string }>,
): Promise<void> {
  await db.query(insertEndpoint, [endpoint.id, endpoint.url, endpoint.secret, endpoint.description]);
}

/** All endpoints, the oldest first. */
export function readEndpoints(db: Reader): Promise<EndpointRow[]> {
  return db.query(selectEndpoints);
}

/** The endpoints at a URL that are told of events, the oldest first. */
export async function findEndpointsAt(db: Reader, url: string): Promise<string[]> {
  const rows = await db.query<{ id: string }>(selectEndpointsAt, [url]);
  return rows.map(({ id }) => id);
}

/** Where the endpoint is, disabled or not; undefined when there is none. */
export async function findRecipient(db: Reader, id: string): Promise<Recipient | undefined> {
  const [row] = await db.query<Recipient>(selectRecipient, [id]);
  return row;
}

/** Where the endpoint is; undefined when it was removed, or is disabled. */
export async function findActiveRecipient(db: Reader, id: string): Promise<Recipient | undefined> {
  const [row] = await db.query<Recipient>(selectActiveRecipient, [id]);
  return row;
}

/** Removes an endpoint with its secret, and says whether there was one. */
export async function dropEndpoint(db: Reader, id: string): Promise<boolean> {
  return (await db.query(deleteEndpoint, [id])).length > 0;
}

/** Nothing more is sent to the endpoint. */
export async function disable(db: Reader, id: string): Promise<void> {
  await db.query(disableEndpoint, [id]);
}

/** Whether events wait for being passed on, and the endpoints that there are to be told. */
export async function readNews(db: Reader): Promise<{ is_waiting: boolean; endpoint_ids: string[] }> {
  const [row] = await db.query<{ is_waiting: boolean; endpoint_ids: string[] }>(selectNews);
  if (!row) throw new Error('A query of one row had none');
  return row;
}

/** The endpoints that are to be told, which nobody can remove until the end of the transaction. */
export async function lockActiveEndpoints(tx: Tx): Promise<string[]> {
  const rows = await tx.query<{ id: string }>(lockEndpoints);
  return rows.map((row) => row.id);
}

/** Takes up to `most` events out of the outbox, for good with the commit. */
export function takeEvents(tx: Tx, most: number): Promise<OutboxRow[]> {
  return tx.query(takeOutbox, [most]);
}
