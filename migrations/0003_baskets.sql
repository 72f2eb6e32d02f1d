-- Up Migration
SET lock_timeout = '100ms';
SET statement_timeout = '60s';

CREATE TABLE baskets (
  id uuid PRIMARY KEY,
  -- The shopper's credential (what the API calls the basket's id). It can be replaced; the id cannot.
  token uuid NOT NULL UNIQUE,
  customer_id uuid,
  -- The checkout that is not over yet; set and cleared under this row's lock, so there is never a second.
  live_order_id uuid,
  -- The newest checkout, over or not: its outcome is what a late subscriber is told.
  latest_order_id uuid,
  -- The offset of the newest event of this basket's stream.
  last_event_offset bigint NOT NULL DEFAULT 0,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  expires_at timestamptz NOT NULL
) WITH (fillfactor = 70);

-- Positions only ever grow, so they keep the order in which the lines were first added.
CREATE SEQUENCE basket_line_positions;

CREATE TABLE basket_lines (
  basket_id uuid NOT NULL REFERENCES baskets (id) ON DELETE CASCADE,
  product_id uuid NOT NULL REFERENCES products (id),
  quantity integer NOT NULL CHECK (quantity BETWEEN 1 AND 10000),
  position bigint NOT NULL DEFAULT nextval('basket_line_positions'),
  PRIMARY KEY (basket_id, product_id)
);
