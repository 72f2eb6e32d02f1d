import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { migrate } from '../../src/platform/migrate.ts';
import { startShopping } from '../support/busy-shoppers.ts';
import type { ClientRecord } from '../support/client-records.ts';
import { eventually } from '../support/eventually.ts';
import { expectNothingLeftOver } from '../support/invariants.ts';
import { allEnded, type Ledger, openLedger } from '../support/ledger.ts';
import { onServer } from '../support/postgres.ts';
import { openPrivatePostgres, type PrivatePostgres } from '../support/private-postgres.ts';
import { RemoteShopper, type ShopProcess, startProcess } from '../support/process.ts';
import { between, oneOf, type Random, randomOf, seed } from '../support/seed.ts';
import { addProduct } from '../support/shop.ts';
import { openTcpProxy, type TcpProxy } from '../support/tcp-proxy.ts';
import { expectHonesty } from './honesty.ts';

const minutes = Number(process.env.SOAK_MINUTES);
const shoppers = 24;
/** A lease, a hold and a payment's deadline, and a busy machine. */
const allEndedMs = 90_000;
const backMs = 30_000;

/** Calls to the gateway go wrong by chance; what becomes of each is a function of the seed. */
const gatewayFaults =
  'lost_request=0.01,lost_answer=0.01,late_request=0.005,error=0.03,rate_limited=0.02,reset=0.01,decline=0.02';

const roles = ['all', 'all', 'web', 'worker'] as const;

type Scene = {
  readonly server: PrivatePostgres;
  readonly proxy: TcpProxy;
  readonly ledger: Ledger;
  readonly products: readonly string[];
  /** Those in the order of `roles`: they come and go. */
  readonly shops: ShopProcess[];
};

type Fault = Readonly<{ name: string; inject: (scene: Scene, random: Random) => Promise<void> }>;

const faults: readonly Fault[] = [
  { name: 'a process is killed and started again', inject: killProcess },
  { name: 'a process is stopped for a while', inject: stopProcess },
  { name: 'backends are terminated', inject: terminateBackends },
  { name: 'all connections to the database are cut', inject: async ({ proxy }) => proxy.cut() },
  { name: 'the network to the database swallows everything', inject: swallow },
  { name: 'the database is killed and started again', inject: killDatabase },
  { name: 'the database is down for a while', inject: stopDatabase },
  { name: 'somebody holds a product', inject: holdProduct },
  { name: 'stock is delivered', inject: deliver },
];

it(`a sale of ${minutes} minutes under faults at random (seed ${seed})`, async () => {
  const random = randomOf('soak faults');
  await onScene(async (scene) => {
    const records: ClientRecord[] = [];
    const { shops, products } = scene;
    const stopShopping = startShopping({
      shops: doors(shops),
      products,
      count: shoppers,
      random: randomOf('soak shoppers'),
      records,
    });
    const startMs = performance.now();
    const say = (what: string): void => tell(startMs, records.length, what);
    while (performance.now() - startMs < minutes * 60_000) {
      const fault = oneOf(random, faults);
      say(fault.name);
      await fault.inject(scene, random);
      await sleep(between(random, 200, 3_000));
    }
    say('no more faults: until everything works again');
    await Promise.all(doors(shops).map((shop) => untilServed(shop.address, products)));
    await stopShopping();
    say('until the last order has ended');
    await allEnded(scene.ledger, allEndedMs);
    say('audit');
    await expectHonesty(scene.ledger, records);
    await expectNothingLeftOver(scene.server.url);
    expect(await Promise.all(scene.shops.map((shop) => shop.end('SIGTERM')))).toEqual(scene.shops.map(() => 0));
    say('done: every invariant holds, and every client was told the truth');
  });
});

async function onScene(play: (scene: Scene) => Promise<void>): Promise<void> {
  const server = await openPrivatePostgres();
  const shops: ShopProcess[] = [];
  try {
    await migrate(server.url);
    const proxy = await openTcpProxy(server.url);
    const ledger = openLedger(server.url);
    const products = await Promise.all(Array.from({ length: 3 }, () => addProduct(ledger, { stock: 1_000_000 })));
    shops.push(...(await Promise.all(roles.map((role) => startShop(proxy, role)))));
    await play({ server, proxy, ledger, products, shops });
    await ledger.close();
    await proxy.close();
  } finally {
    await Promise.all(shops.map((shop) => shop.end('SIGKILL')));
    await server.close();
  }
}

/** Those of the shops that shoppers can go to, whoever it is at the moment. */
function doors(shops: readonly ShopProcess[]): ShopProcess[] {
  return roles.flatMap((role, place) =>
    role === 'worker'
      ? []
      : [
          {
            get address() {
              return shops[place]?.address ?? '';
            },
          } as ShopProcess,
        ],
  );
}

function startShop(proxy: TcpProxy, role: (typeof roles)[number]): Promise<ShopProcess> {
  return startProcess(proxy.url, {
    ROLE: role,
    HOLD_TTL_S: '30',
    LOG_LEVEL: 'fatal',
    SIMULATED_GATEWAY_FAULTS: gatewayFaults,
    SIMULATED_GATEWAY_SEED: String(seed % 2 ** 31),
  });
}

async function killProcess({ shops, proxy }: Scene, random: Random): Promise<void> {
  const place = between(random, 0, shops.length - 1);
  const old = shops[place];
  const role = roles[place];
  if (!old || !role) throw new Error(`There is no process ${place}`);
  await old.end('SIGKILL');
  await sleep(between(random, 0, 1_000));
  shops[place] = await startShop(proxy, role);
}

/** Longer than its lease, now and then. */
async function stopProcess({ shops }: Scene, random: Random): Promise<void> {
  const shop = oneOf(random, shops);
  shop.signal('SIGSTOP');
  await sleep(between(random, 100, 13_000));
  shop.signal('SIGCONT');
}

async function terminateBackends({ server }: Scene, random: Random): Promise<void> {
  const share = random();
  await onServer(server.url, (client) =>
    client.query(
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE application_name LIKE 'scalecommerce%' AND pid <> pg_backend_pid() AND random() < $1`,
      [share],
    ),
  );
}

async function swallow({ proxy }: Scene, random: Random): Promise<void> {
  const share = random();
  proxy.swallow({ swallows: (connection) => (connection * 0.618) % 1 < share });
  await sleep(between(random, 500, 9_000));
  proxy.heal();
}

async function killDatabase({ server }: Scene, random: Random): Promise<void> {
  await server.kill();
  await sleep(between(random, 0, 1_000));
  await server.start();
}

async function stopDatabase({ server }: Scene, random: Random): Promise<void> {
  await server.stop();
  await sleep(between(random, 1_000, 12_000));
  await server.start();
}

async function holdProduct({ server, products }: Scene, random: Random): Promise<void> {
  await onServer(server.url, async (holder) => {
    await holder.query('BEGIN');
    await holder.query('SELECT FROM stock WHERE product_id = $1 FOR NO KEY UPDATE', [oneOf(random, products)]);
    await sleep(between(random, 500, 5_000));
    await holder.query('ROLLBACK');
  });
}

async function deliver({ server, products }: Scene, random: Random): Promise<void> {
  const product = oneOf(random, products);
  await onServer(server.url, async (client) => {
    await client.query('BEGIN');
    await client.query('UPDATE stock SET sellable = sellable + 50 WHERE product_id = $1', [product]);
    await client.query(
      `INSERT INTO stock_movements (product_id, delta, kind, who, why) VALUES ($1, 50, 'received', 'soak', 'soak')`,
      [product],
    );
    await client.query('COMMIT');
  });
}

async function untilServed(address: string, products: readonly string[]): Promise<void> {
  await eventually(async () => {
    const shopper = new RemoteShopper(address);
    const put = await shopper.put(products[0] ?? '', 1).catch(() => null);
    return put?.status === 201 && (await shopper.checkout('v2').catch(() => null))?.status === 202;
  }, backMs);
}

function tell(startMs: number, operations: number, what: string): void {
  const seconds = String(Math.round((performance.now() - startMs) / 1_000)).padStart(5);
  process.stderr.write(`${seconds} s  ${String(operations).padStart(8)} operations  ${what}\n`);
}
