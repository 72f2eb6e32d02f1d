import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { auditShop, type Finding, violatedIn } from '../src/modules/audit/audit.service.ts';
import { type Database, openDatabase } from '../src/platform/db.ts';
import { basket, insertHealthyShop, journalEntry, order, orders, product } from './support/healthy-shop.ts';
import { createTestDatabase, onServer, type TestDatabase } from './support/postgres.ts';

/** How to break an invariant by hand, constraints in the way included, and the id that the audit is to name. */
type Breakage = Readonly<{ invariant: string; how: string; by: string; example: string }>;

const completed = order(orders.completed);
const refunded = order(orders.refunded);
const failed = order(orders.failed);
const cancelled = order(orders.cancelled);
const pending = order(orders.pending);
const authorized = order(orders.authorized);
const captured = order(orders.captured);
const old = order(orders.old);
const stranger = '018f0000-0000-7000-8f00-00000000000f';

const idempotencyKey = (inBasket: number, key: string, ofOrder: string): string =>
  `INSERT INTO idempotency_keys (basket_id, operation, key, request_digest, order_id)
     VALUES ('${basket(inBasket)}', 'checkout', '${key}', '', '${ofOrder}');`;

const breakages: readonly Breakage[] = [
  {
    invariant: 'references_hold',
    how: 'an order of a basket that does not exist',
    by: `UPDATE orders SET basket_id = '${stranger}' WHERE id = '${old}'`,
    example: old,
  },
  {
    invariant: 'references_hold',
    how: 'a line of a product that does not exist',
    by: `UPDATE order_lines SET product_id = '${stranger}' WHERE order_id = '${completed}' AND position = 1`,
    example: completed,
  },
  {
    invariant: 'references_hold',
    how: "a basket's line of a product that does not exist",
    by: `INSERT INTO basket_lines (basket_id, product_id, quantity) VALUES ('${basket(0)}', '${stranger}', 1)`,
    example: basket(0),
  },
  {
    invariant: 'references_hold',
    how: 'a payment of an order that does not exist',
    by: `UPDATE payment_attempts SET order_id = '${stranger}' WHERE order_id = '${failed}'`,
    example: stranger,
  },
  {
    invariant: 'references_hold',
    how: 'an event of an order that does not exist',
    by: `UPDATE events SET id = '${stranger}', order_id = '${stranger}' WHERE order_id = '${failed}'`,
    example: stranger,
  },
  {
    invariant: 'one_order_per_key',
    how: 'an order that two keys name',
    by: idempotencyKey(orders.pending, 'a', pending) + idempotencyKey(orders.pending, 'b', pending),
    example: pending,
  },
  {
    invariant: 'one_order_per_key',
    how: "a key that names another basket's order",
    by: idempotencyKey(orders.pending, 'a', failed),
    example: failed,
  },
  {
    invariant: 'refunds_in_gateway_book',
    how: 'a refund that the gateway knows nothing of',
    by: `DELETE FROM simulated_gateway.journal WHERE key = '${refunded}:1:refund'`,
    example: refunded,
  },
  {
    invariant: 'refunds_in_gateway_book',
    how: 'a refund that nobody asked for',
    by: journalEntry(failed, 1, 'refund'),
    example: failed,
  },
  {
    invariant: 'unanswered_orders',
    how: 'a call to the gateway that is not answered',
    by: `UPDATE order_states SET unanswered_since = now() WHERE order_id = '${pending}'`,
    example: pending,
  },
  {
    invariant: 'open_cancellations',
    how: 'a refund that was asked for',
    by: `INSERT INTO cancellations (order_id, restock, requested_by) VALUES ('${authorized}', false, 'test')`,
    example: authorized,
  },
  {
    invariant: 'refused_refunds',
    how: 'a refund that was refused',
    by: `INSERT INTO cancellations (order_id, restock, requested_by, refused_message, ended_at)
           VALUES ('${failed}', false, 'test', 'Too late', now())`,
    example: failed,
  },
  {
    invariant: 'stock_not_negative',
    how: 'stock below zero',
    by: `ALTER TABLE stock DROP CONSTRAINT stock_sellable_check;
         UPDATE stock SET sellable = -1 WHERE product_id = '${product(3)}'`,
    example: product(3),
  },
  {
    invariant: 'stock_adds_up',
    how: 'a unit out of nowhere',
    by: `UPDATE stock SET sellable = sellable + 1 WHERE product_id = '${product(1)}'`,
    example: product(1),
  },
  {
    invariant: 'stock_adds_up',
    how: 'a movement that moved nothing',
    by: `INSERT INTO stock_movements (product_id, delta, kind, who, why)
           VALUES ('${product(3)}', 5, 'returned', 'test', 'test')`,
    example: product(3),
  },
  {
    invariant: 'stock_adds_up',
    how: 'more sold than was taken',
    by: `UPDATE order_lines SET quantity = 3 WHERE order_id = '${completed}' AND position = 1`,
    example: product(1),
  },
  {
    invariant: 'stock_adds_up',
    how: 'more held than was taken',
    by: `UPDATE order_lines SET quantity = 3 WHERE order_id = '${pending}' AND position = 1`,
    example: product(1),
  },
  {
    invariant: 'stock_adds_up',
    how: 'a product without a stock row',
    by: `DELETE FROM stock WHERE product_id = '${product(3)}'`,
    example: product(3),
  },
  {
    invariant: 'catalog_totals',
    how: 'a total that counts one too many',
    by: 'UPDATE catalog_totals SET products = products + 1',
    example: 'catalog_totals',
  },
  {
    invariant: 'catalog_totals',
    how: 'a total that has got lost',
    by: 'DELETE FROM catalog_totals',
    example: 'catalog_totals',
  },
  {
    invariant: 'orders_complete',
    how: 'an order without lines',
    by: `DELETE FROM order_lines WHERE order_id = '${cancelled}'`,
    example: cancelled,
  },
  {
    invariant: 'orders_complete',
    how: 'an order without a contact',
    by: `DELETE FROM order_contacts WHERE order_id = '${cancelled}'`,
    example: cancelled,
  },
  {
    invariant: 'orders_complete',
    how: 'an order without a state',
    by: `DELETE FROM order_states WHERE order_id = '${cancelled}'`,
    example: cancelled,
  },
  {
    invariant: 'order_totals',
    how: 'lines that cost more than the order',
    by: `UPDATE order_lines SET unit_price = unit_price + 1 WHERE order_id = '${cancelled}' AND position = 1`,
    example: cancelled,
  },
  {
    invariant: 'order_totals',
    how: 'a total that is not the sum of its parts',
    by: `ALTER TABLE orders DROP CONSTRAINT orders_total_adds_up;
         UPDATE orders SET tax_total = 1 WHERE id = '${cancelled}'`,
    example: cancelled,
  },
  {
    invariant: 'order_states_well_formed',
    how: 'an ended order that never ended',
    by: `ALTER TABLE order_states DROP CONSTRAINT order_states_ended;
         UPDATE order_states SET ended_at = NULL WHERE order_id = '${cancelled}'`,
    example: cancelled,
  },
  {
    invariant: 'order_states_well_formed',
    how: 'an open order with an end',
    by: `ALTER TABLE order_states DROP CONSTRAINT order_states_ended;
         UPDATE order_states SET ended_at = now() WHERE order_id = '${pending}'`,
    example: pending,
  },
  {
    invariant: 'order_states_well_formed',
    how: 'a failure without its code',
    by: `ALTER TABLE order_states DROP CONSTRAINT order_states_error;
         UPDATE order_states SET error_code = NULL WHERE order_id = '${failed}'`,
    example: failed,
  },
  {
    invariant: 'order_states_well_formed',
    how: 'an owner without an epoch',
    by: `ALTER TABLE order_states DROP CONSTRAINT order_states_owner;
         UPDATE order_states SET worker_id = gen_random_uuid() WHERE order_id = '${pending}'`,
    example: pending,
  },
  {
    invariant: 'order_states_well_formed',
    how: 'parked for no reason',
    by: `ALTER TABLE order_states DROP CONSTRAINT order_states_parked;
         UPDATE order_states SET parked_at = now() WHERE order_id = '${pending}'`,
    example: pending,
  },
  {
    invariant: 'order_states_well_formed',
    how: 'a state that nobody has declared',
    by: `ALTER TABLE order_states DISABLE TRIGGER order_states_transition;
         ALTER TABLE order_states DROP CONSTRAINT order_states_state_check;
         UPDATE order_states SET state = 'lost' WHERE order_id = '${pending}'`,
    example: pending,
  },
  {
    invariant: 'payment_tokens_erased',
    how: 'a token kept after the sale',
    by: `UPDATE order_states SET payment_token = 'tok_success' WHERE order_id = '${completed}'`,
    example: completed,
  },
  {
    invariant: 'open_orders_payable',
    how: 'an open order whose payment token is gone',
    by: `UPDATE order_states SET payment_token = NULL WHERE order_id = '${pending}'`,
    example: pending,
  },
  {
    invariant: 'no_overdue_order',
    how: 'an order open 61 s past its hold',
    by: `UPDATE order_states SET hold_until = now() - interval '61 seconds' WHERE order_id = '${authorized}'`,
    example: authorized,
  },
  {
    invariant: 'live_order_is_open',
    how: 'a live order that has ended',
    by: `UPDATE baskets SET live_order_id = '${completed}' WHERE id = '${basket(1)}'`,
    example: basket(1),
  },
  {
    invariant: 'live_order_is_open',
    how: 'a live order of another basket',
    by: `UPDATE baskets SET live_order_id = '${pending}' WHERE id = '${basket(1)}'`,
    example: basket(1),
  },
  {
    invariant: 'live_order_is_open',
    how: 'a live order that does not exist',
    by: `UPDATE baskets SET live_order_id = '${stranger}' WHERE id = '${basket(0)}'`,
    example: basket(0),
  },
  {
    invariant: 'open_order_is_live',
    how: 'an open order that its basket has forgotten',
    by: `UPDATE baskets SET live_order_id = NULL WHERE id = '${basket(orders.pending)}'`,
    example: pending,
  },
  {
    invariant: 'one_live_order',
    how: 'two open orders of one basket',
    by: `UPDATE orders SET basket_id = '${basket(orders.pending)}' WHERE id = '${authorized}'`,
    example: basket(orders.pending),
  },
  {
    invariant: 'latest_order_is_own',
    how: 'a basket that has forgotten its orders',
    by: `UPDATE baskets SET latest_order_id = NULL WHERE id = '${basket(1)}'`,
    example: basket(1),
  },
  {
    invariant: 'latest_order_is_own',
    how: 'a basket that names an older order of its own',
    by: `UPDATE orders SET created_at = created_at + interval '1 second' WHERE id = '${completed}';
         UPDATE baskets SET latest_order_id = '${refunded}' WHERE id = '${basket(1)}'`,
    example: basket(1),
  },
  {
    invariant: 'latest_order_is_own',
    how: 'the latest order of another basket',
    by: `UPDATE baskets SET latest_order_id = '${failed}' WHERE id = '${basket(1)}'`,
    example: basket(1),
  },
  {
    invariant: 'one_capture_per_order',
    how: 'captured twice',
    by: `DROP INDEX payment_attempts_one_capture;
         INSERT INTO payment_attempts (order_id, attempt, state, amount) VALUES ('${completed}', 2, 'captured', 1750)`,
    example: completed,
  },
  {
    invariant: 'completed_orders_paid',
    how: 'less captured than the total',
    by: `UPDATE payment_attempts SET amount = 1749 WHERE order_id = '${completed}'`,
    example: completed,
  },
  {
    invariant: 'completed_orders_paid',
    how: 'completed without a payment',
    by: `DELETE FROM payment_attempts WHERE order_id = '${completed}'`,
    example: completed,
  },
  {
    invariant: 'completed_orders_paid',
    how: 'a second amount still set aside',
    by: `INSERT INTO payment_attempts (order_id, attempt, state, amount) VALUES ('${completed}', 2, 'authorized', 1)`,
    example: completed,
  },
  {
    invariant: 'refunded_orders_paid_back',
    how: 'refunded, but the money is still here',
    by: `UPDATE payment_attempts SET state = 'captured' WHERE order_id = '${refunded}'`,
    example: refunded,
  },
  {
    invariant: 'failed_orders_unpaid',
    how: 'a failed order with money set aside',
    by: `UPDATE payment_attempts SET state = 'authorized' WHERE order_id = '${failed}'`,
    example: failed,
  },
  {
    invariant: 'failed_orders_unpaid',
    how: 'a cancelled order that was paid',
    by: `INSERT INTO payment_attempts (order_id, attempt, state, amount) VALUES ('${cancelled}', 2, 'captured', 1750)`,
    example: cancelled,
  },
  {
    invariant: 'open_orders_paid_as_far',
    how: 'a pending order that was paid',
    by: `INSERT INTO payment_attempts (order_id, attempt, state, amount) VALUES ('${pending}', 1, 'captured', 1750)`,
    example: pending,
  },
  {
    invariant: 'open_orders_paid_as_far',
    how: 'authorized without an authorization',
    by: `DELETE FROM payment_attempts WHERE order_id = '${authorized}'`,
    example: authorized,
  },
  {
    invariant: 'open_orders_paid_as_far',
    how: 'captured, but not the total',
    by: `UPDATE payment_attempts SET amount = 1 WHERE order_id = '${captured}'`,
    example: captured,
  },
  {
    invariant: 'events_once',
    how: 'an outcome that nobody was told',
    by: `DELETE FROM events WHERE order_id = '${failed}'`,
    example: failed,
  },
  {
    invariant: 'events_once',
    how: 'a refund whose completion was never told',
    by: `DELETE FROM events WHERE order_id = '${refunded}' AND kind = 'completed'`,
    example: refunded,
  },
  {
    invariant: 'events_once',
    how: 'an outcome told twice',
    by: `DROP INDEX events_once_per_kind;
         INSERT INTO events (basket_id, stream_offset, id, order_id, kind)
           VALUES ('${basket(orders.cancelled)}', 2, gen_random_uuid(), '${cancelled}', 'cancelled')`,
    example: cancelled,
  },
  {
    invariant: 'events_fit_state',
    how: 'told completed, but failed',
    by: `UPDATE events SET kind = 'completed' WHERE order_id = '${failed}'`,
    example: failed,
  },
  {
    invariant: 'events_fit_state',
    how: 'told failed, but still open',
    by: `INSERT INTO events (basket_id, stream_offset, id, order_id, kind)
           VALUES ('${basket(orders.pending)}', 1, gen_random_uuid(), '${pending}', 'failed')`,
    example: pending,
  },
  {
    invariant: 'events_fit_state',
    how: 'told to another basket',
    by: `UPDATE events SET basket_id = '${basket(0)}', id = '${stranger}' WHERE order_id = '${failed}'`,
    example: stranger,
  },
  {
    invariant: 'streams_gapless',
    how: 'a gap between two events',
    by: `UPDATE baskets SET last_event_offset = 4 WHERE id = '${basket(1)}';
         UPDATE events SET stream_offset = 4 WHERE order_id = '${refunded}' AND kind = 'refunded'`,
    example: basket(1),
  },
  {
    invariant: 'streams_gapless',
    how: 'an offset without its event',
    by: `UPDATE baskets SET last_event_offset = 1 WHERE id = '${basket(0)}'`,
    example: basket(0),
  },
  {
    invariant: 'streams_gapless',
    how: 'an event past the last offset',
    by: `UPDATE baskets SET last_event_offset = 0 WHERE id = '${basket(orders.failed)}'`,
    example: basket(orders.failed),
  },
  {
    invariant: 'streams_gapless',
    how: 'a young stream without its beginning',
    by: `UPDATE baskets SET last_event_offset = 2 WHERE id = '${basket(orders.failed)}';
         UPDATE events SET stream_offset = 2 WHERE order_id = '${failed}'`,
    example: basket(orders.failed),
  },
  {
    invariant: 'payments_in_gateway_book',
    how: 'a capture that the gateway does not know',
    by: `DELETE FROM simulated_gateway.journal WHERE key = '${completed}:1:capture'`,
    example: completed,
  },
  {
    invariant: 'payments_in_gateway_book',
    how: 'a capture in the book under another attempt',
    by: `UPDATE payment_attempts SET attempt = 2 WHERE order_id = '${completed}'`,
    example: completed,
  },
  {
    invariant: 'payments_in_gateway_book',
    how: 'a capture of another currency',
    by: `UPDATE simulated_gateway.journal SET currency = 'EUR' WHERE key = '${captured}:1:capture'`,
    example: captured,
  },
  {
    invariant: 'gateway_captures_recorded',
    how: 'a failed order that the gateway has charged',
    by: `UPDATE simulated_gateway.journal SET approved = true WHERE key = '${failed}:1:authorize';
         ${journalEntry(failed, 1, 'capture')}`,
    example: failed,
  },
  {
    invariant: 'gateway_captures_recorded',
    how: 'a charge of another amount',
    by: `UPDATE simulated_gateway.journal SET amount = 1751 WHERE key = '${completed}:1:capture'`,
    example: completed,
  },
  {
    invariant: 'gateway_charged_once',
    how: 'two attempts that both were charged',
    by: `${journalEntry(completed, 2, 'authorize')}; ${journalEntry(completed, 2, 'capture')}`,
    example: completed,
  },
  {
    invariant: 'no_money_left_held',
    how: 'a failed order with money held by the gateway',
    by: `UPDATE simulated_gateway.journal SET approved = true WHERE key = '${failed}:1:authorize'`,
    example: failed,
  },
  {
    invariant: 'no_money_left_held',
    how: 'a completed order with a second amount held',
    by: journalEntry(completed, 2, 'authorize'),
    example: completed,
  },
  {
    invariant: 'gateway_knows_our_orders',
    how: 'an approval for an order that does not exist',
    by: journalEntry(stranger, 1, 'authorize'),
    example: `${stranger}:1:authorize`,
  },
  {
    invariant: 'gateway_knows_our_orders',
    how: 'an approval under a key of no form',
    by: journalEntry('nonsense', 1, 'authorize'),
    example: 'nonsense:1:authorize',
  },
  {
    invariant: 'parked_orders',
    how: 'a second parked order',
    by: `UPDATE order_states SET parked_at = now(), parked_reason = 'test' WHERE order_id = '${pending}'`,
    example: pending,
  },
];

let database: TestDatabase;
let db: Database;

beforeEach(async () => {
  database = await createTestDatabase();
  db = openDatabase({ url: database.url, name: 'audit', connections: 1, waiting: 1, onError: () => undefined });
});

afterEach(async () => {
  await db.close();
  await database.drop();
});

const audit = (): Promise<Finding[]> => auditShop(db, 10_000);
const execute = (statements: string): Promise<unknown> => onServer(database.url, (client) => client.query(statements));

describe('an audit', () => {
  test('finds nothing in an empty database', async () => {
    expect((await audit()).filter((finding) => finding.count > 0)).toEqual([]);
  });

  test('finds nothing in a healthy shop but what waits for somebody', async () => {
    await insertHealthyShop(database.url);
    const found = (await audit()).filter((finding) => finding.count > 0);
    expect(found.map(({ name, kind, count }) => `${count} ${kind} ${name}`)).toEqual([
      '1 notice parked_orders',
      '1 notice unanswered_orders',
      '1 notice open_cancellations',
      '1 notice refused_refunds',
    ]);
    expect(violatedIn(found)).toEqual([]);
  });

  test('has a breakage for each invariant', async () => {
    const names = (await audit()).map((finding) => finding.name);
    expect(new Set(breakages.map((breakage) => breakage.invariant))).toEqual(new Set(names));
    expect(new Set(names).size).toBe(names.length);
  });

  test.each(breakages)('counts $invariant: $how', async ({ invariant, by, example }) => {
    await insertHealthyShop(database.url);
    const countOf = async (): Promise<Finding | undefined> =>
      (await audit()).find((finding) => finding.name === invariant);
    const before = await countOf();
    await execute(by);
    const after = await countOf();
    expect(after?.count).toBe((before?.count ?? 0) + 1);
    expect(after?.examples).toContain(example);
  });

  test('counts all violations and shows three', async () => {
    await insertHealthyShop(database.url);
    await execute(`UPDATE order_states SET payment_token = 'tok_success'`);
    const [tokens] = violatedIn(await audit());
    expect(tokens).toMatchObject({ name: 'payment_tokens_erased', count: 5 });
    expect(tokens?.examples).toEqual([completed, refunded, failed]);
  });

  test('holds no lock that a sale would wait for, and can change nothing', async () => {
    await insertHealthyShop(database.url);
    await onServer(database.url, async (sale) => {
      await sale.query('BEGIN');
      await sale.query('SELECT FROM stock, products, order_states, baskets FOR UPDATE');
      expect(violatedIn(await audit())).toEqual([]);
      await sale.query('ROLLBACK');
    });
  });

  test('is stopped at its timeout, and says so', async () => {
    await onServer(database.url, async (holder) => {
      await holder.query('BEGIN');
      await holder.query('LOCK TABLE stock IN ACCESS EXCLUSIVE MODE');
      await expect(auditShop(db, 200)).rejects.toThrow('The audit did not finish within 0.2 s and was stopped');
      await holder.query('ROLLBACK');
    });
    expect(violatedIn(await audit())).toEqual([]);
  });
});
