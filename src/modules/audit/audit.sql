-- Every invariant of the shop that SQL can see, in one statement, and so of one moment: it may run beside sales.
-- One row per invariant, with the number of its violations and up to three ids; a notice is counted, but breaks nothing.
WITH invariants (position, name, kind, description) AS (VALUES
  (10, 'stock_not_negative', 'invariant', 'no product has less than nothing to sell'),
  (11, 'stock_adds_up', 'invariant', 'sellable = received + adjusted + returned - sold - held, from movements and order lines'),
  (12, 'catalog_totals', 'invariant', 'the counted total of products on sale is their number'),
  (20, 'orders_complete', 'invariant', 'each order has a state, a contact and at least one line'),
  (21, 'order_totals', 'invariant', 'an order''s totals add up, from its lines on'),
  (22, 'order_states_well_formed', 'invariant', 'ended, failed, owned and parked orders have what goes with it, the others have not'),
  (23, 'payment_tokens_erased', 'invariant', 'no ended order keeps its payment token'),
  (25, 'open_orders_payable', 'invariant', 'an open order has the payment token that it is to be paid with'),
  (26, 'references_hold', 'invariant', 'what names an order, a basket or a product names one that exists'),
  (24, 'no_overdue_order', 'invariant', 'no order is open 60 s past its hold, those parked or waiting for the gateway apart'),
  (30, 'live_order_is_open', 'invariant', 'the live order of a basket is an open order of it'),
  (31, 'open_order_is_live', 'invariant', 'an open order is the live order of its basket'),
  (32, 'one_live_order', 'invariant', 'a basket has at most one open order'),
  (33, 'latest_order_is_own', 'invariant', 'a basket that has orders names the newest of them as its latest'),
  (40, 'one_capture_per_order', 'invariant', 'an order has at most one successful capture'),
  (41, 'completed_orders_paid', 'invariant', 'a completed order has one captured payment, equal to its total'),
  (42, 'refunded_orders_paid_back', 'invariant', 'a refunded order has one refunded payment, equal to its total'),
  (43, 'failed_orders_unpaid', 'invariant', 'a failed or cancelled order has no money, taken or set aside'),
  (44, 'open_orders_paid_as_far', 'invariant', 'the payments of an open order are what its state says'),
  (50, 'events_once', 'invariant', 'an ended order has one event of each kind that applies (orders of the last 30 days)'),
  (51, 'events_fit_state', 'invariant', 'no event contradicts its order''s state or basket'),
  (52, 'streams_gapless', 'invariant', 'the events of a basket are numbered without a gap up to its last offset'),
  (55, 'one_order_per_key', 'invariant', 'an order that an idempotency key names is of the key''s basket, and named by no other'),
  (60, 'payments_in_gateway_book', 'invariant', 'each captured payment is a capture of that amount in the gateway''s book'),
  (61, 'gateway_captures_recorded', 'invariant', 'each capture in the gateway''s book of an ended order is its captured payment, or was refunded'),
  (62, 'gateway_charged_once', 'invariant', 'the gateway''s book has at most one capture per order'),
  (63, 'no_money_left_held', 'invariant', 'the gateway''s book has no authorization of an ended order that is neither captured nor voided'),
  (65, 'refunds_in_gateway_book', 'invariant', 'each refunded payment, and no other, is refunded in the gateway''s book'),
  (64, 'gateway_knows_our_orders', 'invariant', 'what the gateway approved belongs to an order'),
  (90, 'parked_orders', 'notice', 'open orders parked for an operator'),
  (91, 'unanswered_orders', 'notice', 'open orders whose latest call to the gateway has no answer'),
  (92, 'open_cancellations', 'notice', 'cancellations and refunds asked for and not done yet'),
  (93, 'refused_refunds', 'notice', 'refunds that the gateway has refused')
),
lines AS (
  SELECT order_id, count(*) AS lines, sum(quantity * unit_price) AS items_total
    FROM order_lines GROUP BY order_id
),
payments AS (
  SELECT order_id,
         count(*) FILTER (WHERE state = 'authorized') AS authorized,
         count(*) FILTER (WHERE state = 'captured') AS captured,
         count(*) FILTER (WHERE state = 'refunded') AS refunded,
         sum(amount) FILTER (WHERE state IN ('authorized', 'captured', 'refunded')) AS amount,
         max(attempt) FILTER (WHERE state IN ('captured', 'refunded')) AS taking_attempt
    FROM payment_attempts GROUP BY order_id
),
told AS (
  SELECT order_id,
         count(*) FILTER (WHERE kind = 'completed') AS completed,
         count(*) FILTER (WHERE kind = 'failed') AS failed,
         count(*) FILTER (WHERE kind = 'cancelled') AS cancelled,
         count(*) FILTER (WHERE kind = 'refunded') AS refunded
    FROM events GROUP BY order_id
),
-- What the gateway approved, per order. Its keys are '<order id>:<attempt>:<operation>'. `held`: set aside, and not ended.
book AS MATERIALIZED (
  SELECT left(j.key, 36) COLLATE "C" AS order_id, min(j.key) AS first_key,
         min(j.currency) AS currency, max(j.currency) AS other_currency,
         count(*) FILTER (WHERE j.operation = 'authorize' AND ending.key IS NULL) AS held,
         count(*) FILTER (WHERE j.operation = 'capture') AS captures,
         count(*) FILTER (WHERE j.operation = 'refund') AS refunds,
         max(j.key) FILTER (WHERE j.operation = 'capture') AS capture_key,
         sum(j.amount) FILTER (WHERE j.operation = 'capture') AS amount
    FROM simulated_gateway.journal j
    LEFT JOIN simulated_gateway.journal ending
      ON ending.authorization_key = j.key AND ending.operation IN ('capture', 'void') AND ending.approved
   WHERE j.approved GROUP BY 1
),
-- One row per order with all that belongs to it.
ledger AS MATERIALIZED (
  SELECT o.id, o.basket_id, o.created_at, o.total,
         o.items_total = lines.items_total
           AND o.total = o.items_total + o.shipping_total + o.tax_total - o.discount_total AS adds_up,
         s.order_id IS NOT NULL AND c.order_id IS NOT NULL AND lines.order_id IS NOT NULL AS is_complete,
         s.state, s.state IN ('pending', 'authorized', 'captured') AS is_open,
         s.ended_at, s.hold_until, s.parked_at, s.parked_reason, s.unanswered_since,
         wish.order_id IS NOT NULL AND wish.ended_at IS NULL AS is_to_be_cancelled, s.error_code, s.worker_id, s.worker_epoch,
         s.payment_token IS NOT NULL AS has_token,
         coalesce(payments.authorized, 0) AS authorized,
         coalesce(payments.captured, 0) AS captured,
         coalesce(payments.refunded, 0) AS refunded,
         coalesce(payments.amount, 0) AS amount,
         coalesce(payments.captured + payments.refunded, 0) AS taken,
         coalesce(book.held, 0) AS booked_held,
         coalesce(book.refunds, 0) AS booked_refunds,
         coalesce(book.captures, 0) AS booked_captures,
         -- Whether the one payment that we hold for taken is the one capture in the gateway's book.
         book.captures = 1 AND payments.captured + payments.refunded = 1
           AND book.capture_key = o.id || ':' || payments.taking_attempt || ':capture'
           AND book.amount = payments.amount
           AND book.currency = o.currency AND book.other_currency = o.currency AS books_agree,
         coalesce(told.completed, 0) AS told_completed,
         coalesce(told.failed, 0) AS told_failed,
         coalesce(told.cancelled, 0) AS told_cancelled,
         coalesce(told.refunded, 0) AS told_refunded
    FROM orders o
    LEFT JOIN order_states s ON s.order_id = o.id
    LEFT JOIN order_contacts c ON c.order_id = o.id
    LEFT JOIN lines ON lines.order_id = o.id
    LEFT JOIN payments ON payments.order_id = o.id
    LEFT JOIN book ON book.order_id = o.id::text
    LEFT JOIN cancellations wish ON wish.order_id = o.id
    LEFT JOIN told ON told.order_id = o.id
),
moved AS (
  SELECT product_id, sum(delta) AS units FROM stock_movements GROUP BY product_id
),
-- Sold or held: whatever was not given back.
taken AS (
  SELECT l.product_id, sum(l.quantity) AS units
    FROM order_lines l JOIN order_states s ON s.order_id = l.order_id
   WHERE s.state NOT IN ('failed', 'cancelled')
   GROUP BY l.product_id
),
streams AS (
  SELECT basket_id, count(*) AS events, min(stream_offset) AS first_offset, max(stream_offset) AS last_offset
    FROM events GROUP BY basket_id
),
violations (name, id) AS (
  SELECT 'stock_not_negative', product_id::text FROM stock WHERE sellable < 0
  UNION ALL
  SELECT 'stock_adds_up', p.id::text
    FROM products p
    LEFT JOIN stock ON stock.product_id = p.id
    LEFT JOIN moved ON moved.product_id = p.id
    LEFT JOIN taken ON taken.product_id = p.id
   WHERE stock.sellable IS DISTINCT FROM coalesce(moved.units, 0) - coalesce(taken.units, 0)
  UNION ALL
  SELECT 'catalog_totals', 'catalog_totals'
   WHERE (SELECT sum(products) FROM catalog_totals)
         IS DISTINCT FROM (SELECT count(*) FROM products WHERE archived_at IS NULL)
  UNION ALL
  SELECT 'orders_complete', id::text FROM ledger WHERE NOT is_complete
  UNION ALL
  SELECT 'order_totals', id::text FROM ledger WHERE NOT adds_up
  UNION ALL
  SELECT 'order_states_well_formed', id::text FROM ledger
   WHERE is_open = (ended_at IS NOT NULL)
      OR (error_code IS NOT NULL) <> (state IN ('failed', 'cancelled'))
      OR (worker_id IS NULL) <> (worker_epoch IS NULL)
      OR (parked_at IS NULL) <> (parked_reason IS NULL)
      OR state NOT IN ('pending', 'authorized', 'captured', 'completed', 'failed', 'cancelled', 'refunded')
  UNION ALL
  SELECT 'references_hold', child.id
    FROM (SELECT id::text, basket_id, NULL::uuid AS order_id, NULL::uuid AS product_id FROM orders
          UNION ALL SELECT basket_id::text, basket_id, NULL, product_id FROM basket_lines
          UNION ALL SELECT order_id::text, NULL, order_id, product_id FROM order_lines
          UNION ALL SELECT order_id::text, NULL, order_id, NULL FROM order_states
          UNION ALL SELECT order_id::text, NULL, order_id, NULL FROM order_contacts
          UNION ALL SELECT order_id::text, NULL, order_id, NULL FROM payment_attempts
          UNION ALL SELECT id::text, basket_id, order_id, NULL FROM events) AS child
    LEFT JOIN baskets b ON b.id = child.basket_id
    LEFT JOIN orders o ON o.id = child.order_id
    LEFT JOIN products p ON p.id = child.product_id
   WHERE (child.basket_id IS NOT NULL AND b.id IS NULL)
      OR (child.order_id IS NOT NULL AND o.id IS NULL)
      OR (child.product_id IS NOT NULL AND p.id IS NULL)
  UNION ALL
  SELECT 'payment_tokens_erased', id::text FROM ledger WHERE NOT is_open AND has_token
  UNION ALL
  SELECT 'open_orders_payable', id::text FROM ledger WHERE is_open AND NOT has_token
  UNION ALL
  SELECT 'no_overdue_order', id::text FROM ledger
   WHERE is_open AND parked_at IS NULL AND unanswered_since IS NULL AND hold_until < statement_timestamp() - interval '60 seconds'
  UNION ALL
  SELECT 'live_order_is_open', b.id::text
    FROM baskets b LEFT JOIN ledger ON ledger.id = b.live_order_id AND ledger.basket_id = b.id
   WHERE b.live_order_id IS NOT NULL AND ledger.is_open IS NOT TRUE
  UNION ALL
  SELECT 'open_order_is_live', ledger.id::text
    FROM ledger JOIN baskets b ON b.id = ledger.basket_id
   WHERE ledger.is_open AND b.live_order_id IS DISTINCT FROM ledger.id
  UNION ALL
  SELECT 'one_live_order', basket_id::text FROM ledger WHERE is_open GROUP BY basket_id HAVING count(*) > 1
  UNION ALL
  SELECT 'latest_order_is_own', b.id::text
    FROM baskets b
    LEFT JOIN ledger ON ledger.id = b.latest_order_id AND ledger.basket_id = b.id
    LEFT JOIN (SELECT basket_id, max(created_at) AS created_at FROM ledger GROUP BY basket_id) newest
           ON newest.basket_id = b.id
   WHERE (b.latest_order_id IS NOT NULL OR newest.created_at IS NOT NULL)
     AND ledger.created_at IS DISTINCT FROM newest.created_at
  UNION ALL
  SELECT 'one_capture_per_order', id::text FROM ledger WHERE captured + refunded > 1
  UNION ALL
  SELECT 'completed_orders_paid', id::text FROM ledger
   WHERE state = 'completed' AND (authorized, captured, refunded, amount) <> (0, 1, 0, total)
  UNION ALL
  SELECT 'refunded_orders_paid_back', id::text FROM ledger
   WHERE state = 'refunded' AND (authorized, captured, refunded, amount) <> (0, 0, 1, total)
  UNION ALL
  SELECT 'failed_orders_unpaid', id::text FROM ledger
   WHERE state IN ('failed', 'cancelled') AND authorized + captured > 0
  UNION ALL
  SELECT 'open_orders_paid_as_far', id::text FROM ledger
   WHERE (state = 'pending' AND authorized + captured + refunded > 0)
      OR (state = 'authorized' AND (authorized, captured, refunded, amount) <> (1, 0, 0, total))
      OR (state = 'captured' AND (authorized, captured, refunded, amount) <> (0, 1, 0, total))
  UNION ALL
  SELECT 'events_once', id::text FROM ledger
   WHERE created_at > statement_timestamp() - interval '30 days'
     AND ((state IN ('completed', 'refunded') AND told_completed <> 1)
       OR (state = 'failed' AND told_failed <> 1)
       OR (state = 'cancelled' AND told_cancelled <> 1)
       OR (state = 'refunded' AND told_refunded <> 1))
  UNION ALL
  SELECT 'events_fit_state', id::text FROM ledger
   WHERE (told_completed > 0 AND state NOT IN ('completed', 'refunded'))
      OR (told_failed > 0 AND state <> 'failed')
      OR (told_cancelled > 0 AND state <> 'cancelled')
      OR (told_refunded > 0 AND state <> 'refunded')
  UNION ALL
  SELECT 'events_fit_state', e.id::text
    FROM events e JOIN orders o ON o.id = e.order_id WHERE o.basket_id <> e.basket_id
  UNION ALL
  -- The oldest events of an old basket may have been purged; of a young one none.
  SELECT 'streams_gapless', b.id::text
    FROM baskets b LEFT JOIN streams ON streams.basket_id = b.id
   WHERE streams.events <> streams.last_offset - streams.first_offset + 1
      OR streams.last_offset <> b.last_event_offset
      OR (coalesce(streams.first_offset, b.last_event_offset + 1) > 1
          AND b.created_at > statement_timestamp() - interval '30 days')
  UNION ALL
  SELECT 'one_order_per_key', k.order_id::text
    FROM idempotency_keys k LEFT JOIN orders o ON o.id = k.order_id
   WHERE k.order_id IS NOT NULL
   GROUP BY k.order_id HAVING count(*) > 1 OR bool_or(o.basket_id IS DISTINCT FROM k.basket_id)
  UNION ALL
  SELECT 'payments_in_gateway_book', id::text FROM ledger WHERE taken > 0 AND books_agree IS NOT TRUE
  UNION ALL
  SELECT 'gateway_captures_recorded', id::text FROM ledger
   WHERE NOT is_open AND booked_captures > booked_refunds AND books_agree IS NOT TRUE
  UNION ALL
  SELECT 'gateway_charged_once', order_id FROM book WHERE captures > 1
  UNION ALL
  SELECT 'no_money_left_held', id::text FROM ledger WHERE NOT is_open AND booked_held > 0
  UNION ALL
  -- A refund that was asked for may be in the gateway's book a moment before it is in ours.
  SELECT 'refunds_in_gateway_book', id::text FROM ledger
   WHERE booked_refunds <> refunded AND NOT (is_to_be_cancelled AND booked_refunds > refunded)
  UNION ALL
  SELECT 'gateway_knows_our_orders', book.first_key
    FROM book LEFT JOIN orders o ON o.id::text = book.order_id WHERE o.id IS NULL
  UNION ALL
  SELECT 'parked_orders', id::text FROM ledger WHERE is_open AND parked_at IS NOT NULL
  UNION ALL
  SELECT 'unanswered_orders', id::text FROM ledger WHERE is_open AND unanswered_since IS NOT NULL
  UNION ALL
  SELECT 'open_cancellations', id::text FROM ledger WHERE is_to_be_cancelled
  UNION ALL
  SELECT 'refused_refunds', order_id::text FROM cancellations WHERE refused_message IS NOT NULL
)
SELECT i.name, i.kind, i.description, count(v.id) AS count,
       coalesce((array_agg(v.id ORDER BY v.id) FILTER (WHERE v.id IS NOT NULL))[1:3], '{}') AS examples
  FROM invariants i LEFT JOIN violations v ON v.name = i.name
 GROUP BY i.position, i.name, i.kind, i.description
 ORDER BY i.position;
