import { once } from 'node:events';
import { Agent } from 'node:http';
import { connect } from 'node:net';
import { describe, expect, it } from 'vitest';
import { WebSocket } from 'ws';
import { eventually } from './support/eventually.ts';
import { expectNothingLeftOver } from './support/invariants.ts';
import { charges, type Ledger, stockOf } from './support/ledger.ts';
import { eventsOf, everything, journalOf, stateOf } from './support/order-facts.ts';
import { onServer } from './support/postgres.ts';
import { orderIn, RemoteShopper, type ShopProcess } from './support/process.ts';
import { addProduct } from './support/shop.ts';
import { onStage, type Stage } from './support/stage.ts';

/** The promise is 15 s: a lease is lost 10 s after it was last renewed. The rest is for a busy machine. */
const takeOverMs = 30_000;
/** The same, and would those be waited for who never finish, it would be for ever. */
const stoppedMs = 30_000;
const testTimeoutMs = 240_000;

describe.concurrent('a process that is killed', () => {
  type Kill = Readonly<{
    between: string;
    paymentToken: string;
    journal: readonly string[];
    end: 'completed' | 'failed';
  }>;
  const kills: Kill[] = [
    { between: 'acceptance and payment', paymentToken: 'tok_success', journal: [], end: 'completed' },
    { between: 'acceptance and a decline', paymentToken: 'tok_fail', journal: [], end: 'failed' },
    { between: 'authorization and capture', paymentToken: 'tok_success', journal: ['authorize'], end: 'completed' },
    {
      between: 'capture and settlement',
      paymentToken: 'tok_success',
      journal: ['authorize', 'capture'],
      end: 'completed',
    },
    { between: 'a decline and settlement', paymentToken: 'tok_fail', journal: ['authorize'], end: 'failed' },
  ];

  it.each(kills)(
    'between $between ($paymentToken) leaves an order that ends once after a restart',
    (kill) =>
      onStage(async (stage) => {
        const product = await addProduct(stage.ledger, { stock: 5, priceCents: 300 });
        // What is done between two steps of a payment has 3 s.
        const first = await stage.start({ SIMULATED_GATEWAY_LATENCY_MS: '3000' });
        const shopper = new RemoteShopper(first.address);
        await shopper.put(product, 2);
        const orderId = await acceptAndKill(stage, first, shopper, kill);

        const second = await stage.start();
        const again = new RemoteShopper(second.address, { token: shopper.token });
        const status = await endOf(again, orderId);
        const isPaid = kill.end === 'completed';
        expect(status).toMatchObject({ status: kill.end, error: isPaid ? null : { message: 'Insufficient funds' } });
        expect(await charges(stage.ledger, product)).toEqual(isPaid ? [600] : []);
        expect(await eventsOf(stage.ledger, orderId)).toEqual([kill.end]);
        expect(await stockOf(stage.ledger, product)).toBe(isPaid ? 3 : 5);
        expect(await again.lines()).toEqual(isPaid ? {} : { [product]: 2 });
        expect(await second.end('SIGTERM')).toBe(0);
        await expectNothingLeftOver(stage.url);
      }),
    testTimeoutMs,
  );

  /** Lets an order come as far as `kill.journal` says and no further, kills the process there, and returns its id. */
  async function acceptAndKill(stage: Stage, shop: ShopProcess, shopper: RemoteShopper, kill: Kill): Promise<string> {
    const { ledger } = stage;
    return onServer(stage.url, async (holder) => {
      await holder.query('BEGIN');
      if (kill.journal.length === 0) await holder.query(closeJournal);
      const answer = await shopper.checkout('v2', { payment_token: kill.paymentToken });
      expect(answer.status).toBe(202);
      const orderId = orderIn(answer);
      const isCaptured = kill.journal.includes('capture') || kill.end === 'failed';
      if (kill.journal.length > 0 && isCaptured) await holder.query(holdBasket, [shopper.token]);
      await eventually(async () => (await journalOf(ledger, orderId)).length === kill.journal.length);
      if (!isCaptured) await holder.query(closeJournal);
      await shop.end('SIGKILL');
      // What the process had sent before its end is still at work.
      await untilDisconnected(ledger);
      expect(await journalOf(ledger, orderId)).toEqual(kill.journal);
      expect(await stateOf(ledger, orderId)).toBe('pending');
      expect(await eventsOf(ledger, orderId)).toEqual([]);
      await holder.query('ROLLBACK');
      return orderId;
    });
  }
});

describe.concurrent('a web process and workers', () => {
  it(
    'answer and notify together',
    () =>
      onStage(async (stage) => {
        const product = await addProduct(stage.ledger, { stock: 5 });
        const [web] = await Promise.all([stage.start({ ROLE: 'web' }), stage.start({ ROLE: 'worker' })]);
        const shopper = new RemoteShopper(web.address);
        await shopper.put(product, 1);
        expect(await shopper.checkout('v1', { payment_token: 'tok_fail' })).toMatchObject({
          status: 402,
          body: { error: { code: 402, messages: ['Insufficient funds'] } },
        });
        expect((await shopper.checkout('v1')).status).toBe(201);

        await shopper.put(product, 2);
        const messages = await subscribe(web.address, String(shopper.token));
        const orderId = orderIn(await shopper.checkout('v2'));
        const message = await eventually(() => messages().find((each) => each.order_id === orderId));
        expect(message).toMatchObject({ status: 'completed', order: { id: orderId, total_price: { cents: 2_000 } } });
        expect(await stockOf(stage.ledger, product)).toBe(2);
        expect((await charges(stage.ledger, product)).sort()).toEqual([1_000, 2_000]);
        await expectNothingLeftOver(stage.url);
      }),
    testTimeoutMs,
  );

  it(
    'outlive a worker: another takes over what it had in hand',
    () =>
      onStage(async (stage) => {
        const product = await addProduct(stage.ledger, { stock: 5 });
        const web = await stage.start({ ROLE: 'web' });
        const first = await stage.start({ ROLE: 'worker', SIMULATED_GATEWAY_LATENCY_MS: '60000' });
        const second = await stage.start({ ROLE: 'worker' });
        // It is to inherit, not to share; and a shopper does not wait for a process to start.
        second.signal('SIGSTOP');
        const shopper = new RemoteShopper(web.address);
        await shopper.put(product, 1);
        const checkout = shopper.checkout('v1');
        await eventually(() => isOwnedBy(stage.ledger, first));
        await first.end('SIGKILL');
        const killedAtMs = performance.now();
        second.signal('SIGCONT');
        expect(await checkout).toMatchObject({ status: 201, body: { total_price: { cents: 1_000 } } });
        expect(performance.now() - killedAtMs).toBeLessThan(takeOverMs);
        expect(await charges(stage.ledger, product)).toEqual([1_000]);
        await expectNothingLeftOver(stage.url);
      }),
    testTimeoutMs,
  );

  it(
    'are not harmed by a worker that comes back after its lease',
    () =>
      onStage(async (stage) => {
        const { ledger } = stage;
        const product = await addProduct(ledger, { stock: 5 });
        const web = await stage.start({ ROLE: 'web' });
        const zombie = await stage.start({ ROLE: 'worker', SIMULATED_GATEWAY_LATENCY_MS: '7000' });
        const [early, late] = [new RemoteShopper(web.address), new RemoteShopper(web.address)];
        for (const shopper of [early, late]) await shopper.put(product, 1);

        // Stopped with one order charged and not settled yet, and the request for another's money on its way.
        const charged = orderIn(await early.checkout('v2'));
        await eventually(async () => (await journalOf(ledger, charged)).includes('capture'));
        const asked = orderIn(await late.checkout('v2'));
        await eventually(() => isOwnedBy(ledger, zombie, asked));
        for (const _ of ['the order is read', 'the gateway is called']) await untilNextLook(ledger);
        zombie.signal('SIGSTOP');
        expect(await Promise.all([charged, asked].map((id) => stateOf(ledger, id)))).toEqual(['pending', 'pending']);
        expect(await journalOf(ledger, asked)).toEqual([]);

        // Its lease runs out before its calls have waited for too long. What the heir does is seen 12 s later.
        await ledger.query('UPDATE workers SET leased_until = clock_timestamp() WHERE pid = $1', [zombie.pid]);
        const heir = await stage.start({ ROLE: 'worker', SIMULATED_GATEWAY_LATENCY_MS: '6000' });
        for (const id of [charged, asked]) await eventually(() => isOwnedBy(ledger, heir, id));
        const before = await everything(ledger);
        zombie.signal('SIGCONT');
        // It would settle the first order at once, and is half a payment later about to charge the second.
        await eventually(() => /The lease was lost before a call|The gateway did not answer/.test(zombie.errors()));
        expect(await zombie.end('SIGTERM')).toBe(0);
        expect(await everything(ledger)).toEqual(before);
        expect(await journalOf(ledger, asked)).not.toContain('capture');

        for (const [shopper, id] of [
          [early, charged],
          [late, asked],
        ] as const)
          expect(await endOf(shopper, id)).toMatchObject({ status: 'completed' });
        expect(await charges(ledger, product)).toEqual([1_000, 1_000]);
        expect(await stockOf(ledger, product)).toBe(3);
        await expectNothingLeftOver(stage.url);
      }),
    testTimeoutMs,
  );
});

describe('a process that is told to stop under load', () => {
  it.each(['closed', 'kept alive'])(
    'answers what is in flight, loses no accepted order, and ends with status 0 (connections %s)',
    (connections) =>
      onStage(async (stage) => {
        const agent = connections === 'closed' ? undefined : new Agent({ keepAlive: true });
        const { ledger } = stage;
        const product = await addProduct(ledger, { stock: 10_000 });
        const shop = await stage.start({ SIMULATED_GATEWAY_LATENCY_MS: '1500' });
        const waiting = await Promise.all(Array.from({ length: 30 }, () => shopperWith(shop, product, agent)));
        const load = Array.from({ length: 8 }, () => buyUntilClosed(shop, product, agent));
        const inFlight = waiting.map((shopper, index) =>
          shopper.checkout('v1', index % 3 === 0 ? { payment_token: 'tok_fail' } : {}),
        );
        await eventually(() => areAccepted(ledger, waiting));
        const exit = shop.end('SIGTERM');
        expect(await ledger.query('SELECT FROM baskets WHERE live_order_id IS NOT NULL LIMIT 1')).toHaveLength(1);
        const answers = await Promise.all(inFlight);
        expect(answers.map((answer) => answer.status)).toEqual(
          waiting.map((_, index) => (index % 3 === 0 ? 402 : 201)),
        );
        const accepted = (await Promise.all(load)).flat();
        expect(await exit).toBe(0);
        expect(accepted.length).toBeGreaterThan(0);
        expect(await Promise.all(accepted.map((id) => stateOf(ledger, id)))).toEqual(accepted.map(() => 'completed'));
        expect(await ledger.query('SELECT FROM workers')).toEqual([]);
        await expectNothingLeftOver(stage.url);
      }),
    testTimeoutMs,
  );

  it(
    'answers who waits for a slow payment, and leaves what the gateway does not answer for to the next',
    () =>
      onStage(async (stage) => {
        const { ledger } = stage;
        const product = await addProduct(ledger);
        const shop = await stage.start();
        const hanging = [await shopperWith(shop, product, undefined), await shopperWith(shop, product, undefined)];
        for (const shopper of hanging) await shopper.checkout('v2', { payment_token: 'tok_unreachable' });
        const waiting = await shopperWith(shop, product, undefined);
        const answer = waiting.checkout('v1', { payment_token: 'tok_slow' });
        await eventually(() => areAccepted(ledger, [waiting]));
        expect(await shop.end('SIGTERM')).toBe(0);
        expect((await answer).status).toBe(201);
        expect(await ledger.query('SELECT FROM workers')).toEqual([]);
        expect(await ledger.query('SELECT FROM order_states WHERE ended_at IS NULL')).toHaveLength(2);
        expect(shop.errors()).toBe('');
      }),
    testTimeoutMs,
  );

  it(
    'serves on for as long as a balancer needs, and tells it on new connections to send no more',
    () =>
      onStage(async ({ start }) => {
        const shop = await start({ DRAIN_DELAY_S: '5' });
        const statusOf = async (path: string) =>
          (await fetch(shop.address + path, { headers: { connection: 'close' } })).status;
        expect(await statusOf('/ready')).toBe(200);
        const exit = shop.end('SIGTERM');
        await eventually(async () => (await statusOf('/ready')) === 503);
        expect(await Promise.all([statusOf('/up'), statusOf('/api/v2/products')])).toEqual([200, 200]);
        expect(await exit).toBe(0);
      }),
    testTimeoutMs,
  );

  it(
    'does not wait for clients that never finish what they began to send',
    () =>
      onStage(async (stage) => {
        const shop = await stage.start({});
        const { hostname, port } = new URL(shop.address);
        const head = 'POST /api/v2/shopping_basket/products HTTP/1.1\r\nHost: shop\r\n';
        const body = `${head}Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{`;
        const clients = [head, body, ''].map((sent) => {
          const client = connect(Number(port), hostname);
          client.write(sent);
          return client;
        });
        await Promise.all(clients.map((client) => once(client, 'connect')));
        const closed = clients.map(
          (client) => new Promise((resolve) => client.on('error', () => undefined).on('close', resolve)),
        );
        const startMs = performance.now();
        expect(await shop.end('SIGTERM')).toBe(0);
        expect(performance.now() - startMs).toBeLessThan(stoppedMs);
        await Promise.all(closed);
      }),
    testTimeoutMs,
  );

  async function shopperWith(shop: ShopProcess, product: string, agent: Agent | undefined): Promise<RemoteShopper> {
    const shopper = new RemoteShopper(shop.address, agent && { agent });
    expect((await shopper.put(product, 1)).status).toBe(201);
    return shopper;
  }

  /** Buys until the shop is closed, and returns the orders that it was told are accepted. */
  async function buyUntilClosed(shop: ShopProcess, product: string, agent: Agent | undefined): Promise<string[]> {
    const accepted: string[] = [];
    for (;;) {
      const shopper = new RemoteShopper(shop.address, agent && { agent });
      const answer = await shopper
        .put(product, 1)
        .then(() => shopper.checkout('v2'))
        .catch(() => null);
      if (answer?.status !== 202) return accepted;
      accepted.push(orderIn(answer));
    }
  }
});

const closeJournal = 'LOCK TABLE simulated_gateway.journal IN SHARE MODE';
const holdBasket = 'SELECT FROM baskets WHERE token = $1 FOR NO KEY UPDATE';

/** The order as its shopper sees it once it is over. */
function endOf(shopper: RemoteShopper, orderId: string): Promise<Record<string, unknown>> {
  return eventually(async () => {
    const { body } = await shopper.order(orderId);
    return body.status === 'completed' || body.status === 'failed' ? body : null;
  });
}

async function isOwnedBy(ledger: Ledger, worker: ShopProcess, orderId: string | null = null): Promise<boolean> {
  const rows = await ledger.query(
    `SELECT FROM order_states JOIN workers ON workers.id = worker_id
      WHERE pid = $1 AND ($2::uuid IS NULL OR order_id = $2::uuid)`,
    [worker.pid, orderId],
  );
  return rows.length > 0;
}

/** Until a worker has looked for free orders once more, as it does every 100 ms. */
async function untilNextLook(ledger: Ledger): Promise<void> {
  const lastLook = async (): Promise<number> => {
    const [row] = await ledger.query<{ at: Date | null }>(
      `SELECT max(query_start) AS at FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid() AND query LIKE '%SKIP LOCKED%'`,
    );
    return row?.at?.getTime() ?? 0;
  };
  const before = await lastLook();
  await eventually(async () => (await lastLook()) > before);
}

async function areAccepted(ledger: Ledger, shoppers: readonly RemoteShopper[]): Promise<boolean> {
  const rows = await ledger.query(
    'SELECT FROM baskets WHERE token = ANY ($1::uuid[]) AND latest_order_id IS NOT NULL',
    [shoppers.map((shopper) => shopper.token)],
  );
  return rows.length === shoppers.length;
}

async function untilDisconnected(ledger: Ledger): Promise<void> {
  await eventually(async () => {
    const sessions = await ledger.query(
      `SELECT FROM pg_stat_activity WHERE datname = current_database()
        AND application_name LIKE 'scalecommerce %' AND application_name NOT LIKE 'scalecommerce test%'`,
    );
    return sessions.length === 0;
  });
}

/** Subscribes to a basket as a browser does. The returned function tells what has come so far. */
async function subscribe(address: string, token: string): Promise<() => Array<Record<string, unknown>>> {
  const socket = new WebSocket(`${address.replace('http', 'ws')}/cable`, ['actioncable-v1-json']);
  const messages: Array<Record<string, unknown>> = [];
  let isConfirmed = false;
  socket.on('error', () => undefined);
  socket.on('message', (data) => {
    const frame = JSON.parse(String(data));
    if (frame.type === 'confirm_subscription') isConfirmed = true;
    else if (frame.identifier) messages.push(frame.message);
  });
  await once(socket, 'open');
  const identifier = JSON.stringify({ channel: 'CheckoutNotificationsChannel', shopping_basket_id: token });
  socket.send(JSON.stringify({ command: 'subscribe', identifier }));
  await eventually(() => isConfirmed);
  return () => messages;
}
