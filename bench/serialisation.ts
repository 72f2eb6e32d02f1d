/**
 * How fast the compiled serialisers write the shop's answers, beside JSON.stringify of the same objects.
 * Both are timed in turn, in short rounds, so that a noisy machine disturbs both alike; the ratio is the figure.
 */
import { isDeepStrictEqual } from 'node:util';
import Fastify from 'fastify';
import type { TSchema } from 'typebox';
import { BasketSchema } from '../src/modules/basket/basket.schema.ts';
import { KeyedPageSchema, ProductSchema } from '../src/modules/catalog/catalog.schema.ts';
import { OrderSchema } from '../src/modules/orders/orders.schema.ts';

const rounds = 41;
const roundMs = 20;

const price = { cents: 12_345, currency: 'USD' };
const id = '01960000-0000-7000-8000-000000000000';
const description = 'A sturdy lamp with a "brushed" finish, made to last and easy to clean.';
const product = { id, name: 'Handcrafted Steel Lamp', description, price, stock_status: 'AVAILABLE' };
const line = { id, name: product.name, description, quantity: 3, total_price: price };

const answers: ReadonlyArray<[string, TSchema, unknown]> = [
  ['product', ProductSchema, product],
  [
    'page of 20 products',
    KeyedPageSchema,
    { per_page: 20, next: 'k'.repeat(39), previous: null, records: Array(20).fill(product) },
  ],
  [
    'basket of 5 lines',
    BasketSchema,
    { products: Array(5).fill({ ...line, stock_status: 'AVAILABLE' }), total_price: price },
  ],
  [
    'order of 5 lines',
    OrderSchema,
    {
      id,
      email: 'shopper@example.com',
      created_at: '2026-01-02T03:04:05.678Z',
      total_price: price,
      order_products: Array(5).fill({ ...line, unit_price: price }),
    },
  ],
];

const serialisers = await compiled();
const table = answers.map(([name, , document], index) => {
  const write = serialisers[index] ?? JSON.stringify;
  if (!isDeepStrictEqual(JSON.parse(write(document)), document))
    throw new Error(`The compiled serialiser loses something of the ${name}`);
  return compare(
    name,
    () => write(document),
    () => JSON.stringify(document),
  );
});
console.log(
  `Node ${process.version}, ${process.platform} ${process.arch}; medians of ${rounds} rounds of ${roundMs} ms`,
);
console.table(table);

type Write = (document: unknown) => string;

/** The serialisers as the server makes them: compiled from a route's response schema. */
async function compiled(): Promise<Write[]> {
  const app = Fastify();
  const found: Write[] = [];
  answers.forEach(([, schema], index) => {
    app.get<{ Reply: unknown }>(`/${index}`, { schema: { response: { 200: schema } } }, async (_, reply) => {
      found[index] = reply.getSerializationFunction('200') as Write;
      return reply.serializer(String).send('');
    });
  });
  for (const index of answers.keys()) await app.inject(`/${index}`);
  await app.close();
  return found;
}

function compare(answer: string, viaSchema: () => string, viaStringify: () => string): Record<string, unknown> {
  const rates = { schema: [] as number[], stringify: [] as number[] };
  for (let round = 0; round < rounds; round++) {
    rates.schema.push(rateOf(viaSchema));
    rates.stringify.push(rateOf(viaStringify));
  }
  const ratios = rates.schema.map((rate, round) => rate / (rates.stringify[round] ?? Number.NaN));
  return {
    answer,
    'schema/s': Math.round(median(rates.schema)),
    'JSON.stringify/s': Math.round(median(rates.stringify)),
    ratio: Number(median(ratios).toFixed(2)),
  };
}

/** Calls a second. */
function rateOf(write: () => string): number {
  const startMs = performance.now();
  let calls = 0;
  let elapsedMs = 0;
  while (elapsedMs < roundMs) {
    for (let n = 0; n < 100; n++) write();
    calls += 100;
    elapsedMs = performance.now() - startMs;
  }
  return (calls / elapsedMs) * 1_000;
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
}
