import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { type Balancer, openBalancer } from './support/balancer.ts';
import { eventually } from './support/eventually.ts';
import { type FaultStage, faultTimeoutMs, onFaultStage } from './support/fault-stage.ts';
import { expectNothingLeftOver } from './support/invariants.ts';
import { allEnded } from './support/ledger.ts';
import { Listener, type Told } from './support/listener.ts';
import { RemoteShopper, type ShopProcess } from './support/process.ts';
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
      await expectAllTold(stage, crowd.told);
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
      await expectAllTold(stage, crowd.told);
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

/** Each event of a basket that somebody listens to came at least once; the first time that each came, in order. */
async function expectAllTold(stage: Pick<Stage, 'ledger'>, told: Told[]): Promise<void> {
  const committed = await stage.ledger.query<{ id: string; token: string }>(
    `SELECT e.id, b.token FROM events e JOIN baskets b ON b.id = e.basket_id`,
  );
  const missing = (): string[] => {
    const ids = new Set(told.map(({ eventId }) => eventId));
    return committed.filter(({ id }) => !ids.has(id)).map(({ id }) => id);
  };
  await eventually(() => missing().length === 0, allToldMs).catch(() => undefined);
  expect(missing()).toEqual([]);
  for (const [token, ofBasket] of Map.groupBy(told, (one) => one.token)) {
    const heard = new Set<string>();
    const firsts = ofBasket.filter(({ eventId }) => !heard.has(eventId) && heard.add(eventId));
    const offsets = firsts.map(({ offset }) => offset);
    expect(offsets, `basket ${token}`).toEqual(offsets.toSorted((a, b) => a - b));
  }
}
