import { onServer } from './postgres.ts';

/** An id of the healthy shop: `kind` tells products, baskets and orders apart, `number` them among each other. */
const id = (kind: string, number: number): string => `018f0000-0000-7000-8${kind}00-00000000000${number}`;
export const product = (number: number): string => id('a', number);
export const basket = (number: number): string => id('b', number);
export const order = (number: number): string => id('c', number);

/** Orders by number; basket 1 has the first two, each other order a basket of its own. */
export const orders = {
  completed: 1,
  refunded: 2,
  failed: 3,
  cancelled: 4,
  pending: 5,
  authorized: 6,
  captured: 7,
  parked: 8,
  old: 9,
};

/**
 * Fills the database at `url` with a shop in which every invariant holds and every state occurs: one order each, of
 * 2 x 500 and 1 x 750, one of them parked long after its hold, one waiting for the gateway, and one so old that its event has been purged.
 */
export function insertHealthyShop(url: string): Promise<void> {
  return onServer(url, async (client) => {
    for (const statement of [shop, ...Object.entries(orders).flatMap(([name, number]) => orderOf(name, number))])
      await client.query(statement);
    await client.query(unsettled);
  });
}

const total = 1_750;

const shop = `
  INSERT INTO shop (currency, secret_key, order_number_key) VALUES ('USD', 'secret', 'secret');
  INSERT INTO products (id, sku, name, description, price_cents, archived_at) VALUES
    ('${product(1)}', 'A', 'Lamp', '', 500, NULL), ('${product(2)}', 'B', 'Chair', '', 750, NULL),
    ('${product(3)}', 'C', 'Table', '', 900, now());
  INSERT INTO stock (product_id, sellable) VALUES
    ('${product(1)}', ${100 - 2 * 7}), ('${product(2)}', ${100 - 7 + 1 - 3}), ('${product(3)}', 0);
  INSERT INTO stock_movements (product_id, delta, kind, who, why) VALUES
    ('${product(1)}', 100, 'received', 'test', 'test'), ('${product(2)}', 100, 'received', 'test', 'test'),
    ('${product(2)}', 1, 'returned', 'test', 'test'), ('${product(2)}', -3, 'adjusted', 'test', 'test');
  INSERT INTO baskets (id, token, expires_at)
    SELECT ('018f0000-0000-7000-8b00-00000000000' || number)::uuid, gen_random_uuid(), now() + interval '90 days'
      FROM generate_series(1, 9) number;
  INSERT INTO baskets (id, token, expires_at) VALUES ('${basket(0)}', gen_random_uuid(), now() + interval '90 days')`;

/** How each order has got to where it is, from pending on. */
const states: Readonly<Record<string, readonly string[]>> = {
  completed: ['completed'],
  refunded: ['completed', 'refunded'],
  failed: ['failed'],
  cancelled: ['cancelled'],
  authorized: ['authorized'],
  captured: ['captured'],
  old: ['completed'],
};

const payments: Readonly<Record<string, string>> = {
  completed: 'captured',
  refunded: 'refunded',
  failed: 'declined',
  cancelled: 'voided',
  authorized: 'authorized',
  captured: 'captured',
  old: 'captured',
};

function orderOf(name: string, number: number): string[] {
  const steps = states[name] ?? [];
  const isOpen = steps.every((state) => state === 'authorized' || state === 'captured');
  const inBasket = basket(name === 'refunded' ? 1 : number);
  return [
    `INSERT INTO orders (id, number, basket_id, currency, items_total, total)
       VALUES ('${order(number)}', '${number}', '${inBasket}', 'USD', ${total}, ${total})`,
    `INSERT INTO order_lines (order_id, position, product_id, basket_position, quantity, unit_price, name, description)
       VALUES ('${order(number)}', 1, '${product(1)}', 1, 2, 500, 'Lamp', ''),
              ('${order(number)}', 2, '${product(2)}', 2, 1, 750, 'Chair', '')`,
    `INSERT INTO order_contacts (order_id, email) VALUES ('${order(number)}', 'shopper@example.com')`,
    `INSERT INTO order_states (order_id, hold_until, payment_token)
       VALUES ('${order(number)}', now() + interval '10 minutes', ${isOpen ? `'tok_success'` : 'NULL'})`,
    `UPDATE baskets SET latest_order_id = '${order(number)}', live_order_id = ${isOpen ? `'${order(number)}'` : 'NULL'}
      WHERE id = '${inBasket}'`,
    ...steps.flatMap((state) => [stepTo(state, number), ...eventOf(state, number, inBasket)]),
    ...paymentOf(payments[name], number),
  ];
}

function stepTo(state: string, number: number): string {
  const hasEnded = !['authorized', 'captured'].includes(state);
  const code = state === 'failed' ? `'payment_required'` : state === 'cancelled' ? `'cancelled'` : 'NULL';
  return `UPDATE order_states SET state = '${state}', error_code = ${code}, ended_at = ${hasEnded ? 'now()' : 'NULL'}
           WHERE order_id = '${order(number)}'`;
}

function eventOf(state: string, number: number, inBasket: string): string[] {
  if (state === 'authorized' || state === 'captured') return [];
  return [
    `UPDATE baskets SET last_event_offset = last_event_offset + 1 WHERE id = '${inBasket}'`,
    `INSERT INTO events (basket_id, stream_offset, id, order_id, kind)
       SELECT id, last_event_offset, gen_random_uuid(), '${order(number)}', '${state}'
         FROM baskets WHERE id = '${inBasket}'`,
  ];
}

function paymentOf(state: string | undefined, number: number): string[] {
  if (!state) return [];
  const isTaken = state === 'captured' || state === 'refunded';
  return [
    `INSERT INTO payment_attempts (order_id, attempt, state, amount) VALUES ('${order(number)}', 1, '${state}', ${total})`,
    journalEntry(order(number), 1, 'authorize', { approved: state !== 'declined' }),
    ...(isTaken ? [journalEntry(order(number), 1, 'capture')] : []),
    ...(state === 'refunded' ? [journalEntry(order(number), 1, 'refund')] : []),
    ...(state === 'voided' ? [journalEntry(order(number), 1, 'void')] : []),
  ];
}

/** An entry of the gateway's journal under the key of `step` of the `attempt` to pay `orderId`. */
export function journalEntry(
  orderId: string,
  attempt: number,
  step: 'authorize' | 'capture' | 'void' | 'refund',
  { approved = true, amount = total } = {},
): string {
  const authorization = step !== 'authorize' ? `'${orderId}:${attempt}:authorize'` : 'NULL';
  return `INSERT INTO simulated_gateway.journal
            (key, operation, authorization_key, amount, currency, request_digest, approved, reference)
          VALUES ('${orderId}:${attempt}:${step}', '${step}', ${authorization}, ${amount}, 'USD', '', ${approved},
                  gen_random_uuid())`;
}

const unsettled = `
  UPDATE order_states SET parked_at = now(), parked_reason = 'test', hold_until = now() - interval '1 day'
   WHERE order_id = '${order(orders.parked)}';
  UPDATE order_states SET unanswered_since = now(), hold_until = now() - interval '1 day'
   WHERE order_id = '${order(orders.captured)}';
  INSERT INTO cancellations (order_id, restock, requested_by) VALUES ('${order(orders.captured)}', false, 'test');
  INSERT INTO cancellations (order_id, restock, requested_by, refused_message, ended_at)
    VALUES ('${order(orders.completed)}', false, 'test', 'Too late', now());
  UPDATE orders SET created_at = now() - interval '40 days' WHERE id = '${order(orders.old)}';
  UPDATE baskets SET created_at = now() - interval '40 days' WHERE id = '${basket(orders.old)}';
  DELETE FROM events WHERE order_id = '${order(orders.old)}'`;
