import { readFileSync } from 'node:fs';
import type { Client } from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { expectNothingLeftOver } from '../../../test/support/invariants.ts';
import { charges, stockOf } from '../../../test/support/ledger.ts';
import { createTestDatabase, onServer, type TestDatabase } from '../../../test/support/postgres.ts';
import { addProduct, endedOrder, openTestShop, orderIdOf, Shopper, type TestShop } from '../../../test/support/shop.ts';
import { newId } from '../../shared/ids.ts';
import type { OrderState } from '../orders/orders.service.ts';
import { transitions } from './order-states.ts';
import { startOrderWorker } from './order-worker.ts';

const states = Object.keys(transitions) as OrderState[];
const beginnings: readonly OrderState[] = ['pending'];
const open: readonly OrderState[] = ['pending', 'authorized', 'captured'];

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

it.each(['docs/architecture.md', 'src/modules/checkout/order-states.ts'])(
  'are drawn in %s as the table has them',
  (file) => {
    const steps = diagramIn(readFileSync(file, 'utf8'));
    const drawn = states.map((from) => [from, [...reachedInOneCommit(steps, from)].sort()]);
    expect(drawn).toEqual(states.map((from) => [from, [...transitions[from]].sort()]));
  },
);

/** The single steps that are drawn: along the first line, and from the words above the bars to those behind the arrow. */
function diagramIn(text: string): ReadonlyArray<readonly [from: string, to: string]> {
  const lines = text.split('\n');
  const at = lines.findIndex((line) => line.includes('pending -> '));
  const [chain = '', bars = '', branch = ''] = lines.slice(at, at + 3);
  const words = [...chain.matchAll(/\w+/g)].map((match) => ({ word: match[0], from: match.index }));
  const alongTheChain = words.slice(1).map(({ word }, index) => [words[index]?.word ?? '', word] as const);
  const above = [...bars.matchAll(/\|/g)].map(
    ({ index: column }) => words.findLast(({ from }) => from <= column)?.word ?? '',
  );
  const behind = branch.replace(/^.*> /, '').split(' | ');
  return [...alongTheChain, ...above.flatMap((from) => behind.map((to) => [from, to.trim()] as const))];
}

/** Several steps may share a commit, as long as the order is open in between. */
function reachedInOneCommit(steps: ReturnType<typeof diagramIn>, from: string): Set<string> {
  const next = steps.filter(([before]) => before === from).map(([, after]) => after);
  const beyond = next.filter((state) => (open as readonly string[]).includes(state));
  return new Set([...next, ...beyond.flatMap((state) => [...reachedInOneCommit(steps, state)])]);
}

describe('an order that was left behind', () => {
  let shop: TestShop;
  beforeEach(async () => {
    shop = await openTestShop({ ROLE: 'web' });
  });
  afterEach(() => shop.close());

  const total = 1_000;
  const recoveries: ReadonlyArray<Readonly<{ state: OrderState; hold: 'lasts' | 'is over'; end: OrderState }>> = [
    { state: 'pending', hold: 'lasts', end: 'completed' },
    { state: 'pending', hold: 'is over', end: 'failed' },
    { state: 'authorized', hold: 'lasts', end: 'completed' },
    { state: 'authorized', hold: 'is over', end: 'failed' },
    { state: 'captured', hold: 'lasts', end: 'completed' },
    { state: 'captured', hold: 'is over', end: 'completed' },
  ];

  it('has a recovery in every state that is not the last', () => {
    const leadingOn = states.filter((state) => transitions[state].some((next) => next !== 'refunded'));
    expect([...new Set(recoveries.map(({ state }) => state))]).toEqual(leadingOn);
  });

  it.each(recoveries)('as $state is brought to its end by a worker while its hold $hold: $end', async (recovery) => {
    const { shopper, product, id } = await leftAs(recovery.state);
    if (recovery.hold === 'is over')
      await shop.query(`UPDATE order_states SET hold_until = now() - interval '1 second' WHERE order_id = $1`, [id]);
    const worker = await startOrderWorker({ ...shop.resources, pollMs: 50 });
    const isSold = recovery.end === 'completed';
    const error = { code: 'hold_expired', message: 'The payment was not completed in time' };
    expect(await endedOrder(shopper, id)).toMatchObject({ status: recovery.end, error: isSold ? null : error });
    await worker.stop();
    expect(await charges(shop, product)).toEqual(isSold ? [total] : []);
    expect(await stockOf(shop, product)).toBe(isSold ? 4 : 5);
    await expectNothingLeftOver(shop.url);
  });

  /** As a process leaves it behind that has put on record how far it had come. */
  async function leftAs(state: OrderState): Promise<{ shopper: Shopper; product: string; id: string }> {
    const product = await addProduct(shop, { priceCents: total, stock: 5 });
    const shopper = new Shopper(shop.app);
    await shopper.put(product, 1);
    const id = orderIdOf(await shopper.checkout('v2'));
    if (state === 'pending') return { shopper, product, id };
    const authorization = { key: `${id}:1:authorize`, paymentToken: 'tok_success', amount: total, currency: 'USD' };
    await shop.resources.gateway.authorize(authorization);
    if (state === 'captured') await shop.resources.gateway.capture({ key: `${id}:1:capture`, authorization });
    await shop.query('UPDATE order_states SET state = $2 WHERE order_id = $1', [id, state]);
    await shop.query('INSERT INTO payment_attempts (order_id, attempt, state, amount) VALUES ($1, 1, $2, $3)', [
      id,
      state,
      total,
    ]);
    return { shopper, product, id };
  }
});

const insertState = `INSERT INTO order_states (order_id, state, ended_at, error_code, hold_until)
  VALUES ($1, $2, $3, $4, now())`;
const updateState = 'UPDATE order_states SET state = $2, ended_at = $3, error_code = $4 WHERE order_id = $1';

/** All that the other constraints ask of a row in that state, so that only the triggers are left to say no. */
function columnsOf(state: OrderState): [state: string, endedAt: Date | null, errorCode: string | null] {
  const isOpen = open.includes(state);
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
