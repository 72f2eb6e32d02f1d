import { userInfo } from 'node:os';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { newId } from '../src/shared/ids.ts';
import { connect, identifierOf } from './support/cable-client.ts';
import { startCableServer } from './support/cable-server.ts';
import { type Ended, runCommand, startCommand } from './support/command.ts';
import { eventually } from './support/eventually.ts';
import { journalEntry } from './support/healthy-shop.ts';
import { expectNothingLeftOver } from './support/invariants.ts';
import { charges, stockOf } from './support/ledger.ts';
import { onServer } from './support/postgres.ts';
import { addProduct, endedOrder, openTestShop, orderIdOf, Shopper, type TestShop } from './support/shop.ts';

/** An accepted order, who made it, and what it is of. */
type Made = Readonly<{ shopper: Shopper; id: string; number: string; product: string }>;

// Some commands one after the other, each a process of its own, on a busy machine.
vi.setConfig({ testTimeout: 120_000 });

let shop: TestShop;

const run = (...args: readonly string[]): Promise<Ended> => runCommand(args, { DATABASE_URL: shop.url });

async function makeOrder(paymentToken = 'tok_success', units = 2, stock = 10): Promise<Made> {
  const product = await addProduct(shop, { stock, priceCents: 500 });
  const shopper = new Shopper(shop.app);
  await shopper.put(product, units);
  const accepted = await shopper.checkout('v2', { payment_token: paymentToken });
  expect(accepted.statusCode).toBe(202);
  const id = orderIdOf(accepted);
  const [row] = await shop.query<{ number: string }>('SELECT number FROM orders WHERE id = $1', [id]);
  return { shopper, id, number: row?.number ?? '', product };
}

async function makeEnded(paymentToken?: string): Promise<Made> {
  const made = await makeOrder(paymentToken);
  await endedOrder(made.shopper, made.id);
  return made;
}

async function eventsOf({ id }: Made): Promise<string[]> {
  const rows = await shop.query<{ kind: string }>(
    'SELECT kind FROM events WHERE order_id = $1 ORDER BY stream_offset',
    [id],
  );
  return rows.map((row) => row.kind);
}

async function stateOf<T>({ id }: Made, column: string): Promise<T | undefined> {
  const [row] = await shop.query<{ value: T }>(`SELECT ${column} AS value FROM order_states WHERE order_id = $1`, [id]);
  return row?.value;
}

function returnsOf(product: string): Promise<unknown[]> {
  return shop.query(`SELECT delta, who, why FROM stock_movements WHERE product_id = $1 AND kind = 'returned'`, [
    product,
  ]);
}

/** Nothing is left over, and the command that operators have says the same. */
async function expectAllWell(): Promise<void> {
  await expectNothingLeftOver(shop.url);
  expect(await run('audit')).toMatchObject({ status: 0, stderr: '' });
}

afterEach(() => shop.close());

describe('order, in a shop that sells', () => {
  beforeEach(async () => {
    shop = await openTestShop();
  });

  test('helps with its commands', async () => {
    expect((await run('order', '--help')).stdout).toMatch(/^ {2}show .*^ {2}list .*^ {2}cancel .*^ {2}retry /ms);
    expect((await run('order', 'cancel', '--help')).stdout).toContain(
      'Usage: scalecommerce order cancel [options] <ID>',
    );
  });

  test('show tells all about an order, whichever of its names it is given', async () => {
    const made = await makeEnded();
    const shown = await run('order', 'show', made.id);
    expect(shown).toMatchObject({ status: 0, stderr: '' });
    const time = String.raw`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z`;
    for (const line of [
      `number +${made.number}`,
      `id +${made.id}`,
      'status +completed',
      `created +${time}`,
      `ended +${time}`,
      'e-mail +shopper@example\\.com',
      'SKU +name +quantity +unit price +total',
      `SKU-${made.product} +Lamp +2 +5\\.00 USD +10\\.00 USD`,
      'total +10\\.00 USD',
      `1 +captured +10\\.00 USD +${time}`,
      '1 +authorize +approved +10\\.00 USD +[0-9a-f-]{36}',
      '1 +capture +approved +10\\.00 USD +[0-9a-f-]{36}',
      `completed +${time}`,
    ])
      expect(shown.stdout).toMatch(new RegExp(`^ *${line}$`, 'm'));
    for (const name of [made.number, made.number.toLowerCase().replace('-', '')])
      expect(await run('order', 'show', name)).toEqual(shown);
  });

  test('show tells what the shop knows where the gateway does not answer', async () => {
    const made = await makeEnded();
    const faults = { SIMULATED_GATEWAY_FAULTS: 'error=1' };
    const { status, stdout } = await runCommand(['order', 'show', made.id], { DATABASE_URL: shop.url, ...faults });
    expect(status).toBe(0);
    expect(stdout).toMatch(/^status +completed$/m);
    for (const step of ['authorize', 'capture', 'void', 'refund'])
      expect(stdout).toMatch(new RegExp(`^ +1 +${step} +does not answer$`, 'm'));
  });

  test.each(['show', 'cancel', 'retry'])('%s fails in one line without such an order', async (command) => {
    for (const name of ['0000-0000', newId()]) {
      const stderr = `scalecommerce: There is no order "${name}".\n`;
      expect(await run('order', command, name)).toEqual({ status: 1, stdout: '', stderr });
    }
  });

  test('list shows the newest orders first, and of one status when asked for it', async () => {
    const [sold, declined, last] = [await makeEnded(), await makeEnded('tok_fail'), await makeEnded()];
    const numbersIn = ({ stdout }: Ended): string[] => stdout.match(/^[0-9A-Z]{4}-[0-9A-Z]{4}\b/gm) ?? [];
    const all = await run('order', 'list');
    expect(all.stdout).toMatch(/^number +status +created +total +note$/m);
    expect(all.stdout).toMatch(new RegExp(`^${declined.number} +failed .* 10\\.00 USD +Insufficient funds$`, 'm'));
    expect(numbersIn(all)).toEqual([last.number, declined.number, sold.number]);
    expect(numbersIn(await run('order', 'list', '--limit', '1'))).toEqual([last.number]);
    expect(numbersIn(await run('order', 'list', '--status', 'completed'))).toEqual([last.number, sold.number]);
    expect(await run('order', 'list', '--parked')).toMatchObject({ status: 0, stdout: 'There are no such orders.\n' });
    expect(await run('order', 'list', '--status', 'lost')).toMatchObject({ status: 2 });
  });

  test.each([
    ['--parked', 'completed'],
    ['--unanswered', 'refunded'],
  ])('list refuses %s of orders that are %s, which none can be', async (flag, status) => {
    expect(await run('order', 'list', flag, '--status', status)).toEqual({
      status: 2,
      stdout: '',
      stderr: `scalecommerce: ${flag} lists open orders, and none of status ${status} is open: only those of pending, authorized, captured are.\n`,
    });
    expect(await run('order', 'list', flag, '--status', 'pending')).toMatchObject({ status: 0 });
  });

  test('cancel of a completed order gives its money back, and leaves the goods sold', async () => {
    const made = await makeEnded();
    const cable = await startCableServer({ databaseUrl: shop.url, pollMs: 50 });
    const client = await connect(cable.port);
    const identifier = identifierOf({ token: made.shopper.token ?? '' });
    client.send({ command: 'subscribe', identifier });
    await client.settled();

    expect(await run('order', 'cancel', made.number)).toEqual({
      status: 0,
      stdout: `Order ${made.number} is refunded: 10.00 USD went back, and its goods were not booked as returned.\n`,
      stderr: '',
    });
    expect((await made.shopper.order(made.id)).json()).toMatchObject({
      status: 'refunded',
      order: { id: made.id, total_price: { cents: 1_000, currency: 'USD' } },
      error: null,
    });
    await eventually(() => client.frames.length >= 3);
    expect(client.frames.slice(-1)).toMatchObject([
      { identifier, message: { status: 'refunded', order_id: made.id, order: { id: made.id } } },
    ]);
    client.socket.close();
    await cable.stop();
    expect(await eventsOf(made)).toEqual(['completed', 'refunded']);
    expect(await stockOf(shop, made.product)).toBe(8);
    expect(await returnsOf(made.product)).toEqual([]);
    await expectAllWell();
  });

  test('cancel --restock books the goods as returned by whoever asked for it, once', async () => {
    const made = await makeEnded();
    expect((await run('order', 'cancel', made.id, '--restock')).stdout).toBe(
      `Order ${made.number} is refunded: 10.00 USD went back, and its goods can be sold again.\n`,
    );
    expect(await run('order', 'cancel', made.id, '--restock', '--by', 'ann')).toEqual({
      status: 0,
      stdout: `Order ${made.number} is refunded already.\n`,
      stderr: '',
    });
    expect(await stockOf(shop, made.product)).toBe(10);
    const why = `Order ${made.id} was cancelled`;
    expect(await returnsOf(made.product)).toEqual([{ delta: 2, who: userInfo().username, why }]);
    expect((await run('order', 'show', made.id)).stdout).toMatch(/^cancellation +asked for by .*\nrestock +yes\n/m);
    await expectAllWell();
  });

  test('cancel --restock of what was refunded without says what is to be done instead', async () => {
    const made = await makeEnded();
    await run('order', 'cancel', made.id, '--by', 'ann');
    const { status, stdout } = await run('order', 'cancel', made.id, '--restock');
    expect({ status, stdout }).toEqual({ status: 0, stdout: expect.stringContaining('`scalecommerce stock add`') });
    expect(await stockOf(shop, made.product)).toBe(8);
  });

  test('cancel of a failed order changes nothing and says why', async () => {
    const made = await makeEnded('tok_fail');
    const stderr = `scalecommerce: Order ${made.number} has failed (Insufficient funds): there is nothing to cancel.\n`;
    expect(await run('order', 'cancel', made.id)).toEqual({ status: 1, stdout: '', stderr });
    expect(await eventsOf(made)).toEqual(['failed']);
    await expectAllWell();
  });

  test('cancel of an order whose authorizations never arrive closes it, while a worker goes on trying', async () => {
    const made = await makeOrder('tok_authorize_unreachable');
    expect(await run('order', 'cancel', made.id)).toEqual({
      status: 0,
      stdout: `Order ${made.number} is cancelled: nothing was charged, and what it held can be sold again.\n`,
      stderr: '',
    });
    expect(await run('order', 'cancel', made.id)).toMatchObject({
      status: 0,
      stdout: `Order ${made.number} is cancelled already.\n`,
    });
    expect(await endedOrder(made.shopper, made.id)).toMatchObject({
      status: 'cancelled',
      order: null,
      error: { code: 'cancelled', message: 'The order was cancelled' },
    });
    expect(await stockOf(shop, made.product)).toBe(10);
    expect((await made.shopper.basket()).json().products).toMatchObject([{ id: made.product, quantity: 2 }]);
    expect(await charges(shop, made.product)).toEqual([]);
    await expectAllWell();
  });

  test('cancel of an order that the gateway does not answer for leaves it to the workers', async () => {
    const made = await makeOrder('tok_unreachable');
    expect(await run('order', 'cancel', made.id)).toEqual({
      status: 1,
      stdout: '',
      stderr: `scalecommerce: The gateway has not answered; a worker goes on with it. Order ${made.number} is to be cancelled.\n`,
    });
    await eventually(async () => (await stateOf(made, 'unanswered_since')) !== null);
    expect(await stockOf(shop, made.product)).toBe(8);
    expect((await run('order', 'list', '--unanswered')).stdout).toMatch(
      new RegExp(`^${made.number} +pending .* no answer from the gateway since `, 'm'),
    );
    expect((await run('order', 'show', made.id)).stdout).toMatch(/^outcome +not done yet$/m);
    expect((await run('audit')).status).toBe(0);

    // The gateway can be reached again: a worker ends what was asked for.
    await shop.query(`UPDATE order_states SET payment_token = 'tok_success' WHERE order_id = $1`, [made.id]);
    await eventually(async () => (await stateOf(made, 'state')) === 'cancelled');
    await expectAllWell();
  });

  test('cancel that is killed between a refund and the books is finished by a worker', async () => {
    const made = await makeEnded();
    await killWhen('1:refund approved', made);
    await eventually(async () => (await stateOf(made, 'state')) === 'refunded');
    expect(await eventsOf(made)).toEqual(['completed', 'refunded']);
    expect((await journalOf(made)).filter((entry) => entry.includes('refund'))).toEqual(['1:refund approved']);
    await expectAllWell();
  });

  test('retry pays a parked order under a new key, once the old one is closed', async () => {
    const made = await makeOrder('tok_broken_answer');
    await eventually(async () => (await stateOf(made, 'parked_at')) !== null);
    const note = `parked: The gateway answered with something that cannot be read`;
    expect((await run('order', 'list', '--parked')).stdout).toMatch(new RegExp(`^${made.number} .* ${note}$`, 'm'));
    expect((await run('order', 'show', made.id)).stdout).toMatch(/^parked +since .*: The gateway answered with /m);

    await shop.query(`UPDATE order_states SET payment_token = 'tok_success' WHERE order_id = $1`, [made.id]);
    expect(await run('order', 'retry', made.id)).toEqual({
      status: 0,
      stdout: `Order ${made.number} is tried again by the workers: attempt 2 to pay it, the one before is closed.\n`,
      stderr: '',
    });
    expect(await endedOrder(made.shopper, made.id)).toMatchObject({ status: 'completed' });
    expect(await journalOf(made)).toEqual([
      '1:authorize refused',
      '1:void approved',
      '2:authorize approved',
      '2:capture approved',
    ]);
    expect(await charges(shop, made.product)).toEqual([1_000]);
    expect(await run('order', 'retry', made.id)).toMatchObject({ status: 1, stdout: '' });
    await expectAllWell();
  });

  test('retry of a parked order that was paid all the same completes it, and charges nothing more', async () => {
    const made = await makeOrder('tok_broken_answer');
    await eventually(async () => (await stateOf(made, 'parked_at')) !== null);
    await shop.query(`UPDATE order_states SET payment_token = 'tok_success' WHERE order_id = $1`, [made.id]);
    const authorization = {
      key: `${made.id}:1:authorize`,
      paymentToken: 'tok_success',
      amount: 1_000,
      currency: 'USD',
    };
    await shop.resources.gateway.authorize(authorization);
    await shop.resources.gateway.capture({ key: `${made.id}:1:capture`, authorization });
    expect(await run('order', 'retry', made.id)).toMatchObject({
      status: 0,
      stdout: `Order ${made.number} was paid before it was parked: a worker completes it.\n`,
    });
    expect(await endedOrder(made.shopper, made.id)).toMatchObject({ status: 'completed' });
    expect(await charges(shop, made.product)).toEqual([1_000]);
    await expectAllWell();
  });

  test('cancel of a parked order needs no retry', async () => {
    const made = await makeOrder('tok_broken_answer');
    await eventually(async () => (await stateOf(made, 'parked_at')) !== null);
    expect(await run('order', 'cancel', made.id)).toMatchObject({ status: 0 });
    expect(await stateOf(made, 'state')).toBe('cancelled');
    expect(await stateOf(made, 'parked_at')).toBeNull();
    await expectAllWell();
  });
});

async function journalOf({ id }: Made): Promise<string[]> {
  const rows = await shop.query<{ key: string; approved: boolean }>(
    'SELECT key, approved FROM simulated_gateway.journal WHERE starts_with(key, $1) ORDER BY key',
    [id],
  );
  return rows.map(({ key, approved }) => `${key.slice(id.length + 1)} ${approved ? 'approved' : 'refused'}`);
}

describe('order cancel', () => {
  test('beside the capture ends each order in one way, and charges nobody for good', async () => {
    shop = await openTestShop();
    const made = await Promise.all(Array.from({ length: 4 }, () => makeOrder('tok_slow')));
    await eventually(async () => (await journalOf(made[0] as Made)).length > 0);
    const ends = await Promise.all(made.map(({ id }) => run('order', 'cancel', id)));
    expect(ends.map(({ status }) => status)).toEqual(made.map(() => 0));
    for (const [index, order] of made.entries()) {
      const state = await stateOf<string>(order, 'state');
      expect(ends[index]?.stdout).toMatch(
        state === 'refunded' ? / is refunded: 10\.00 USD went back/ : / is cancelled: /,
      );
      expect(await charges(shop, order.product)).toEqual(state === 'refunded' ? [1_000] : []);
      expect(await stockOf(shop, order.product)).toBe(state === 'refunded' ? 8 : 10);
    }
    await expectAllWell();
  });
});

describe('reconcile', () => {
  beforeEach(async () => {
    shop = await openTestShop();
  });

  test('gives back what was captured for a failed order, says so, and finds nothing when it is run again', async () => {
    await makeEnded();
    const failed = await makeEnded('tok_fail');
    await shop.query('UPDATE simulated_gateway.journal SET approved = true WHERE starts_with(key, $1)', [failed.id]);
    await shop.query(journalEntry(failed.id, 1, 'capture', { amount: 1_000 }));
    expect(await run('reconcile')).toEqual({
      status: 0,
      stdout: `${failed.id}:1:authorize  Captured for an order that is failed: refunded\n1 of 2 payments differed; 0 are left for people to see to.\n`,
      stderr: '',
    });
    const stdout = 'The books agree: 2 payments compared.\n';
    expect(await run('reconcile', '--hours', '1')).toEqual({ status: 0, stdout, stderr: '' });
    await expectAllWell();
  });

  test('ends with 1 where people have to see to something', async () => {
    const stranger = newId();
    await shop.query(journalEntry(stranger, 1, 'authorize', { amount: 1_000 }));
    expect(await run('reconcile')).toEqual({
      status: 1,
      stdout: `${stranger}:1:authorize  The gateway has a payment of an order that does not exist\n1 of 1 payments differed; 1 is left for people to see to.\n`,
      stderr: '',
    });
  });
});

describe('order, in a shop without a worker', () => {
  beforeEach(async () => {
    shop = await openTestShop({ ROLE: 'web' });
  });

  test('show keeps the tokens of the basket and of the payment to itself', async () => {
    const made = await makeOrder('tok_of_a_stranger');
    const { status, stdout } = await run('order', 'show', made.id);
    expect(status).toBe(0);
    for (const line of [
      /^status +pending$/m,
      /^hold +until /m,
      /^owner +nobody$/m,
      /^The gateway has nothing on record/m,
    ])
      expect(stdout).toMatch(line);
    for (const secret of [made.shopper.token ?? '', 'tok_of_a_stranger', '1 Main St'])
      expect(stdout).not.toContain(secret);
    expect((await run('order', 'list')).stdout).not.toContain(made.shopper.token);
  });

  test('cancel needs nobody else', async () => {
    const made = await makeOrder();
    expect(await run('order', 'cancel', made.number)).toMatchObject({ status: 0, stderr: '' });
    expect(await stateOf(made, 'state')).toBe('cancelled');
    expect(await stockOf(shop, made.product)).toBe(10);
    await expectAllWell();
  });

  test('retry of an order that is not parked is refused', async () => {
    const made = await makeOrder();
    expect(await run('order', 'retry', made.id)).toEqual({
      status: 1,
      stdout: '',
      stderr: `scalecommerce: Order ${made.number} is pending and not parked: the workers see to it.\n`,
    });
  });

  test('cancel that is killed between the gateway and the books is finished by a worker', async () => {
    const made = await makeOrder();
    await killWhen('1:void approved', made);
    expect(await stateOf(made, 'state')).toBe('pending');
    const worker = startCommand(['start'], { ...workerEnvironment, DATABASE_URL: shop.url });
    expect(await endedOrder(made.shopper, made.id)).toMatchObject({ status: 'cancelled' });
    worker.process.kill('SIGTERM');
    expect((await worker.ended).status).toBe(0);
    expect(await eventsOf(made)).toEqual(['cancelled']);
    expect(await stockOf(shop, made.product)).toBe(10);
    await expectAllWell();
  });
});

const workerEnvironment = { ROLE: 'worker', SEED_PRODUCTS: '0', LOG_LEVEL: 'silent' };

/** Kills a cancellation once the gateway has done `entry`, and before the books can say so: they need the basket first. */
async function killWhen(entry: string, made: Made): Promise<void> {
  await onServer(shop.url, async (holder) => {
    await holder.query('BEGIN');
    await holder.query('SELECT FROM baskets WHERE token = $1 FOR NO KEY UPDATE', [made.shopper.token]);
    const command = startCommand(['order', 'cancel', made.id], { DATABASE_URL: shop.url });
    await eventually(async () => (await journalOf(made)).includes(entry));
    command.process.kill('SIGKILL');
    await command.ended;
    await holder.query('ROLLBACK');
  });
}
