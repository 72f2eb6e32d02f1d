import type { Faker } from '@faker-js/faker';
import { bulkLoad, type CopyTarget, type Loader } from '../../platform/copy.ts';
import { analyzeCatalog, catalogIsEmpty, lockCatalogForSeeding } from './seed.sql.ts';

/** `busy`: another seed, or an import that adds products, is under way. */
export type SeedOutcome = 'seeded' | 'not_empty' | 'busy';

export type SeedOptions = Readonly<{
  url: string;
  /** How many products to make. */
  products: number;
  /** Called with the number of products loaded so far. */
  onProgress?: (loaded: number) => void;
  /** Once aborted, the seed is rolled back at the next chunk and its promise rejects with the signal's reason. */
  signal?: AbortSignal;
}>;

type SeedProduct = Readonly<{
  id: string;
  sku: string;
  name: string;
  description: string;
  priceCents: number;
  stock: number;
}>;

const chunkSize = 20_000;
const fakerSeed = 20_260_101;
/** Ids are UUIDv7 as if product n had been made n milliseconds after this moment. */
const idEpochMs = Date.UTC(2026, 0, 1);
const soldOutShare = 0.05;

const productTable: CopyTarget = { table: 'products', columns: ['id', 'sku', 'name', 'description', 'price_cents'] };
const stockTable: CopyTarget = { table: 'stock', columns: ['product_id', 'sellable'] };
const movementTable: CopyTarget = {
  table: 'stock_movements',
  columns: ['product_id', 'delta', 'kind', 'who', 'why'],
};

/**
 * Fills an empty catalogue with demonstration products: the n-th is the same in every catalogue, its id included. One
 * transaction, so a seed that was killed leaves nothing behind; a catalogue that holds a product is left as it is.
 */
export function seedCatalog(options: SeedOptions): Promise<SeedOutcome> {
  return bulkLoad(options.url, async (loader) => {
    if (!(await lockCatalogForSeeding(loader))) return 'busy';
    if (!(await catalogIsEmpty(loader))) return 'not_empty';
    await loadProducts(loader, options);
    await analyzeCatalog(loader);
    return 'seeded';
  });
}

async function loadProducts(loader: Loader, options: SeedOptions): Promise<void> {
  // Loaded here, for whoever imports this module and finds a catalogue must not wait for a dictionary.
  const { faker } = await import('@faker-js/faker/locale/en');
  faker.seed(fakerSeed);
  let loading = Promise.resolve();
  for (let first = 1; first <= options.products; first += chunkSize) {
    const last = Math.min(first + chunkSize - 1, options.products);
    const chunk = makeProducts(faker, first, last);
    await loading;
    options.onProgress?.(first - 1);
    options.signal?.throwIfAborted();
    loading = loadChunk(loader, chunk);
  }
  await loading;
  options.onProgress?.(options.products);
}

async function loadChunk(loader: Loader, products: readonly SeedProduct[]): Promise<void> {
  const stocked = products.filter((product) => product.stock > 0);
  await loader.copy(
    productTable,
    products.map((product) => [product.id, product.sku, product.name, product.description, product.priceCents]),
  );
  await loader.copy(
    stockTable,
    products.map((product) => [product.id, product.stock]),
  );
  await loader.copy(
    movementTable,
    stocked.map((product) => [product.id, product.stock, 'received', 'seed', 'initial stock']),
  );
}

function makeProducts(faker: Faker, first: number, last: number): SeedProduct[] {
  return Array.from({ length: last - first + 1 }, (_, index) => makeProduct(faker, first + index));
}

function makeProduct(faker: Faker, number: number): SeedProduct {
  return {
    id: seedId(faker, number),
    sku: `DEMO-${String(number).padStart(7, '0')}`,
    name: faker.commerce.productName(),
    description: faker.commerce.productDescription(),
    priceCents: faker.number.int({ min: 100, max: 50_000 }),
    stock: faker.number.float() < soldOutShare ? 0 : faker.number.int({ min: 1, max: 1_000 }),
  };
}

/** A UUIDv7 (RFC 9562) out of `number` and the seeded randomness, in the order of the numbers. */
function seedId(faker: Faker, number: number): string {
  const bytes = Buffer.alloc(16);
  bytes.writeUIntBE(idEpochMs + number, 0, 6);
  bytes.writeUInt16BE(0x70_00 | faker.number.int(0xfff), 6);
  bytes.writeUInt32BE(0x80_00_00_00 + faker.number.int(0x3f_ff_ff_ff), 8);
  bytes.writeUInt32BE(faker.number.int(0xff_ff_ff_ff), 12);
  return bytes.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}
