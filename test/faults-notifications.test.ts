import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { packEvents } from '../src/modules/notifications/fan-out-payload.ts';
import type { OutcomeEvent } from '../src/modules/notifications/notifications.service.ts';
import { newId } from '../src/shared/ids.ts';
import { type Balancer, openBalancer } from './support/balancer.ts';
import { type CableClient, connect, identifierOf } from './support/cable-client.ts';
import { runCommand } from './support/command.ts';
import { type EventListener, listenTo } from './support/event-listener.ts';
import { eventually } from './support/eventually.ts';
import { expectSoon } from './support/expect-soon.ts';
import { type FaultStage, faultTimeoutMs, onFaultStage } from './support/fault-stage.ts';
import { expectNothingLeftOver } from './support/invariants.ts';
import { allEnded } from './support/ledger.ts';
import { Listener, type Told } from './support/listener.ts';
import { forgers, openMeddler } from './support/meddler.ts';
import { type Answer, orderIn, RemoteShopper, type ShopProcess } from './support/process.ts';
import { between, oneOf, type Random, randomOf } from './support/seed.ts';
import { addProduct } from './support/shop.ts';
import { onStage, type Stage } from './support/stage.ts';

/** Baskets per socket: half of what a socket may subscribe to. */
const basketsPerListener = 50;
const allEndedMs = 120_000;
const allToldMs = 60_000;

/** For so long a node that is to stop says so, and serves on. */
const untilBalancersKnow = { DRAIN_DELAY_S: '3' };

type Crowd = Readonly<{
  told: Told[];
  listeners: Listener[];
  /** How requests were answered, by status; 0 where the connection broke. */
  statuses: Map<number, number>;
}>;

test(
  'every outcome of 10,000 orders is told, in order, while processes are killed',
  () =>
    onFaultStage(async (stage) => {
      const random = randomOf('killed while telling');
      const product = await addProduct(stage.ledger, { stock: 100_000 });
      const nodes: ShopProcess[] = [await stage.start('all'), await stage.start('all')];
      const crowd: Crowd = { told: [], listeners: [], statuses: new Map() };
      const addresses = (): string[] => nodes.map((node) => node.address);
      const shopping = shop(crowd, { addresses, random, product, orders: 10_000, shoppers: 64 });
      const kills = killAtRandom(stage, nodes, random, shopping);
      await shopping;
      expect(await kills).toBeGreaterThan(1);
      await allEnded(stage.ledger, allEndedMs);
      await expectAllTold(stage, () => crowd.told);
      await expectNothingLeftOver(stage.url);
      for (const listener of crowd.listeners) listener.close();
    }),
  faultTimeoutMs,
);

test(
  'a rolling restart behind a balancer fails no request, and tells sockets to come back',
  () =>
    onStage(async (stage) => {
      const balancer = await openBalancer();
      const random = randomOf('rolling restart');
      const product = await addProduct(stage.ledger, { stock: 100_000 });
      const nodes: ShopProcess[] = [await stage.start(untilBalancersKnow), await stage.start(untilBalancersKnow)];
      balancer.setNodes(nodes.map((node) => node.address));
      const crowd: Crowd = { told: [], listeners: [], statuses: new Map() };
      let isOpen = true;
      const wish = { addresses: () => [balancer.address], random, product, shoppers: 16, isOpen: () => isOpen };
      const shopping = shop(crowd, { ...wish, orders: Number.POSITIVE_INFINITY });
      await eventually(() => crowd.told.length > 200);
      await restartInTurn(stage, nodes, balancer);
      const before = crowd.told.length;
      await eventually(() => crowd.told.length > before + 200);
      isOpen = false;
      await shopping;
      await allEnded(stage.ledger, allEndedMs);
      await expectAllTold(stage, () => crowd.told);
      expect([...crowd.statuses.keys()].filter((status) => status < 200 || status >= 300)).toEqual([]);
      const farewells = crowd.listeners.flatMap((listener) => listener.farewells);
      expect(farewells.length).toBeGreaterThan(0);
      expect(farewells.filter(({ reason, reconnect }) => reason !== 'server_restart' || !reconnect)).toEqual([]);
      await expectNothingLeftOver(stage.url);
      for (const listener of crowd.listeners) listener.close();
      await balancer.close();
    }),
  faultTimeoutMs,
);

/** Tells no other process of anything. */
const silent = { EVENT_FAN_OUT: 'in_process' };

test(
  'outcomes are told in order and nothing else is, while notifications are late, repeated, reordered, lost and forged',
  () =>
    onStage(async (stage) => {
      const random = randomOf('meddled with');
      const product = await addProduct(stage.ledger, { stock: 1_000 });
      const seller = await stage.start(silent);
      const { address } = await stage.start({ ROLE: 'web' });
      const meddler = openMeddler(stage, random, forgers);
      const told: Told[] = [];
      const listener = new Listener({ addresses: () => [address], random, told });
      const listen = async (token: string): Promise<CableClient> => {
        await listener.listenTo(token);
        return subscribe(address, token);
      };
      const plan = { seller: seller.address, address, product, url: stage.url, listen };
      const buyers = await Promise.all(Array.from({ length: 6 }, () => buyTwice(plan)));
      await expectAllTold(stage, () => told);
      await expectAllTold(stage, () => buyers.flatMap(({ token, plain }) => toldToPlain(token, plain)));
      await expectAllTold(stage, () => buyers.flatMap(({ token, streams }) => toldToStreams(token, streams)));
      expect(meddler.counts.told).toBeGreaterThan(50);
      expect(meddler.counts.forged).toBeGreaterThan(20);
      await meddler.close();
      await expectNothingLeftOver(stage.url);
      listener.close();
      for (const { plain } of buyers) plain.socket.terminate();
    }),
  faultTimeoutMs,
);

test(
  'who was away for ten minutes is told by any process all that was missed, in order',
  () =>
    onStage(async (stage) => {
      const product = await addProduct(stage.ledger);
      const seller = await stage.start();
      const { address } = await stage.start({ ROLE: 'web' });
      const shopper = new RemoteShopper(seller.address);
      await shopper.put(product, 1);
      const token = shopper.token ?? '';
      const left = await subscribe(address, token, { since: now() });
      const declined = await ended(shopper, await shopper.checkout('v2', { payment_token: 'tok_fail' }));
      const told = await eventually(() => framesOf(left).find(({ message }) => message));
      left.socket.terminate();
      const sold = await ended(shopper, await shopper.checkout('v2'));
      await cancel(stage.url, sold);
      await stage.ledger.query(`UPDATE events SET created_at = created_at - interval '10 minutes'`);

      const position = { [told.stream_id ?? '']: { offset: told.offset, epoch: told.epoch } };
      const byPosition = await subscribe(seller.address, token, { streams: position, since: now() });
      const byTime = await subscribe(seller.address, token, { since: now() - 660 });
      await expectSoon(() => [byPosition, byTime].map(heardBy)).toEqual([
        ['2 completed', '3 refunded', 'confirm_history'],
        ['1 failed', '2 completed', '3 refunded', 'confirm_history'],
      ]);
      const streams = await Promise.all([
        listenTo(address + eventsUrlIn(declined)),
        listenTo(address + eventsUrlIn(sold), { 'last-event-id': '1' }),
        listenTo(address + eventsUrlIn(sold), { 'last-event-id': '2' }),
      ]);
      await expectSoon(() => streams.map((stream) => stream.end())).toEqual(['whole', 'whole', 'whole']);
      expect(streams.map((stream) => stream.events().map(({ id, event }) => `${id} ${event}`))).toEqual([
        ['1 failed'],
        ['2 completed', '3 refunded'],
        ['3 refunded'],
      ]);
      expect((await listenTo(address + eventsUrlIn(sold), { 'last-event-id': '3' })).status).toBe(204);
      for (const { socket } of [byPosition, byTime]) socket.terminate();
    }),
  faultTimeoutMs,
);

test.each(['completed', 'failed', 'refunded'] as const)(
  'a forged notification that the order is %s, or of an order of another basket, is told to nobody',
  (kind) =>
    onStage(async (stage) => {
      const { address } = await stage.start({ ROLE: 'web' });
      const product = await addProduct(stage.ledger);
      const [victim, other] = [await checkedOut(stage, address, product), await checkedOut(stage, address, product)];
      const about = { offset: 1, kind, basketId: victim.basketId };
      for (const orderId of [other.orderId, victim.orderId]) await forge(stage, { ...about, id: newId(), orderId });
      await stage.start({ ROLE: 'worker' });
      await allEnded(stage.ledger, allEndedMs);
      await expectSoon(() => [victim, other].map(({ client }) => heardBy(client))).toEqual([
        ['1 completed'],
        ['1 completed'],
      ]);
      await expectSoon(() => victim.stream.events().length).toBe(1);
      const { token, client, stream } = victim;
      await expectOnlyTrue(stage, [...toldToPlain(token, client), ...toldToStreams(token, [stream])]);
      for (const { client } of [victim, other]) client.socket.terminate();
    }),
  faultTimeoutMs,
);

/** A basket whose order nobody pays yet, and who listens to it. */
async function checkedOut({ ledger }: Stage, address: string, product: string) {
  const shopper = new RemoteShopper(address);
  await shopper.put(product, 1);
  const token = shopper.token ?? '';
  const client = await subscribe(address, token, { since: now() });
  const accepted = await shopper.checkout('v2');
  const stream = await listenTo(address + eventsUrlIn(accepted));
  const [basket] = await ledger.query<{ id: string }>('SELECT id FROM baskets WHERE token = $1', [token]);
  await eventually(() => framesOf(client).some(({ type }) => type === 'confirm_history'));
  client.frames.splice(1);
  return { token, client, stream, orderId: orderIn(accepted), basketId: basket?.id ?? '' };
}

async function forge({ ledger }: Stage, event: OutcomeEvent): Promise<void> {
  for (const payload of packEvents(newId(), [event], 1_000))
    await ledger.query(`SELECT pg_notify('scalecommerce_events', $1)`, [payload]);
}

type Buyer = Readonly<{ token: string; plain: CableClient; streams: readonly EventListener[] }>;

/** A basket that is declined, bought and given back, with somebody who listens to each step in every way. */
async function buyTwice(
  plan: Readonly<{
    seller: string;
    address: string;
    product: string;
    url: string;
    listen: (token: string) => Promise<CableClient>;
  }>,
): Promise<Buyer> {
  const shopper = new RemoteShopper(plan.seller);
  await shopper.put(plan.product, 1);
  const token = shopper.token ?? '';
  const plain = await plan.listen(token);
  const declined = await shopper.checkout('v2', { payment_token: 'tok_fail' });
  const ofDeclined = await listenTo(plan.address + eventsUrlIn(declined));
  await ended(shopper, declined);
  const sold = await shopper.checkout('v2');
  const ofSold = await listenTo(plan.address + eventsUrlIn(sold));
  await cancel(plan.url, await ended(shopper, sold));
  return { token, plain, streams: [ofDeclined, ofSold] };
}

/** The same answer, once the order is over that it tells of. */
async function ended(shopper: RemoteShopper, accepted: Answer): Promise<Answer> {
  const isOver = async (): Promise<boolean> => {
    const { body } = await shopper.order(orderIn(accepted));
    return body.status === 'completed' || body.status === 'failed';
  };
  await eventually(isOver, allEndedMs);
  return accepted;
}

async function cancel(url: string, accepted: Answer): Promise<void> {
  const command = await runCommand(['order', 'cancel', orderIn(accepted)], { DATABASE_URL: url });
  expect(command).toMatchObject({ status: 0, stderr: '' });
}

const eventsUrlIn = ({ body }: Answer): string => String(body.events_url);
const now = (): number => Math.floor(Date.now() / 1_000);

/** By hand; in the extended protocol if it is to be asked for history. */
async function subscribe(address: string, token: string, history?: Record<string, unknown>): Promise<CableClient> {
  const protocols = [history ? 'actioncable-v1-ext-json' : 'actioncable-v1-json'];
  const client = await connect(Number(new URL(address).port), { protocols });
  client.send({ command: 'subscribe', identifier: identifierOf({ token }), ...(history ? { history } : {}) });
  await eventually(() => framesOf(client)[0]?.type === 'confirm_subscription');
  return client;
}

type Frame = Readonly<{
  type?: string;
  message?: { event_id: string; status: string };
  stream_id?: string;
  epoch?: string;
  offset?: number;
}>;

const framesOf = ({ frames }: CableClient): Frame[] => frames as Frame[];

/** After the confirmation. */
function heardBy(client: CableClient): string[] {
  const frames = framesOf(client).slice(1);
  return frames.map(({ type, offset, message }) => type ?? `${offset} ${message?.status}`);
}

/** A message of the plain protocol says nothing of its place: the first to come is taken for the first. */
function toldToPlain(token: string, client: CableClient): Told[] {
  const messages = framesOf(client).flatMap(({ message }) => message ?? []);
  return messages.map(({ event_id: eventId, status }, index) => ({ token, eventId, offset: index + 1, status }));
}

function toldToStreams(token: string, streams: readonly EventListener[]): Told[] {
  const events = streams.flatMap((stream) => stream.events());
  return events.map(({ id, data }) => {
    const { event_id: eventId, status } = data as { event_id: string; status: string };
    return { token, eventId, offset: Number(id), status };
  });
}

type Shopping = Readonly<{
  addresses: () => readonly string[];
  random: Random;
  product: string;
  orders: number;
  shoppers: number;
  isOpen?: () => boolean;
}>;

/** Shoppers who fill a basket, listen to it, check it out, and check it out again where its payment was declined. */
async function shop(crowd: Crowd, { addresses, random, product, orders, shoppers, isOpen = () => true }: Shopping) {
  let accepted = 0;
  const ask = async (request: () => ReturnType<RemoteShopper['put']>): Promise<number> => {
    const status = await request().then(
      (answer) => answer.status,
      () => 0,
    );
    crowd.statuses.set(status, (crowd.statuses.get(status) ?? 0) + 1);
    if (status === 0 || status >= 500) await sleep(50);
    return status;
  };
  const buyOne = async (listener: Listener): Promise<void> => {
    const shopper = new RemoteShopper(oneOf(random, addresses()));
    if ((await ask(() => shopper.put(product, between(random, 1, 3)))) !== 201 || shopper.token === null) return;
    await listener.listenTo(shopper.token);
    if (random() < 0.1) await declinedOne(shopper);
    if ((await ask(() => shopper.checkout('v2'))) === 202) accepted++;
  };
  const declinedOne = async (shopper: RemoteShopper): Promise<void> => {
    const { token } = shopper;
    if ((await ask(() => shopper.checkout('v2', { payment_token: 'tok_fail' }))) !== 202) return;
    accepted++;
    await eventually(() => crowd.told.some((one) => one.token === token), allToldMs);
  };
  const buy = async (): Promise<void> => {
    for (let bought = 0, listener = enter(); accepted < orders && isOpen(); bought++) {
      if (bought === basketsPerListener) [bought, listener] = [0, enter()];
      await buyOne(listener);
    }
  };
  const enter = (): Listener => {
    const listener = new Listener({ addresses, random, told: crowd.told });
    crowd.listeners.push(listener);
    return listener;
  };
  await Promise.all(Array.from({ length: shoppers }, buy));
}

/** Kills one of the nodes, and starts another in its place, again and again until `sale` is over. Returns how often. */
async function killAtRandom(
  stage: FaultStage,
  nodes: ShopProcess[],
  random: Random,
  sale: Promise<unknown>,
): Promise<number> {
  let isOver = false;
  void sale.finally(() => {
    isOver = true;
  });
  let kills = 0;
  for (; !isOver; kills++) {
    await Promise.race([sale, sleep(between(random, 500, 4_000))]);
    const [victim] = nodes.splice(between(random, 0, nodes.length - 1), 1);
    await victim?.end('SIGKILL');
    nodes.push(await stage.start('all'));
  }
  return kills;
}

/** A new node first, then an old one less. */
async function restartInTurn(stage: Stage, nodes: ShopProcess[], balancer: Balancer): Promise<void> {
  for (const old of [...nodes]) {
    nodes.push(await stage.start(untilBalancersKnow));
    balancer.setNodes(nodes.map((node) => node.address));
    expect(await old.end('SIGTERM')).toBe(0);
    nodes.splice(nodes.indexOf(old), 1);
    balancer.setNodes(nodes.map((node) => node.address));
  }
}

type Committed = Readonly<{ id: string; token: string; offset: number; kind: string }>;

/**
 * Each event of a basket that somebody listens to came at least once, and nothing that is not one; the first time that each
 * came, in order.
 */
async function expectAllTold(stage: Pick<Stage, 'ledger'>, read: () => readonly Told[]): Promise<void> {
  const committed = await readCommitted(stage);
  const missing = (): string[] => {
    const ids = new Set(read().map(({ eventId }) => eventId));
    return committed.filter(({ id }) => !ids.has(id)).map(({ id }) => id);
  };
  await eventually(() => missing().length === 0, allToldMs).catch(() => undefined);
  expect(missing()).toEqual([]);
  const told = read();
  await expectOnlyTrue(stage, told);
  for (const [token, ofBasket] of Map.groupBy(told, (one) => one.token)) {
    const known = new Set<string>();
    const firsts = ofBasket.filter(({ eventId }) => !known.has(eventId) && known.add(eventId));
    const offsets = firsts.map(({ offset }) => offset);
    expect(offsets, `basket ${token}`).toEqual(offsets.toSorted((a, b) => a - b));
  }
}

async function expectOnlyTrue(stage: Pick<Stage, 'ledger'>, told: readonly Told[]): Promise<void> {
  const events = new Map((await readCommitted(stage)).map((event) => [event.id, event]));
  expect(told.filter((one) => !isTrue(one, events.get(one.eventId)))).toEqual([]);
}

function readCommitted({ ledger }: Pick<Stage, 'ledger'>): Promise<Committed[]> {
  return ledger.query<Committed>(
    `SELECT e.id, b.token, e.stream_offset::int AS offset, e.kind FROM events e JOIN baskets b ON b.id = e.basket_id`,
  );
}

function isTrue({ token, offset, status }: Told, event: Committed | undefined): boolean {
  const expected = event?.kind === 'cancelled' ? 'failed' : event?.kind;
  return event?.token === token && event.offset === offset && expected === status;
}
