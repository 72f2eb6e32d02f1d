import { once } from 'node:events';
import { type IncomingMessage, request } from 'node:http';
import { describe, expect, it } from 'vitest';
import { eventually } from './support/eventually.ts';
import { expectNothingLeftOver } from './support/invariants.ts';
import { charges, type Ledger, stockOf } from './support/ledger.ts';
import { untilAllEnded } from './support/order-facts.ts';
import { onServer } from './support/postgres.ts';
import { between, oneOf, randomOf, seed } from './support/seed.ts';
import { addProduct, checkoutBody } from './support/shop.ts';
import { onStage } from './support/stage.ts';
import { openTcpProxy } from './support/tcp-proxy.ts';

type Sent = Readonly<{ path: string; body: object; key?: string }>;
type Answer = Readonly<{ status: number; text: string; location: string | null; isReplay: boolean; token: string }>;

const testTimeoutMs = 240_000;
/** A lease that was lost with its process ends after 10 s. */
const allEndedMs = 120_000;
const answeredMs = 90_000;

const put = (product: string, quantity: number, key?: string): Sent => ({
  path: '/api/v1/shopping_basket/products',
  body: { product: { product_id: product, quantity } },
  ...(key && { key }),
});
const checkout = (version: string, key: string, paymentToken = 'tok_success'): Sent => ({
  path: `/api/${version}/shopping_basket/checkout`,
  body: checkoutBody({ payment_token: paymentToken }),
  key,
});

/** Sends a request for the basket that `token` opens. Rejects where the connection breaks. */
async function send(address: string, token: string | null, { path, body, key }: Sent): Promise<Answer> {
  const sent = request(address + path, {
    agent: false,
    method: 'POST',
    headers: {
      'content-type': 'application/json',
      ...(token && { authorization: `Bearer ${token}` }),
      ...(key && { 'idempotency-key': `"${key}"` }),
    },
  }).end(JSON.stringify(body));
  const [response] = (await once(sent, 'response')) as [IncomingMessage];
  const { statusCode: status = 0, headers } = response;
  const text = Buffer.concat(await response.toArray()).toString();
  return {
    status,
    text,
    location: headers.location ?? null,
    isReplay: headers['idempotent-replayed'] === 'true',
    token: String(headers['shopping-basket-id'] ?? token),
  };
}

/** Sends the same again, wherever the shop is open at that time, until the answer is one. */
function sendUntilAnswered(address: () => string, token: string | null, sent: Sent): Promise<Answer> {
  return eventually(async () => {
    const answer = await send(address(), token, sent).catch(() => null);
    if (answer === null || answer.status >= 500 || answer.status === 409) return null;
    if (![201, 202, 402].includes(answer.status)) throw new Error(`${sent.path}: ${answer.status} ${answer.text}`);
    return answer;
  }, answeredMs);
}

async function countOrders(ledger: Ledger, token: string): Promise<number> {
  const rows = await ledger.query('SELECT FROM orders JOIN baskets b ON b.id = basket_id WHERE b.token = $1', [token]);
  return rows.length;
}

describe(`requests that are sent again with their Idempotency-Key (FAULT_SEED=${seed})`, () => {
  it(
    'while one process after the other is killed are each carried out once',
    () =>
      onStage(async ({ url, ledger, start }) => {
        const random = randomOf('killed');
        const [units, shoppers] = [10_000, 60];
        const product = await addProduct(ledger, { stock: units, priceCents: 10 });
        let shop = await start();
        let answers = 0;
        const buy = async (index: number): Promise<number> => {
          const address = (): string => shop.address;
          const quantity = between(random, 2, 9);
          const paymentToken = oneOf(random, ['tok_success', 'tok_success', 'tok_fail']);
          const order = checkout(oneOf(random, ['v1', 'v2']), `checkout-${index}`, paymentToken);
          const { token } = await sendUntilAnswered(address, null, put(product, 1));
          await sendUntilAnswered(address, token, put(product, quantity, `put-${index}`));
          answers++;
          const first = await sendUntilAnswered(address, token, order);
          answers++;
          const again = await sendUntilAnswered(address, token, order);
          expect(again).toEqual({ ...first, isReplay: true });
          expect(await countOrders(ledger, token)).toBe(1);
          return paymentToken === 'tok_fail' ? 0 : quantity;
        };
        const bought = Promise.all(Array.from({ length: shoppers }, (_, index) => buy(index)));
        for (const until of [between(random, 1, 40), between(random, 50, 100)]) {
          await Promise.race([eventually(() => answers >= until), bought]);
          const killed = shop.end('SIGKILL');
          shop = await start();
          await killed;
        }
        const quantities = (await bought).filter((quantity) => quantity > 0);
        await untilAllEnded(ledger, allEndedMs);
        const sold = quantities.reduce((sum, quantity) => sum + quantity, 0);
        expect((await charges(ledger, product)).sort()).toEqual(quantities.map((quantity) => quantity * 10).sort());
        expect(await stockOf(ledger, product)).toBe(units - sold);
        await expectNothingLeftOver(url);
      }),
    testTimeoutMs,
  );

  it(
    'to two processes at once are carried out once, and answered alike',
    () =>
      onStage(async ({ url, ledger, start }) => {
        const product = await addProduct(ledger, { stock: 1_000, priceCents: 10 });
        const shops = await Promise.all([start(), start({ ROLE: 'web' })]);
        for (const version of ['v1', 'v2', 'v1', 'v2']) {
          const { token } = await send(shops[0].address, null, put(product, 2));
          const same = checkout(version, 'key');
          const both = await Promise.all(shops.map((shop) => send(shop.address, token, same)));
          expect(new Set(both.map(({ status, text, location }) => `${status} ${text} ${location}`)).size).toBe(1);
          expect(both.map((answer) => answer.isReplay).sort()).toEqual([false, true]);
          expect(await countOrders(ledger, token)).toBe(1);
          await untilAllEnded(ledger, allEndedMs);
        }
        expect(await charges(ledger, product)).toEqual([20, 20, 20, 20]);
        await expectNothingLeftOver(url);
      }),
    testTimeoutMs,
  );

  const losses = { 'arrived, and its answer was lost': true, 'was lost itself': false };
  it.each(Object.entries(losses))(
    'after a COMMIT that %s are known for what they are',
    (_, arrives) =>
      onStage(async ({ url, ledger, start }) => {
        const product = await addProduct(ledger, { stock: 10, priceCents: 10 });
        const proxy = await openTcpProxy(url);
        try {
          const shop = await start({ DATABASE_URL: proxy.url });
          const { token } = await send(shop.address, null, put(product, 1));
          await onServer(url, (client) => client.query(slowCommits));
          for (const sent of [put(product, 3, 'put'), checkout('v2', 'checkout')]) {
            const going = send(shop.address, token, sent);
            await untilCommitting(ledger);
            if (arrives) proxy.cut();
            else await ledger.query(endCommitting);
            const first = await going;
            expect([first.status, first.isReplay]).toEqual([sent.path.endsWith('checkout') ? 202 : 201, false]);
            expect(await send(shop.address, token, sent)).toEqual({ ...first, isReplay: true });
          }
          expect(await countOrders(ledger, token)).toBe(1);
          await untilAllEnded(ledger, allEndedMs);
          expect([await charges(ledger, product), await stockOf(ledger, product)]).toEqual([[30], 7]);
          await expectNothingLeftOver(url);
        } finally {
          await proxy.close();
        }
      }),
    testTimeoutMs,
  );
});

/** From then on a COMMIT that keeps a key takes its time. */
const slowCommits = `
  CREATE FUNCTION take_time() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.7); RETURN NULL; END $$;
  CREATE CONSTRAINT TRIGGER take_time AFTER INSERT ON idempotency_keys DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION take_time()`;

const committing = `FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'`;
const endCommitting = `SELECT pg_terminate_backend(pid) ${committing}`;

async function untilCommitting(ledger: Ledger): Promise<void> {
  await eventually(async () => (await ledger.query(`SELECT ${committing}`)).length > 0);
}
