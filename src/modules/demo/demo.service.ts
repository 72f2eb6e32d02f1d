import { randomInt } from 'node:crypto';
import type { Database, Reader } from '../../platform/db.ts';
import { type Money, money } from '../../shared/money.ts';
import { accepted, type Result, refused } from '../../shared/refusal.ts';
import { importCatalog } from '../catalog/import.service.ts';
import { findDrop } from './demo.sql.ts';

/** A product made to sell out, by its SKU, and where the units of it are by the shop's books. */
export type Drop = Readonly<{
  id: string;
  product_id: string;
  name: string;
  price: Money;
  units: number;
  sold: number;
  held: number;
  sellable: number;
}>;

export type DropMaker = Readonly<{ database: Database; currency: string }>;

const priceCents = 14_900;
const description = 'Made for the drop simulator of the demonstration page.';
const skuPattern = /^DROP-\d{12}$/;

/** Puts a product of which there are exactly `units` on sale, in the way in which a shop's file would, and returns it. */
export async function makeDrop({ database, currency }: DropMaker, units: number): Promise<Drop> {
  const sku = `DROP-${randomInt(1e11, 1e12)}`;
  const name = `Limited edition ${sku.slice(-4)}`;
  const line = JSON.stringify({ sku, name, description, price_cents: priceCents, currency, stock: units });
  await importCatalog(database, { name: 'demonstration.ndjson', chunks: chunksOf(line) }, onlyOneLine(currency));
  const made = await getDrop(database, currency, sku);
  if (!made.ok) throw new Error(`The product ${sku} that has just been made is not there`);
  return made.value;
}

/** The drop whose id is `sku`, by the books as they are now. */
export async function getDrop(reader: Reader, currency: string, sku: string): Promise<Result<Drop>> {
  const row = skuPattern.test(sku) ? await findDrop(reader, sku) : undefined;
  if (!row) return refused('not_found', 'There is no such drop');
  const { price_cents: cents, ...drop } = row;
  return accepted({ id: sku, ...drop, price: money(cents, currency) });
}

async function* chunksOf(text: string): AsyncGenerator<Buffer> {
  yield Buffer.from(text);
}

function onlyOneLine(currency: string) {
  return {
    currency,
    withStock: false,
    onBadLine: (_line: number, _lastLine: number, faults: readonly string[]) => {
      throw new Error(`The product of a drop cannot be imported: ${faults.join('; ')}`);
    },
    onProgress: () => undefined,
    onWaiting: () => undefined,
    signal: AbortSignal.timeout(10_000),
  };
}
