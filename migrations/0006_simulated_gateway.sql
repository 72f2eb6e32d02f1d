-- Up Migration
SET lock_timeout = '100ms';
SET statement_timeout = '60s';

-- The book of the simulated payment gateway: a stranger's books, in a schema of their own,
-- written through a connection and in transactions of their own, never joined by the shop's.
CREATE SCHEMA simulated_gateway;

-- One row per idempotency key: the first request under it and the answer it keeps getting.
CREATE TABLE simulated_gateway.journal (
  key text PRIMARY KEY,
  operation text NOT NULL CHECK (operation IN ('authorize', 'capture')),
  -- For a capture: the key of the authorization that it draws on.
  authorization_key text,
  amount bigint NOT NULL CHECK (amount > 0),
  currency text NOT NULL,
  request_digest text NOT NULL,
  approved boolean NOT NULL,
  message text,
  reference uuid NOT NULL,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE UNIQUE INDEX journal_one_capture ON simulated_gateway.journal (authorization_key)
  WHERE operation = 'capture' AND approved;
