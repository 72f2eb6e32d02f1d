import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { eventually } from '../../../test/support/eventually.ts';
import { journalEntry } from '../../../test/support/healthy-shop.ts';
import { expectNothingLeftOver } from '../../../test/support/invariants.ts';
import { addProduct, endedOrder, openTestShop, orderIdOf, Shopper, type TestShop } from '../../../test/support/shop.ts';
import { newId } from '../../shared/ids.ts';
import { Unavailable } from '../../shared/refusal.ts';
import { type GatewayAuthorization, GatewayUnanswered, type PaymentGateway } from '../payments/payments.service.ts';
import { cancelOrder } from './cancel.ts';
import { type Discrepancy, lastPeriod, type Reconciliation, reconcile } from './reconcile.ts';

const hourMs = 3_600_000;
const total = 1_000;

let shop: TestShop;

beforeEach(async () => {
  shop = await openTestShop();
});
afterEach(() => shop.close());

/** The last hour, the newest payments included. */
function reconcileHour(changes: Partial<PaymentGateway> = {}): Promise<Reconciliation> {
  const { database, gateway } = shop.resources;
  const [since, until] = [new Date(Date.now() - hourMs), new Date(Date.now() + hourMs)];
  return reconcile({ database, gateway: { ...gateway, ...changes } }, since, until);
}

/** What the last hour differs in. */
async function compareBooks(changes: Partial<PaymentGateway> = {}): Promise<readonly Discrepancy[]> {
  return (await reconcileHour(changes)).discrepancies;
}

/** A comparison with the keys that were looked up for it. */
async function reconcileWithLookups(
  changes: Partial<PaymentGateway> = {},
): Promise<Reconciliation & { lookups: string[] }> {
  const lookups: string[] = [];
  const lookup: PaymentGateway['lookup'] = (key) => {
    lookups.push(key);
    return shop.resources.gateway.lookup(key);
  };
  return { ...(await reconcileHour({ lookup, ...changes })), lookups };
}

const capturedOf = (id: string, attempt = 1): GatewayAuthorization => ({
  key: `${id}:${attempt}:authorize`,
  amount: total,
  currency: 'USD',
  state: 'captured',
});

/** Lists these as a gateway does, page by page in the order of their keys. */
function listing(...payments: readonly GatewayAuthorization[]): Pick<PaymentGateway, 'listAuthorizations'> {
  const sorted = payments.toSorted((one, other) => (one.key < other.key ? -1 : 1));
  return {
    listAuthorizations: async ({ afterKey, limit }) =>
      sorted.filter(({ key }) => afterKey === null || key > afterKey).slice(0, limit),
  };
}

/** So many payments of orders that nobody here knows, made after all orders so far and before those to come. */
async function strangersBetween(count: number): Promise<GatewayAuthorization[]> {
  await passMillisecond();
  const strangers = Array.from({ length: count }, () => capturedOf(newId()));
  await passMillisecond();
  return strangers;
}

/** Ids are in the order of their making to the millisecond. */
async function passMillisecond(): Promise<void> {
  const nowMs = Date.now();
  await eventually(() => Date.now() > nowMs);
}

async function accepted(paymentToken = 'tok_success'): Promise<{ shopper: Shopper; id: string }> {
  const product = await addProduct(shop, { priceCents: total });
  const shopper = new Shopper(shop.app);
  await shopper.put(product, 1);
  return { shopper, id: orderIdOf(await shopper.checkout('v2', { payment_token: paymentToken })) };
}

async function ended(paymentToken?: string): Promise<string> {
  const { shopper, id } = await accepted(paymentToken);
  await endedOrder(shopper, id);
  return id;
}

/** A failed order whose authorization the gateway has approved all the same. */
async function failedButAuthorized(): Promise<string> {
  const id = await ended('tok_fail');
  await shop.query('UPDATE simulated_gateway.journal SET approved = true WHERE key = $1', [`${id}:1:authorize`]);
  return id;
}

/** A shop whose worker leaves orders alone. */
async function reopenWithoutWorker(): Promise<void> {
  await shop.close();
  shop = await openTestShop({ ROLE: 'web' });
}

async function entriesOf(id: string): Promise<string[]> {
  const rows = await shop.query<{ operation: string }>(
    'SELECT operation FROM simulated_gateway.journal WHERE starts_with(key, $1) ORDER BY operation',
    [id],
  );
  return rows.map((row) => row.operation);
}

it('finds nothing where all orders have ended as they were paid', async () => {
  for (const token of ['tok_success', 'tok_fail', 'tok_capture_refused']) await ended(token);
  expect(await compareBooks()).toEqual([]);
});

it('refunds what was captured for a failed order, once', async () => {
  const id = await failedButAuthorized();
  await shop.query(journalEntry(id, 1, 'capture', { amount: total }));
  const key = `${id}:1:authorize`;
  expect(await compareBooks()).toEqual([
    { key, problem: 'Captured for an order that is failed: refunded', acted: true },
  ]);
  expect(await compareBooks()).toEqual([]);
  expect(await entriesOf(id)).toEqual(['authorize', 'capture', 'refund']);
  expect(await shop.query('SELECT attempt, state, amount FROM payment_attempts WHERE order_id = $1', [id])).toEqual([
    { attempt: 1, state: 'refunded', amount: total },
  ]);
  await expectNothingLeftOver(shop.url);
});

it('voids an authorization that is left of a failed order', async () => {
  const id = await failedButAuthorized();
  const key = `${id}:1:authorize`;
  expect(await compareBooks()).toEqual([
    { key, problem: 'Authorized for an order that is failed: voided', acted: true },
  ]);
  expect(await compareBooks()).toEqual([]);
  expect(await entriesOf(id)).toEqual(['authorize', 'void']);
  await expectNothingLeftOver(shop.url);
});

it('tells of a refund that the gateway refuses', async () => {
  const id = await failedButAuthorized();
  await shop.query(journalEntry(id, 1, 'capture', { amount: total }));
  const refund = async () => ({ outcome: 'refused', message: 'Too late' }) as const;
  const problem = 'Captured for an order that is failed, and not given back: Too late';
  expect(await compareBooks({ refund })).toEqual([{ key: `${id}:1:authorize`, problem, acted: false }]);
});

it('tells of what the gateway does not answer for, and goes on with the rest', async () => {
  const [first, second] = [await failedButAuthorized(), await failedButAuthorized()].sort();
  const silent: PaymentGateway['void'] = async (request) => {
    if (request.authorization.key === `${first}:1:authorize`) throw new GatewayUnanswered('No answer');
    return shop.resources.gateway.void(request);
  };
  const problem = 'Authorized for an order that is failed';
  expect(await compareBooks({ void: silent })).toEqual([
    { key: `${first}:1:authorize`, problem: `${problem}, and not given back: No answer`, acted: false },
    { key: `${second}:1:authorize`, problem: `${problem}: voided`, acted: true },
  ]);
});

it('tells of each payment that it cannot look up, and goes on with the rest', async () => {
  const ids = [await ended(), await ended(), await ended()].sort();
  const last = await failedButAuthorized();
  const [silent, garbled] = ids;
  const lookup: PaymentGateway['lookup'] = async (key) => {
    if (key.startsWith(`${silent}`)) throw new GatewayUnanswered('No answer');
    if (key.startsWith(`${garbled}`)) throw new Error('Not to be read');
    return shop.resources.gateway.lookup(key);
  };
  const listed = [...ids, last].map((id) => ({ key: `${id}:1:authorize`, amount: total, currency: 'USD' }));
  const listAuthorizations = async () => listed.map((one) => ({ ...one, state: 'authorized' as const }));
  const compareAgain = 'Could not be compared; do it again';
  expect(await compareBooks({ lookup, listAuthorizations })).toEqual([
    { key: `${silent}:1:authorize`, problem: `${compareAgain}: No answer`, acted: false },
    { key: `${garbled}:1:authorize`, problem: `${compareAgain}: Not to be read`, acted: false },
    { key: `${last}:1:authorize`, problem: 'Authorized for an order that is failed: voided', acted: true },
    { key: `${silent}:1:capture`, problem: `${compareAgain}: No answer`, acted: false },
    { key: `${garbled}:1:capture`, problem: `${compareAgain}: Not to be read`, acted: false },
  ]);
});

it('compares our books although the gateway does not list its own', async () => {
  const id = await ended();
  await shop.query('DELETE FROM simulated_gateway.journal WHERE starts_with(key, $1)', [id]);
  const listAuthorizations = async (): Promise<never> => {
    throw new GatewayUnanswered('No answer');
  };
  expect(await compareBooks({ listAuthorizations })).toEqual([
    {
      key: 'from the first on',
      problem: 'The gateway did not list its payments; compare again: No answer',
      acted: false,
    },
    { key: `${id}:1:capture`, problem: 'Paid in our books, and not captured in the gateway’s', acted: false },
  ]);
});

it('ends with the error of our own database', async () => {
  await failedButAuthorized();
  const voiding: PaymentGateway['void'] = async () => {
    throw new Unavailable('The database does not answer');
  };
  await expect(compareBooks({ void: voiding })).rejects.toThrow('The database does not answer');
});

it('refunds what was captured in the moment in which it was to be voided', async () => {
  const id = await failedButAuthorized();
  await shop.query(journalEntry(id, 1, 'capture', { amount: total }));
  const beforeTheCapture = { key: `${id}:1:authorize`, amount: total, currency: 'USD', state: 'authorized' } as const;
  expect(await compareBooks({ listAuthorizations: async () => [beforeTheCapture] })).toEqual([
    { key: `${id}:1:authorize`, problem: 'Authorized for an order that is failed: refunded', acted: true },
  ]);
  expect(await entriesOf(id)).toEqual(['authorize', 'capture', 'refund']);
  expect(await compareBooks()).toEqual([]);
  await expectNothingLeftOver(shop.url);
});

it('tells of another amount than the order has, and does nothing about it', async () => {
  const id = await ended();
  await shop.query('UPDATE simulated_gateway.journal SET amount = 999 WHERE starts_with(key, $1)', [id]);
  const problem = 'The gateway has 999 USD, the order 1000 USD';
  expect(await compareBooks()).toEqual([{ key: `${id}:1:authorize`, problem, acted: false }]);
  expect(await entriesOf(id)).toEqual(['authorize', 'capture']);
});

it('tells of a payment in our books that is not in the gateway’s', async () => {
  const id = await ended();
  await shop.query('DELETE FROM simulated_gateway.journal WHERE starts_with(key, $1)', [id]);
  const problem = 'Paid in our books, and not captured in the gateway’s';
  expect(await compareBooks()).toEqual([{ key: `${id}:1:capture`, problem, acted: false }]);
});

it('tells of a sold order whose money is only set aside', async () => {
  const id = await ended();
  await shop.query('DELETE FROM simulated_gateway.journal WHERE key = $1', [`${id}:1:capture`]);
  expect((await compareBooks()).map(({ key, acted }) => ({ key, acted }))).toEqual([
    { key: `${id}:1:authorize`, acted: false },
    { key: `${id}:1:capture`, acted: false },
  ]);
});

it.each([1, 9_999_999_999])('tells of a payment, attempt %i, of an order that does not exist', async (attempt) => {
  const stranger = newId();
  await shop.query(journalEntry(stranger, attempt, 'authorize', { amount: total }));
  const problem = 'The gateway has a payment of an order that does not exist';
  expect(await compareBooks()).toEqual([{ key: `${stranger}:${attempt}:authorize`, problem, acted: false }]);
});

it('leaves open orders alone, however far their payment has come', async () => {
  await reopenWithoutWorker();
  const pending = (await accepted()).id;
  await shop.query(journalEntry(pending, 1, 'authorize', { amount: total }));
  const captured = (await accepted()).id;
  await shop.query(journalEntry(captured, 1, 'authorize', { amount: total }));
  await shop.query(journalEntry(captured, 1, 'capture', { amount: total }));
  const onRecord = (await accepted()).id;
  await shop.query(journalEntry(onRecord, 1, 'authorize', { amount: total }));
  await shop.query(`UPDATE order_states SET state = 'authorized' WHERE order_id = $1`, [onRecord]);
  await shop.query(
    `INSERT INTO payment_attempts (order_id, attempt, state, amount) VALUES ($1, 1, 'authorized', 1000)`,
    [onRecord],
  );
  expect(await compareBooks()).toEqual([]);
  expect(await entriesOf(pending)).toEqual(['authorize']);
  expect(await entriesOf(captured)).toEqual(['authorize', 'capture']);
  expect(await entriesOf(onRecord)).toEqual(['authorize']);
});

it('asks for no payment by itself where the books agree, and counts each once', async () => {
  const refunded = await ended();
  for (const token of ['tok_success', 'tok_fail', 'tok_capture_refused']) await ended(token);
  const wish = { restock: false, by: 'test' };
  const { database, gateway } = shop.resources;
  await cancelOrder({ database, gateway, notifications: null }, refunded, wish, () => undefined);
  expect(await reconcileWithLookups()).toEqual({ compared: 3, discrepancies: [], lookups: [] });
});

it('asks for those payments alone that are not in the gateway’s book, wherever they belong', async () => {
  const ids = [await ended(), await ended(), await ended(), await ended(), await ended()].sort();
  for (const missing of ids) {
    const { lookups, compared, discrepancies } = await reconcileWithLookups(
      listing(...ids.filter((id) => id !== missing).map((id) => capturedOf(id))),
    );
    expect(lookups).toEqual([`${missing}:1:capture`]);
    expect({ compared, discrepancies }).toEqual({ compared: 5, discrepancies: [] });
  }
});

it('finds a payment that is missing at the border of two pages, once', async () => {
  const first = await ended();
  const strangers = await strangersBetween(499);
  const [missing, last] = [await ended(), await ended()].sort() as [string, string];
  await shop.query('DELETE FROM simulated_gateway.journal WHERE starts_with(key, $1)', [missing]);
  for (const count of [498, 499]) {
    const book = listing(capturedOf(first), ...strangers.slice(0, count), capturedOf(last));
    const { lookups, compared, discrepancies } = await reconcileWithLookups(book);
    expect(lookups).toEqual([`${missing}:1:capture`]);
    expect(discrepancies.filter(({ problem }) => problem.startsWith('Paid in our books'))).toHaveLength(1);
    expect(compared).toBe(count + 3);
  }
});

it('knows a payment whose attempts the border of two pages divides', async () => {
  const strangers = await strangersBetween(499);
  const id = await ended();
  await shop.query('UPDATE payment_attempts SET attempt = 2 WHERE order_id = $1', [id]);
  await shop.query(`INSERT INTO payment_attempts (order_id, attempt, state, amount) VALUES ($1, 1, 'voided', $2)`, [
    id,
    total,
  ]);
  const book = listing(...strangers, { ...capturedOf(id), state: 'voided' }, capturedOf(id, 2));
  const { lookups, compared, discrepancies } = await reconcileWithLookups(book);
  expect(lookups).toEqual([]);
  expect(compared).toBe(501);
  expect(discrepancies).toHaveLength(499);
});

it('goes through pages of keys that are none of ours', async () => {
  const id = await ended();
  const foreign = (name: string): GatewayAuthorization => ({ ...capturedOf(id), key: name });
  const names = Array.from({ length: 600 }, (_, index) => [`!${index}`, `~${index}`]).flat();
  names.push(`${id.toUpperCase()}:1:authorize`, `${id}:one:authorize`);
  const { lookups, compared, discrepancies } = await reconcileWithLookups(
    listing(capturedOf(id), ...names.map(foreign)),
  );
  expect(lookups).toEqual([]);
  expect(compared).toBe(1_203);
  expect(discrepancies.map(({ key }) => key).sort()).toEqual(names.sort());
});

it('asks for the rest of our payments where the gateway lists only its first page', async () => {
  const first = await ended();
  const strangers = await strangersBetween(499);
  const rest = [await ended(), await ended()].sort();
  const book = listing(capturedOf(first), ...strangers, ...rest.map((id) => capturedOf(id)));
  const listAuthorizations: PaymentGateway['listAuthorizations'] = async (request) => {
    if (request.afterKey !== null) throw new GatewayUnanswered('No answer');
    return book.listAuthorizations(request);
  };
  const { lookups, compared, discrepancies } = await reconcileWithLookups({ listAuthorizations });
  expect(lookups.sort()).toEqual(rest.map((id) => `${id}:1:capture`));
  expect(compared).toBe(502);
  expect(discrepancies.at(-1)?.problem).toContain('did not list its payments');
});

it('does not tell of what came to its end between the two books', async () => {
  const [sold, voided] = [await ended(), await ended('tok_capture_refused')];
  const beforeTheEnd = [sold, voided].map((id) => ({
    key: `${id}:1:authorize`,
    amount: total,
    currency: 'USD',
    state: 'authorized' as const,
  }));
  expect(await compareBooks({ listAuthorizations: async () => beforeTheEnd })).toEqual([]);
});

it('goes through books longer than a page', async () => {
  const strangers = Array.from({ length: 501 }, () => newId());
  for (const stranger of strangers) await shop.query(journalEntry(stranger, 1, 'authorize', { amount: total }));
  const found = await compareBooks();
  expect(found.map(({ key }) => key)).toEqual(strangers.map((id) => `${id}:1:authorize`).sort());
});

it('compares what the database calls the last hour, however wrong the clock of this process is', async () => {
  const [before] = await shop.query<{ now: Date }>('SELECT clock_timestamp() AS now');
  vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + hourMs });
  const { since, until } = await lastPeriod(shop.resources.database, hourMs).finally(() => vi.useRealTimers());
  const [after] = await shop.query<{ now: Date }>('SELECT clock_timestamp() AS now');
  expect(until.getTime()).toBeGreaterThanOrEqual(Number(before?.now) - 60_000);
  expect(until.getTime()).toBeLessThanOrEqual(Number(after?.now) - 60_000);
  expect(until.getTime() - since.getTime()).toBe(hourMs);
});
