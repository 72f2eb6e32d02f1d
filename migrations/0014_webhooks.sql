-- Up Migration
SET lock_timeout = '100ms';
SET statement_timeout = '60s';

-- Who is told of outcomes over HTTP. The secret is what messages are signed with, so it cannot be stored as a digest.
CREATE TABLE webhook_endpoints (
  id uuid PRIMARY KEY,
  url text NOT NULL CHECK (length(url) BETWEEN 1 AND 2000),
  secret text NOT NULL,
  description text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  -- Since when the endpoint wants no more messages: it has answered 410 Gone.
  disabled_at timestamptz
);

-- Events that are still to be passed on to the endpoints; written in the commit of the event, and only while there is an
-- endpoint. Whoever passes a row on deletes it in the commit that makes its deliveries, so nothing has to be remembered of
-- how far that has come. It references nothing: each key would be locked for each event.
CREATE TABLE webhook_outbox (
  event_id uuid PRIMARY KEY,
  order_id uuid NOT NULL,
  kind text NOT NULL CHECK (kind IN ('completed', 'failed', 'cancelled', 'refunded')),
  created_at timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
