import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { eventually } from './support/eventually.ts';
import { expectSoon } from './support/expect-soon.ts';
import { type ClientKind, clientKinds, type Listening, openClient } from './support/outcome-clients.ts';
import { choosePort } from './support/port.ts';
import { RemoteShopper } from './support/process.ts';
import { addProduct } from './support/shop.ts';
import { onStage, type Stage } from './support/stage.ts';
import { openTcpProxy } from './support/tcp-proxy.ts';

/** Of the server: every 3 s. */
const pingMs = 3_000;
/** A lease is lost after 10 s; the rest is for a busy machine. */
const toldMs = 60_000;
const testTimeoutMs = 240_000;
/** Long enough to stop a process meanwhile. */
const slowGateway = { SIMULATED_GATEWAY_LATENCY_MS: '3000' };

const ends: Array<() => unknown> = [];

beforeAll(() => {
  // What the client of Rails expects of a browser's window.
  vi.stubGlobal('addEventListener', () => undefined);
  vi.stubGlobal('removeEventListener', () => undefined);
});

afterEach(() => {
  for (const end of ends.splice(0).reverse()) end();
});

afterAll(() => {
  vi.unstubAllGlobals();
});

type Listenings = ReadonlyArray<readonly [ClientKind, Listening]>;

/** Listens with each client, each over a socket of its own, and returns once all are subscribed. */
async function listenWithAll(address: string, token: string | null): Promise<Listenings> {
  const listenings = clientKinds.map((kind) => {
    const client = openClient(kind, `${address.replace(/^http/, 'ws')}/cable`, { pingMs });
    ends.push(client.close);
    return [kind, client.listen(token ?? '')] as const;
  });
  await expectSoon(() => listenings.every(([, { states }]) => states.includes('connected'))).toBe(true);
  return listenings;
}

/** A shopper with a lamp in the basket. */
async function fillBasket(stage: Stage, address: string): Promise<RemoteShopper> {
  const shopper = new RemoteShopper(address);
  await shopper.put(await addProduct(stage.ledger, { stock: 5 }), 1);
  return shopper;
}

async function onlyEvent({ ledger }: Stage): Promise<string> {
  const [event, ...more] = await eventually(async () => {
    const events = await ledger.query<{ id: string }>('SELECT id FROM events');
    return events.length > 0 && events;
  }, toldMs);
  expect(more).toEqual([]);
  return event?.id ?? '';
}

/** Who remembers no offset may be told again, by subscribing again. */
async function expectAllTold(listenings: Listenings, eventId: string): Promise<void> {
  await eventually(() => listenings.every(([, { told }]) => told.length > 0), toldMs);
  for (const [kind, { told }] of listenings) {
    if (kind === '@anycable/core, extended') expect(told).toEqual([eventId]);
    else expect(new Set(told)).toEqual(new Set([eventId]));
  }
}

describe('every client learns the outcome', () => {
  test.each(['SIGTERM', 'SIGKILL'] as const)(
    'of an order that was being paid when the server got %s and was started again',
    (signal) =>
      onStage(async (stage) => {
        const PORT = String(await choosePort());
        const first = await stage.start({ PORT, ...slowGateway });
        const shopper = await fillBasket(stage, first.address);
        const listenings = await listenWithAll(first.address, shopper.token);
        expect(await shopper.checkout('v2')).toMatchObject({ status: 202 });
        await first.end(signal);
        await stage.start({ PORT });
        await expectAllTold(listenings, await onlyEvent(stage));
      }),
    testTimeoutMs,
  );

  test(
    'from another process than the one that it was cut off from',
    () =>
      onStage(async (stage) => {
        const [one, other] = [await stage.start({ ROLE: 'web' }), await stage.start({ ROLE: 'web' })];
        const proxy = await openTcpProxy(one.address);
        ends.push(() => proxy.close());
        const shopper = await fillBasket(stage, one.address);
        const listenings = await listenWithAll(proxy.url.replace(/\/$/, ''), shopper.token);
        expect(await shopper.checkout('v2')).toMatchObject({ status: 202 });
        proxy.redirect(other.address);
        proxy.cut();
        await one.end('SIGKILL');
        await stage.start({ ROLE: 'worker' });
        await expectAllTold(listenings, await onlyEvent(stage));
      }),
    testTimeoutMs,
  );
});
