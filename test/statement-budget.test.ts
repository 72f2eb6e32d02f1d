import { readFileSync } from 'node:fs';
import type { FastifyInstance } from 'fastify';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { buildApp } from '../src/app.ts';
import { readConfig } from '../src/platform/config.ts';
import { type Database, type Reader, type Statement, sql, type Tx, type Value } from '../src/platform/db.ts';
import { openResources, type Resources } from '../src/resources.ts';
import { startWorker, type Worker } from '../src/worker.ts';
import { createTestDatabase, type TestDatabase } from './support/postgres.ts';
import { addProduct, endedOrder, orderIdOf, Shopper } from './support/shop.ts';

/** What was sent together with its answers awaited, or one transaction: how often that was waited for, and for what. */
type Visit = { trips: number; statements: string[] };
type Budget = Readonly<{ trips: number; statements: number }>;

let database: TestDatabase;
let resources: Resources;
let worker: Worker;
let app: FastifyInstance;
const visits: { ofRequests: Visit[]; ofWorker: Visit[] } = { ofRequests: [], ofWorker: [] };

beforeAll(async () => {
  database = await createTestDatabase();
  const config = readConfig({ LOG_LEVEL: 'silent', SEED_PRODUCTS: '0' });
  resources = await openResources(config, database.url);
  const counted = {
    ...resources,
    database: countedDatabase(resources.database, visits.ofRequests),
    batchDatabase: countedDatabase(resources.batchDatabase, visits.ofRequests),
    reader: { query: countedQuery(resources.reader, visits.ofRequests) },
    workerDatabase: countedDatabase(resources.workerDatabase, visits.ofWorker),
  };
  worker = await startWorker(counted, 'all');
  app = await buildApp({ resources: counted, worker, findObstacle: async () => null });
  await app.ready();
});
afterAll(async () => {
  await app.close();
  await worker.stop();
  await resources.close();
  await database.drop();
});

function countedQuery(reader: Reader, seen: Visit[]): Reader['query'] {
  return (statement, values) => {
    seen.push({ trips: 1, statements: [statement.name] });
    return reader.query(statement, values);
  };
}

function countedDatabase(counted: Database, seen: Visit[]): Database {
  return {
    ...counted,
    query: countedQuery(counted, seen),
    transaction: (work) => {
      const visit: Visit = { trips: 0, statements: [] };
      seen.push(visit);
      return counted.transaction(async (tx) => {
        const result = await work(countedTx(tx, visit));
        visit.trips++;
        return result;
      });
    },
  };
}

/** Statements that are sent while another is on its way share its round trip. */
function countedTx(tx: Tx, visit: Visit): Tx {
  let underWay = 0;
  const query = async <Row>(statement: Statement, values?: readonly Value[]): Promise<Row[]> => {
    if (underWay++ === 0) visit.trips++;
    visit.statements.push(statement.name);
    try {
      return await tx.query<Row>(statement, values);
    } finally {
      underWay--;
    }
  };
  const defer: Tx['defer'] = (statement, values) => {
    visit.statements.push(statement.name);
    tx.defer(statement, values);
  };
  return { ...tx, query, defer };
}

/** What a call of a request costs, of which all is awaited before it is answered. */
async function costOf(call: () => Promise<{ statusCode: number }>): Promise<Budget> {
  visits.ofRequests.length = 0;
  expect((await call()).statusCode).toBeLessThan(300);
  return sumOf(visits.ofRequests);
}

/** What the settlement cost that was seen since the list was emptied; the worker does other things as well. */
function costOfSettlement(): Budget {
  return sumOf(visits.ofWorker.filter(({ statements }) => statements.includes('settle.lock_states')));
}

function sumOf(seen: readonly Visit[]): Budget {
  return {
    trips: seen.reduce((sum, { trips }) => sum + trips, 0),
    statements: seen.reduce((sum, { statements }) => sum + statements.length, 0),
  };
}

/** The table of the documentation, by call. */
function documented(): Record<string, Budget> {
  const text = readFileSync(new URL('../docs/architecture.md', import.meta.url), 'utf8');
  const section = text.split('## Statements per call')[1]?.split('\n## ')[0] ?? '';
  const rows = section.matchAll(/^\| (?<call>[^|]+) \| (?<trips>\d+) \| (?<statements>\d+) \|/gm);
  return Object.fromEntries(
    [...rows].map(({ groups }) => [
      groups?.call,
      { trips: Number(groups?.trips), statements: Number(groups?.statements) },
    ]),
  );
}

type Sale = Readonly<{ id: string; checkout: Budget; settlement: Budget }>;

/** Sells a unit, or fails to, and waits until that is settled. */
async function sell(shopper: Shopper, product: string, payment_token: string): Promise<Sale> {
  await shopper.put(product, 1);
  visits.ofWorker.length = 0;
  let id = '';
  const checkout = await costOf(async () => {
    const response = await shopper.checkout('v2', { payment_token });
    id = orderIdOf(response);
    return response;
  });
  await endedOrder(shopper, id);
  return { id, checkout, settlement: costOfSettlement() };
}

it('each call takes as many round trips and statements as the documentation says', async () => {
  let adds = 0;
  const query = <Row>(text: string, values?: readonly Value[]): Promise<Row[]> =>
    resources.database.query(sql(`test.add_${adds++}`, text), values);
  const product = await addProduct({ query }, { stock: 100 });
  const shopper = new Shopper(app);
  const get = (url: string) => () => app.inject({ url });
  const measured: Record<string, Budget> = {
    '`GET` product': await costOf(get(`/api/v2/products/${product}`)),
    '`GET` page, V1': await costOf(get('/api/v1/products')),
    '`GET` page, V2': await costOf(get('/api/v2/products')),
    '`POST` basket line, new basket': await costOf(() => shopper.put(product, 1)),
    '`POST` basket line': await costOf(() => shopper.put(product, 2)),
    '`GET` basket': await costOf(() => shopper.basket()),
  };
  const [sold, declined] = [await sell(shopper, product, 'tok_success'), await sell(shopper, product, 'tok_fail')];
  measured['`POST` checkout'] = sold.checkout;
  measured['settlement, completed'] = sold.settlement;
  measured['settlement, failed'] = declined.settlement;
  measured['`GET` order'] = await costOf(() => shopper.order(sold.id));
  expect(measured).toEqual(documented());
});
