-- Up Migration
SET lock_timeout = '100ms';
SET statement_timeout = '60s';

-- The book of a gateway for development and tests: its writers can wait for an index to be built.
ALTER TABLE simulated_gateway.journal DROP CONSTRAINT journal_operation_check;
ALTER TABLE simulated_gateway.journal
  -- squawk-ignore constraint-missing-not-valid
  ADD CONSTRAINT journal_operation_check CHECK (operation IN ('authorize', 'capture', 'void', 'refund')),
  -- An authorization that was voided before it arrived, and is refused when it does.
  ADD COLUMN closed boolean NOT NULL DEFAULT false;

-- An authorization is ended once, by a capture or by a void: they compete for one place in an index, so that neither
-- has to lock the authorization.
-- squawk-ignore require-concurrent-index-deletion
DROP INDEX simulated_gateway.journal_one_capture;
-- squawk-ignore require-concurrent-index-creation
CREATE UNIQUE INDEX journal_one_end ON simulated_gateway.journal (authorization_key)
  WHERE operation IN ('capture', 'void') AND approved;
-- squawk-ignore require-concurrent-index-creation
CREATE UNIQUE INDEX journal_one_refund ON simulated_gateway.journal (authorization_key)
  WHERE operation = 'refund' AND approved;
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX journal_created_at ON simulated_gateway.journal USING brin (created_at);
