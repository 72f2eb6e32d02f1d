-- Up Migration
SET lock_timeout = '100ms';
SET statement_timeout = '60s';

CREATE TABLE products (
  id uuid PRIMARY KEY,
  sku text NOT NULL UNIQUE,
  name text NOT NULL,
  description text NOT NULL,
  price_cents bigint NOT NULL CHECK (price_cents BETWEEN 1 AND 1000000000),
  max_per_order integer CHECK (max_per_order > 0),
  archived_at timestamptz,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  -- The last change of what a shopper sees of the product, its stock apart.
  updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Pages of the catalogue walk this index alone.
CREATE INDEX products_on_sale ON products (id) WHERE archived_at IS NULL;

CREATE FUNCTION touch_product() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NEW.updated_at := clock_timestamp();
  RETURN NEW;
END $$;

CREATE TRIGGER products_touch BEFORE UPDATE ON products FOR EACH ROW
  WHEN ((OLD.name, OLD.description, OLD.price_cents, OLD.archived_at)
    IS DISTINCT FROM (NEW.name, NEW.description, NEW.price_cents, NEW.archived_at))
  EXECUTE FUNCTION touch_product();

-- Narrow and half empty, for it is the row that every sale of a product rewrites in place.
CREATE TABLE stock (
  product_id uuid PRIMARY KEY REFERENCES products (id),
  sellable integer NOT NULL CHECK (sellable >= 0),
  -- When the product last sold out or came back: the only stock change that a product's page shows.
  flipped_at timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05);

CREATE FUNCTION flip_stock() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NEW.flipped_at := clock_timestamp();
  RETURN NEW;
END $$;

CREATE TRIGGER stock_flip BEFORE UPDATE ON stock FOR EACH ROW
  WHEN ((OLD.sellable = 0) IS DISTINCT FROM (NEW.sellable = 0))
  EXECUTE FUNCTION flip_stock();

-- Every change of stock that is neither a sale nor a sale's return: written in the commit that makes the change.
CREATE TABLE stock_movements (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  product_id uuid NOT NULL REFERENCES products (id),
  delta integer NOT NULL,
  kind text NOT NULL CHECK (kind IN ('received', 'adjusted', 'returned')),
  who text NOT NULL,
  why text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- One row: the exact number of products on sale, so that no page ever has to count them.
CREATE TABLE catalog_totals (
  id boolean PRIMARY KEY DEFAULT true CHECK (id),
  products bigint NOT NULL CHECK (products >= 0),
  changed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
INSERT INTO catalog_totals (products) VALUES (0);

CREATE FUNCTION add_to_catalog_totals(added bigint) RETURNS void LANGUAGE sql AS $$
  UPDATE catalog_totals SET products = products + added, changed_at = clock_timestamp();
$$;

CREATE FUNCTION count_inserted_products() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE added bigint;
BEGIN
  SELECT count(*) INTO added FROM inserted WHERE archived_at IS NULL;
  IF added > 0 THEN PERFORM add_to_catalog_totals(added); END IF;
  RETURN NULL;
END $$;

CREATE FUNCTION count_archived_products() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE archived bigint; restored bigint;
BEGIN
  SELECT count(*) FILTER (WHERE before.archived_at IS NULL AND after.archived_at IS NOT NULL),
         count(*) FILTER (WHERE before.archived_at IS NOT NULL AND after.archived_at IS NULL)
    INTO archived, restored FROM before JOIN after USING (id);
  IF archived + restored > 0 THEN PERFORM add_to_catalog_totals(restored - archived); END IF;
  RETURN NULL;
END $$;

CREATE FUNCTION count_deleted_products() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE removed bigint;
BEGIN
  SELECT count(*) INTO removed FROM deleted WHERE archived_at IS NULL;
  IF removed > 0 THEN PERFORM add_to_catalog_totals(-removed); END IF;
  RETURN NULL;
END $$;

CREATE TRIGGER products_count_inserted AFTER INSERT ON products
  REFERENCING NEW TABLE AS inserted FOR EACH STATEMENT EXECUTE FUNCTION count_inserted_products();
CREATE TRIGGER products_count_archived AFTER UPDATE ON products
  REFERENCING OLD TABLE AS before NEW TABLE AS after FOR EACH STATEMENT EXECUTE FUNCTION count_archived_products();
CREATE TRIGGER products_count_deleted AFTER DELETE ON products
  REFERENCING OLD TABLE AS deleted FOR EACH STATEMENT EXECUTE FUNCTION count_deleted_products();
