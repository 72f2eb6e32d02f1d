import type { OutcomeEvent } from '../../src/modules/notifications/notifications.service.ts';
import { newId } from '../../src/shared/ids.ts';
import { onServer } from './postgres.ts';

export type Basket = Readonly<{ id: string; token: string }>;
export type Ending = OutcomeEvent['kind'];

type Sql = (text: string, values?: readonly unknown[]) => Promise<Array<{ offset?: number }>>;

/** An empty basket in the database at `url`. */
export function insertBasket(url: string): Promise<Basket> {
  const basket = { id: newId(), token: newId() };
  return inTransaction(url, async (run) => {
    const insert = `INSERT INTO baskets (id, token, expires_at) VALUES ($1, $2, now() + interval '90 days')`;
    await run(insert, [basket.id, basket.token]);
    return basket;
  });
}

/** A pending order of 2 units at 5.00 and 1 at 7.50, the basket's live one. Returns its id. */
export function insertOrder(url: string, basket: Basket): Promise<string> {
  const orderId = newId();
  return inTransaction(url, async (run) => {
    await run(
      `INSERT INTO orders (id, number, basket_id, currency, items_total, total, created_at)
       VALUES ($1, $2, $3, 'USD', 1750, 1750, '2026-11-20T10:11:12.345Z')`,
      [orderId, orderId, basket.id],
    );
    await insertLine(run, orderId, { position: 1, name: 'Lamp', quantity: 2, unitPrice: 500 });
    await insertLine(run, orderId, { position: 2, name: 'Chair', quantity: 1, unitPrice: 750 });
    const address = JSON.stringify({ line_1: 'Elm Street 1', city: 'Springfield', state: 'OR', zip: '97477' });
    await run('INSERT INTO order_contacts VALUES ($1, $2, $3)', [orderId, 'a@b.example', address]);
    await run("INSERT INTO order_states (order_id, hold_until) VALUES ($1, now() + interval '15 minutes')", [orderId]);
    await run('UPDATE baskets SET live_order_id = $2, latest_order_id = $2 WHERE id = $1', [basket.id, orderId]);
    return orderId;
  });
}

/**
 * Ends an order as a settlement does, event and all in one commit, for which `beforeCommit` is waited. Returns the event,
 * which nobody was told of.
 */
export function endOrder(
  url: string,
  basket: Basket,
  orderId: string,
  kind: Ending,
  beforeCommit: () => Promise<unknown> = async () => undefined,
): Promise<OutcomeEvent> {
  return inTransaction(url, async (run) => {
    const [stream] = await run(
      `UPDATE baskets SET live_order_id = NULL, last_event_offset = last_event_offset + 1
        WHERE id = $1 RETURNING last_event_offset::int AS offset`,
      [basket.id],
    );
    const [code, message] = errors[kind] ?? [null, null];
    await run(
      `UPDATE order_states SET state = $2, error_code = $3, error_message = $4, ended_at = now() WHERE order_id = $1`,
      [orderId, kind, code, message],
    );
    const event = { id: newId(), basketId: basket.id, offset: Number(stream?.offset), orderId, kind };
    await run('INSERT INTO events (basket_id, stream_offset, id, order_id, kind) VALUES ($1, $2, $3, $4, $5)', [
      event.basketId,
      event.offset,
      event.id,
      event.orderId,
      event.kind,
    ]);
    await beforeCommit();
    return event;
  });
}

const errors: Partial<Record<Ending, readonly [code: string, message: string]>> = {
  failed: ['payment_required', 'Insufficient funds'],
  cancelled: ['cancelled', 'Order was cancelled'],
};

type Line = { position: number; name: string; quantity: number; unitPrice: number };

async function insertLine(run: Sql, orderId: string, line: Line): Promise<void> {
  const productId = newId();
  await run('INSERT INTO products (id, sku, name, description, price_cents) VALUES ($1, $2, $3, $4, $5)', [
    productId,
    `SKU-${productId}`,
    line.name,
    `${line.name} for sale`,
    line.unitPrice,
  ]);
  await run(
    `INSERT INTO order_lines (order_id, position, product_id, basket_position, quantity, unit_price, name, description)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
    [
      orderId,
      line.position,
      productId,
      line.position,
      line.quantity,
      line.unitPrice,
      line.name,
      `${line.name} for sale`,
    ],
  );
}

function inTransaction<T>(url: string, work: (run: Sql) => Promise<T>): Promise<T> {
  return onServer(url, async (client) => {
    const run: Sql = async (text, values = []) => (await client.query(text, [...values])).rows;
    await run('BEGIN');
    const result = await work(run);
    await run('COMMIT');
    return result;
  });
}

/** As many orders of the basket as `count`, all cancelled, each with its event. */
export function cancelManyOrders(url: string, basket: Basket, count: number): Promise<void> {
  return inTransaction(url, async (run) => {
    await run(
      'CREATE TEMPORARY TABLE many ON COMMIT DROP AS SELECT number, gen_random_uuid() AS id FROM generate_series(1, $1::int) AS number',
      [count],
    );
    await run(
      `INSERT INTO orders (id, number, basket_id, currency, items_total, total)
       SELECT id, id::text, $1, 'USD', 1, 1 FROM many`,
      [basket.id],
    );
    await run('INSERT INTO order_contacts (order_id) SELECT id FROM many');
    await run('INSERT INTO order_states (order_id, hold_until) SELECT id, now() FROM many');
    await run(
      `UPDATE order_states SET state = 'cancelled', error_code = 'cancelled', error_message = 'Order was cancelled', ended_at = now()
        WHERE order_id IN (SELECT id FROM many)`,
    );
    await run(
      `INSERT INTO events (basket_id, stream_offset, id, order_id, kind)
       SELECT $1, number, gen_random_uuid(), id, 'cancelled' FROM many`,
      [basket.id],
    );
    await run(
      `UPDATE baskets SET last_event_offset = $2::int, latest_order_id = (SELECT id FROM many WHERE number = $2::int) WHERE id = $1`,
      [basket.id, count],
    );
  });
}
