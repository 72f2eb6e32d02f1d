-- Up Migration
SET lock_timeout = '100ms';
SET statement_timeout = '60s';

-- What shoppers are told, written in the commit that makes it true. No payload: a message is rendered from its order.
-- A basket is a stream; its offsets come from baskets.last_event_offset under that row's lock.
CREATE TABLE events (
  basket_id uuid NOT NULL REFERENCES baskets (id),
  stream_offset bigint NOT NULL CHECK (stream_offset > 0),
  id uuid NOT NULL,
  order_id uuid NOT NULL REFERENCES orders (id),
  kind text NOT NULL CHECK (kind IN ('completed', 'failed', 'cancelled', 'refunded')),
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (basket_id, stream_offset)
);
CREATE UNIQUE INDEX events_once_per_kind ON events (order_id, kind);
