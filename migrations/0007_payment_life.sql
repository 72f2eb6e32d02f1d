-- Up Migration
SET lock_timeout = '100ms';
SET statement_timeout = '60s';

ALTER TABLE order_states
  -- How often the order was taken over from a worker that had crashed: it may have been the cause.
  ADD COLUMN takeovers integer NOT NULL DEFAULT 0,
  -- Since when the latest call to the gateway has had no answer.
  ADD COLUMN unanswered_since timestamptz;

-- What an operator wants undone: an intent, on record before the gateway is asked. It ends with the order cancelled, or
-- with its money given back.
CREATE TABLE cancellations (
  order_id uuid PRIMARY KEY REFERENCES orders (id),
  -- Whether goods that were sold come back and can be sold again.
  restock boolean NOT NULL,
  requested_by text NOT NULL,
  requested_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  -- The gateway's word that it gives nothing back, for an operator to read.
  refused_message text,
  ended_at timestamptz,
  CONSTRAINT cancellations_refused CHECK (refused_message IS NULL OR ended_at IS NOT NULL)
);
CREATE INDEX cancellations_open ON cancellations (requested_at) WHERE ended_at IS NULL;
