-- Up Migration
SET lock_timeout = '100ms';
SET statement_timeout = '60s';

-- The source of order numbers; a process turns each value into a number that cannot be guessed.
CREATE SEQUENCE order_numbers;

-- What never changes after acceptance. Money in minor units of the currency.
CREATE TABLE orders (
  id uuid PRIMARY KEY,
  number text NOT NULL UNIQUE,
  basket_id uuid NOT NULL REFERENCES baskets (id),
  customer_id uuid,
  currency text NOT NULL,
  items_total bigint NOT NULL CHECK (items_total >= 0),
  shipping_total bigint NOT NULL DEFAULT 0 CHECK (shipping_total >= 0),
  tax_total bigint NOT NULL DEFAULT 0 CHECK (tax_total >= 0),
  discount_total bigint NOT NULL DEFAULT 0 CHECK (discount_total >= 0),
  total bigint NOT NULL CHECK (total >= 0),
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  CONSTRAINT orders_total_adds_up CHECK (total = items_total + shipping_total + tax_total - discount_total)
);
CREATE INDEX orders_basket_id ON orders (basket_id);

-- The lines as they were sold: later changes of a product do not reach them.
CREATE TABLE order_lines (
  order_id uuid NOT NULL REFERENCES orders (id),
  position integer NOT NULL,
  product_id uuid NOT NULL REFERENCES products (id),
  -- Where the line stood in the basket, and where it goes back to when the checkout fails.
  basket_position bigint NOT NULL,
  quantity integer NOT NULL CHECK (quantity BETWEEN 1 AND 10000),
  unit_price bigint NOT NULL CHECK (unit_price BETWEEN 1 AND 1000000000),
  name text NOT NULL,
  description text NOT NULL,
  PRIMARY KEY (order_id, position)
);

-- Whom and where, written once and erasable. The payment token goes when the order ends.
CREATE TABLE order_contacts (
  order_id uuid PRIMARY KEY REFERENCES orders (id),
  email text,
  address jsonb,
  payment_token text
);

-- One lease per worker process; the epoch tells a lease from the one before it.
CREATE SEQUENCE worker_epochs;
CREATE TABLE workers (
  id uuid PRIMARY KEY,
  epoch bigint NOT NULL,
  leased_until timestamptz NOT NULL,
  host text NOT NULL,
  pid integer NOT NULL,
  started_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- The work still to do, and who does it: the queue itself.
CREATE TABLE order_states (
  order_id uuid PRIMARY KEY REFERENCES orders (id),
  state text NOT NULL DEFAULT 'pending'
    CHECK (state IN ('pending', 'authorized', 'captured', 'completed', 'failed', 'cancelled', 'refunded')),
  worker_id uuid,
  worker_epoch bigint,
  attempt integer NOT NULL DEFAULT 1 CHECK (attempt > 0),
  hold_until timestamptz NOT NULL,
  parked_at timestamptz,
  parked_reason text,
  error_code text CHECK (error_code IN ('payment_required', 'hold_expired', 'cancelled', 'internal')),
  error_message text,
  ended_at timestamptz,
  CONSTRAINT order_states_ended CHECK ((ended_at IS NOT NULL) = (state IN ('completed', 'failed', 'cancelled', 'refunded'))),
  CONSTRAINT order_states_error CHECK ((error_code IS NOT NULL) = (state IN ('failed', 'cancelled'))),
  CONSTRAINT order_states_owner CHECK ((worker_id IS NULL) = (worker_epoch IS NULL)),
  CONSTRAINT order_states_parked CHECK ((parked_at IS NULL) = (parked_reason IS NULL))
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05);
-- On ended_at, not on the state: steps in between leave the index alone and stay heap-only updates.
CREATE INDEX order_states_open ON order_states (hold_until) WHERE ended_at IS NULL;

CREATE FUNCTION refuse_order_transition() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'order % cannot go from % to %', NEW.order_id, coalesce(OLD.state, 'nothing'), NEW.state
    USING ERRCODE = 'check_violation', CONSTRAINT = 'order_states_transition';
END $$;

CREATE TRIGGER order_states_begin BEFORE INSERT ON order_states FOR EACH ROW
  WHEN (NEW.state <> 'pending')
  EXECUTE FUNCTION refuse_order_transition();

-- The declared transitions; several steps may share a commit, so a step may jump ahead.
CREATE TRIGGER order_states_transition BEFORE UPDATE ON order_states FOR EACH ROW
  WHEN (OLD.state <> NEW.state AND (OLD.state, NEW.state) NOT IN (
    ('pending', 'authorized'), ('pending', 'captured'), ('pending', 'completed'),
    ('pending', 'failed'), ('pending', 'cancelled'),
    ('authorized', 'captured'), ('authorized', 'completed'),
    ('authorized', 'failed'), ('authorized', 'cancelled'),
    ('captured', 'completed'),
    ('completed', 'refunded')))
  EXECUTE FUNCTION refuse_order_transition();

-- What the gateway has answered, one row per attempt to pay an order.
CREATE TABLE payment_attempts (
  order_id uuid NOT NULL REFERENCES orders (id),
  attempt integer NOT NULL CHECK (attempt > 0),
  state text NOT NULL CHECK (state IN ('authorized', 'captured', 'declined', 'voided', 'refunded')),
  amount bigint NOT NULL CHECK (amount > 0),
  reference text,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (order_id, attempt)
);
CREATE UNIQUE INDEX payment_attempts_one_capture ON payment_attempts (order_id) WHERE state IN ('captured', 'refunded');
