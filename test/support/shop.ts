import type { FastifyInstance, InjectOptions, LightMyRequestResponse as Response } from 'fastify';
import { buildApp } from '../../src/app.ts';
import type { OrderDesk } from '../../src/modules/checkout/checkout.service.ts';
import { readConfig } from '../../src/platform/config.ts';
import { sql, type Value } from '../../src/platform/db.ts';
import { openResources, type Resources } from '../../src/resources.ts';
import { newId } from '../../src/shared/ids.ts';
import { startWorker, type Worker } from '../../src/worker.ts';
import { eventually } from './eventually.ts';
import { createTestDatabase } from './postgres.ts';

/** A whole shop on a database of its own: the application, and a worker unless its role is `web`. */
export type TestShop = Readonly<{
  url: string;
  app: FastifyInstance;
  worker: Worker | null;
  resources: Resources;
  /** Runs a statement past the shop, as an operator with psql would. */
  query<Row = Record<string, unknown>>(text: string, values?: readonly Value[]): Promise<Row[]>;
  close(): Promise<void>;
}>;

export type ProductOptions = Readonly<{
  name?: string;
  description?: string;
  priceCents?: number;
  stock?: number;
  maxPerOrder?: number | null;
}>;

let statements = 0;

/** Opens a shop with an empty catalogue. `environment` as for the command; close it when done. */
export async function openTestShop(environment: Record<string, string> = {}): Promise<TestShop> {
  const database = await createTestDatabase();
  const config = readConfig({ LOG_LEVEL: 'silent', SEED_PRODUCTS: '0', ...environment });
  const resources = await openResources(config, database.url);
  const worker = config.ROLE === 'web' ? null : await startWorker(resources, config.ROLE);
  const app = await buildApp({ resources, worker, findObstacle: async () => null });
  await app.ready();
  return {
    url: database.url,
    app,
    worker,
    resources,
    // A name of its own each time: a prepared statement cannot change its text.
    query: (text, values = []) => resources.database.query(sql(`test.${statements++}`, text), values),
    close: async () => {
      await app.close();
      await worker?.stop();
      await resources.close();
      await database.drop();
    },
  };
}

/** Another application of the shop, which hands its orders over to `worker`. Close it when done. */
export function openAppBeside({ resources }: TestShop, worker: OrderDesk): Promise<FastifyInstance> {
  return buildApp({ resources, worker, findObstacle: async () => null });
}

/** Puts a product with so much stock on sale, booked as received, and returns its id. */
export async function addProduct(shop: Pick<TestShop, 'query'>, options: ProductOptions = {}): Promise<string> {
  const { name = 'Lamp', description = 'It shines', priceCents = 1_000, stock = 10, maxPerOrder = null } = options;
  const id = newId();
  await shop.query(
    `WITH product AS (
       INSERT INTO products (id, sku, name, description, price_cents, max_per_order)
       VALUES ($1::uuid, 'SKU-' || $1, $2, $3, $4, $5) RETURNING id),
     movement AS (
       INSERT INTO stock_movements (product_id, delta, kind, who, why) SELECT id, $6::integer, 'received', 'test', 'test' FROM product)
     INSERT INTO stock (product_id, sellable) SELECT id, $6::integer FROM product`,
    [id, name, description, priceCents, maxPerOrder, stock],
  );
  return id;
}

/** A checkout body that is accepted and paid; `changes` replace its fields. */
export function checkoutBody(changes: Record<string, unknown> = {}): Record<string, unknown> {
  return {
    payment_token: 'tok_success',
    email: 'shopper@example.com',
    address: { line_1: '1 Main St', city: 'Springfield', state: 'IL', zip: '62701', country: 'US' },
    ...changes,
  };
}

/** A shopper with a basket token, once there is one. */
export class Shopper {
  readonly #app: FastifyInstance;
  token: string | null = null;

  constructor(app: FastifyInstance) {
    this.#app = app;
  }

  async request(options: InjectOptions): Promise<Response> {
    const authorization = this.token ? { authorization: `Bearer ${this.token}` } : {};
    const response = await this.#app.inject({ ...options, headers: { ...authorization, ...options.headers } });
    const made = response.headers['shopping-basket-id'];
    if (typeof made === 'string') this.token = made;
    return response;
  }

  put(productId: unknown, quantity: unknown, version = 'v1'): Promise<Response> {
    const payload = { product: { product_id: productId, quantity } };
    return this.request({ method: 'POST', url: `/api/${version}/shopping_basket/products`, payload });
  }

  basket(version = 'v1'): Promise<Response> {
    return this.request({ method: 'GET', url: `/api/${version}/shopping_basket` });
  }

  checkout(version: 'v1' | 'v2', changes: Record<string, unknown> = {}): Promise<Response> {
    return this.request({
      method: 'POST',
      url: `/api/${version}/shopping_basket/checkout`,
      payload: checkoutBody(changes),
    });
  }

  order(id: string): Promise<Response> {
    return this.request({ method: 'GET', url: `/api/v2/orders/${id}` });
  }
}

/** The id at the end of a Location header. */
export function orderIdOf(response: Response): string {
  return String(response.headers.location).replace(/^.*\//, '');
}

/** The order as its shopper sees it once it is over. */
export function endedOrder(shopper: Shopper, id: string): Promise<Record<string, unknown>> {
  return eventually(async () => {
    const status = (await shopper.order(id)).json();
    return ['completed', 'failed', 'cancelled', 'refunded'].includes(status.status) ? status : null;
  });
}
