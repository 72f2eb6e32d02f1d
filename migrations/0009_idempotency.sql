-- Up Migration
SET lock_timeout = '100ms';
SET statement_timeout = '60s';

-- What clients have called their requests, and what came of them. A row is written in the commit of its request's
-- effect, under the lock of its basket, and means something for 24 hours. It does not reference its basket: whatever is
-- left of a basket that is purged goes by itself.
CREATE TABLE idempotency_keys (
  basket_id uuid NOT NULL,
  operation text NOT NULL,
  key text COLLATE "C" NOT NULL CHECK (length(key) BETWEEN 1 AND 255),
  request_digest text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  -- A checkout is answered from its order, anything else with these words.
  order_id uuid REFERENCES orders (id),
  answer text,
  PRIMARY KEY (basket_id, operation, key),
  CONSTRAINT idempotency_keys_answer CHECK ((order_id IS NULL) <> (answer IS NULL))
);
-- For the purge.
CREATE INDEX idempotency_keys_created_at ON idempotency_keys (created_at);
