-- Up Migration
SET lock_timeout = '100ms';
SET statement_timeout = '60s';

-- A line is written in the transaction that has locked or made its basket and has just read its product. In a stampede
-- all lines name one product, and each new one would lock that row again, many transactions at once (measured: 60
-- microseconds a line with both keys, 30 with the basket's alone, 5 with none). A product is kept by its stock; a line
-- that names what does not exist is counted by the audit (references_hold).
ALTER TABLE basket_lines DROP CONSTRAINT basket_lines_product_id_fkey, DROP CONSTRAINT basket_lines_basket_id_fkey;

CREATE FUNCTION remove_lines_of_basket() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  DELETE FROM basket_lines WHERE basket_id = OLD.id;
  RETURN OLD;
END $$;

-- After the removal: until then somebody who holds the basket may add to it.
CREATE TRIGGER baskets_take_their_lines_along AFTER DELETE ON baskets FOR EACH ROW
  EXECUTE FUNCTION remove_lines_of_basket();

-- Its lines would be left behind.
CREATE OR REPLACE FUNCTION refuse_removal_of_named() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION '% % is named by other rows and cannot be removed or given another id', TG_TABLE_NAME, OLD.id
    USING ERRCODE = 'foreign_key_violation';
END $$;
CREATE TRIGGER baskets_keep_their_ids BEFORE UPDATE OF id ON baskets FOR EACH ROW
  WHEN (OLD.id <> NEW.id) EXECUTE FUNCTION refuse_removal_of_named();
