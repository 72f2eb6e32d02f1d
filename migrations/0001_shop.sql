-- Up Migration
SET lock_timeout = '100ms';
SET statement_timeout = '60s';

-- One row: what must be the same for every process of this shop, and must survive all of them.
CREATE TABLE shop (
  id boolean PRIMARY KEY DEFAULT true CHECK (id),
  currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
  secret_key text NOT NULL,
  -- Apart from secret_key, so that changing that one never makes an order number twice.
  order_number_key text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
