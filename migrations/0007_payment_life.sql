-- Up Migration
SET lock_timeout = '2s';
SET statement_timeout = '60s';

ALTER TABLE order_states
  -- How often the order was taken over from a worker that had not given it up: crashes that it may be the cause of.
  ADD COLUMN takeovers integer NOT NULL DEFAULT 0,
  -- Since when the latest call to the gateway has had no answer.
  ADD COLUMN unanswered_since timestamptz,
  -- Who wants the order cancelled: an intent, on record before the gateway is asked to close the payment.
  ADD COLUMN cancel_requested_by text;

-- A refund is an intent first, and has an end when the gateway has answered it.
CREATE TABLE refunds (
  order_id uuid PRIMARY KEY REFERENCES orders (id),
  amount bigint NOT NULL CHECK (amount > 0),
  -- Whether the goods come back and can be sold again.
  restock boolean NOT NULL,
  requested_by text NOT NULL,
  requested_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  reference text,
  -- The gateway's word that it gives nothing back, for an operator to read.
  refused_message text,
  ended_at timestamptz,
  CONSTRAINT refunds_ended CHECK ((ended_at IS NOT NULL) = (reference IS NOT NULL OR refused_message IS NOT NULL))
);
CREATE INDEX refunds_open ON refunds (requested_at) WHERE ended_at IS NULL;
