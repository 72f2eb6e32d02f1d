import type { Client } from 'pg';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createTestDatabase, onServer, type TestDatabase } from '../../../test/support/postgres.ts';
import { newId } from '../../shared/ids.ts';
import type { OrderState } from '../orders/orders.service.ts';
import { transitions } from './order-states.ts';

const states = Object.keys(transitions) as OrderState[];
const beginnings: readonly OrderState[] = ['pending'];

let database: TestDatabase;
beforeAll(async () => {
  database = await createTestDatabase();
});
afterAll(() => database.drop());

it('are the words that the database knows', async () => {
  const words = await onServer(database.url, async (client) => {
    const { rows } = await client.query<{ definition: string }>(
      "SELECT pg_get_constraintdef(oid) AS definition FROM pg_constraint WHERE conname = 'order_states_state_check'",
    );
    return [...String(rows[0]?.definition).matchAll(/'(\w+)'/g)].map(([, word]) => String(word));
  });
  expect(words.sort()).toEqual([...states].sort());
});

it.each(states)('the database lets an order go from %s exactly where the table does', async (from) => {
  const reached = await onServer(database.url, async (client) => {
    const ids: string[] = [];
    for (const _ of states) ids.push(await insertOrder(client));
    // The trigger that guards the beginning is another; the one under test stays on.
    await client.query('ALTER TABLE order_states DISABLE TRIGGER order_states_begin');
    for (const id of ids) await client.query(insertState, [id, ...columnsOf(from)]);
    await client.query('ALTER TABLE order_states ENABLE TRIGGER order_states_begin');
    const answers: boolean[] = [];
    for (const [index, to] of states.entries()) answers.push(await isTaken(client, updateState, ids[index], to));
    return states.filter((to, index) => to !== from && answers[index]);
  });
  expect(reached).toEqual(states.filter((to) => transitions[from].includes(to)));
});

it('the database lets an order begin as pending only', async () => {
  const begun = await onServer(database.url, async (client) => {
    const answers: boolean[] = [];
    for (const state of states) answers.push(await isTaken(client, insertState, await insertOrder(client), state));
    return states.filter((_, index) => answers[index]);
  });
  expect(begun).toEqual(beginnings);
});

const insertState = `INSERT INTO order_states (order_id, state, ended_at, error_code, hold_until)
  VALUES ($1, $2, $3, $4, now())`;
const updateState = 'UPDATE order_states SET state = $2, ended_at = $3, error_code = $4 WHERE order_id = $1';

/** All that the other constraints ask of a row in that state, so that only the triggers are left to say no. */
function columnsOf(state: OrderState): [state: string, endedAt: Date | null, errorCode: string | null] {
  const isOpen = ['pending', 'authorized', 'captured'].includes(state);
  const hasError = ['failed', 'cancelled'].includes(state);
  return [state, isOpen ? null : new Date(), hasError ? 'cancelled' : null];
}

async function isTaken(client: Client, statement: string, id: unknown, state: OrderState): Promise<boolean> {
  try {
    await client.query(statement, [id, ...columnsOf(state)]);
    return true;
  } catch (error) {
    expect(error).toMatchObject({ code: '23514', constraint: 'order_states_transition' });
    return false;
  }
}

async function insertOrder(client: Client): Promise<string> {
  const id = newId();
  await client.query("INSERT INTO baskets (id, token, expires_at) VALUES ($1, $1, now() + interval '1 day')", [id]);
  await client.query(
    "INSERT INTO orders (id, number, basket_id, currency, items_total, total) VALUES ($1::uuid, $1, $1, 'USD', 1, 1)",
    [id],
  );
  return id;
}
