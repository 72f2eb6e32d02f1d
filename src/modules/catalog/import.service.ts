import { setTimeout as sleep } from 'node:timers/promises';
import { CommitUnknown, type Database, type Tx } from '../../platform/db.ts';
import { newId } from '../../shared/ids.ts';
import { Unavailable } from '../../shared/refusal.ts';
import {
  deferAdjustments,
  deferDetails,
  insertProducts,
  lockProducts,
  lockStock,
  readProducts,
  type StockedProduct,
} from './import.sql.ts';
import { type ImportRecord, recordsOf } from './import-file.ts';
import { type Checked, changeOf, type ImportProduct, type ProductChange, readProduct } from './import-line.ts';

/** How many lines did what, up to the last commit; `lastLine` is the last line of the file that is done with. */
export type ImportReport = Readonly<{
  created: number;
  changed: number;
  unchanged: number;
  bad: number;
  lastLine: number;
}>;

/** The file `name` (only shown and recorded) and its bytes. */
export type ImportSource = Readonly<{ name: string; chunks: AsyncIterable<Buffer> }>;

export type ImportOptions = Readonly<{
  /** The shop's: lines in another one are bad. */
  currency: string;
  /** Whether `stock` is also set for products that exist; for new ones it always is. */
  withStock: boolean;
  onBadLine: (line: number, lastLine: number, faults: readonly string[]) => void;
  /** Called after each commit. */
  onProgress: (report: ImportReport) => void;
  /** Called with the reason while the database cannot take the next chunk. */
  onWaiting: (reason: string) => void;
  /** Once aborted, the import returns before its next chunk. */
  signal: AbortSignal;
}>;

type Tally = { created: number; changed: number; unchanged: number };
type Chunk = { products: Map<string, ImportProduct>; bad: number; lastLine: number };
type Round = Readonly<{ tally: Tally; left: ImportProduct[] }>;
type Difference = Readonly<{ wanted: ImportProduct; current: StockedProduct; change: ProductChange }>;

const chunkSize = 500;
/** How often a chunk is tried while the database is away or a row is held by somebody else, and the pause between. */
const patienceTries = 30;
const patiencePauseMs = 1_000;
/** How often the rows of one chunk may be changed by others between reading and locking them. */
const roundsAtMost = 10;

/**
 * Brings the catalogue to what the file says, line by line in the order of the file, in chunks that commit by
 * themselves: what an import has done stays done, and running the file again goes on from there. Products that are
 * archived stay so. Throws {@link Unavailable} or {@link CommitUnknown} when the database stays away, and an error that
 * says so when the file as a whole is not what it should be.
 */
export async function importCatalog(db: Database, source: ImportSource, options: ImportOptions): Promise<ImportReport> {
  let report: ImportReport = { created: 0, changed: 0, unchanged: 0, bad: 0, lastLine: 0 };
  for await (const chunk of chunksOf(recordsOf(source.name, source.chunks), options)) {
    const tally = await patiently(options, () => applyChunk(db, chunk, source.name, options.withStock));
    if (!tally) break;
    report = addToReport(report, chunk, tally);
    options.onProgress(report);
    if (options.signal.aborted) break;
  }
  return report;
}

function addToReport(report: ImportReport, chunk: Chunk, tally: Tally): ImportReport {
  return {
    created: report.created + tally.created,
    changed: report.changed + tally.changed,
    unchanged: report.unchanged + tally.unchanged,
    bad: report.bad + chunk.bad,
    lastLine: chunk.lastLine,
  };
}

/** A SKU that comes again begins a new chunk: lines count one after the other, as if each were a file of its own. */
async function* chunksOf(records: AsyncIterable<ImportRecord>, options: ImportOptions): AsyncGenerator<Chunk> {
  let chunk: Chunk = { products: new Map(), bad: 0, lastLine: 0 };
  for await (const record of records) {
    const product = productOf(record, options.currency);
    const isFull = chunk.products.size + chunk.bad >= chunkSize;
    if (isFull || (product.ok && chunk.products.has(product.value.sku))) {
      yield chunk;
      chunk = { products: new Map(), bad: 0, lastLine: 0 };
    }
    chunk.lastLine = record.lastLine;
    if (product.ok) chunk.products.set(product.value.sku, product.value);
    else {
      chunk.bad++;
      options.onBadLine(record.line, record.lastLine, product.faults);
    }
  }
  if (chunk.lastLine > 0) yield chunk;
}

function productOf(record: ImportRecord, currency: string): Checked<ImportProduct> {
  return record.texts.ok ? readProduct(record.texts.value, record.line, currency) : record.texts;
}

/** Tries again while the database says that it cannot now; null when told to stop while it could not. */
async function patiently<T>(options: ImportOptions, attempt: () => Promise<T>): Promise<T | null> {
  for (let tries = 1; ; tries++) {
    try {
      return await attempt();
    } catch (error) {
      if (!isPassing(error) || tries >= patienceTries) throw error;
      options.onWaiting(error.message);
      await sleep(patiencePauseMs, undefined, { signal: options.signal }).catch(() => undefined);
      if (options.signal.aborted) return null;
    }
  }
}

/** A chunk that may have been committed can be tried again as well: what it has done is found to be so. */
function isPassing(error: unknown): error is Error {
  return error instanceof Unavailable || error instanceof CommitUnknown;
}

async function applyChunk(db: Database, chunk: Chunk, fileName: string, withStock: boolean): Promise<Tally> {
  const total: Tally = { created: 0, changed: 0, unchanged: 0 };
  let left = [...chunk.products.values()];
  for (let round = 1; left.length > 0; round++) {
    if (round > roundsAtMost) throw new Error(`SKU ${left[0]?.sku} is being changed by others all the time`);
    const { tally, left: stillLeft } = await db.transaction((tx) => applyProducts(tx, left, fileName, withStock));
    total.created += tally.created;
    total.changed += tally.changed;
    total.unchanged += tally.unchanged;
    left = stillLeft;
  }
  return total;
}

/** One commit. `left` are products that somebody else made, or renamed, since they were read: they need another look. */
async function applyProducts(
  tx: Tx,
  products: readonly ImportProduct[],
  fileName: string,
  withStock: boolean,
): Promise<Round> {
  const seen = await readProducts(tx, products.map(skuOf));
  const missing = products.filter((product) => !seen.has(product.sku));
  const suspects = differencesOf(products, seen, withStock);
  const locked = await lockAndRead(tx, suspects);
  const differences = differencesOf(suspects.map(wantedOf), locked, withStock);
  const made = await insertMissing(tx, missing, fileName);
  deferDifferences(tx, differences, fileName);

  const lost = suspects.map(wantedOf).filter((product) => !locked.has(product.sku));
  const taken = missing.filter((product) => !made.has(product.sku));
  const left = [...lost, ...taken];
  const tally = { created: made.size, changed: differences.length };
  return { tally: { ...tally, unchanged: products.length - made.size - differences.length - left.length }, left };
}

/** What is alike is neither locked nor written: to whoever sells it, the import never happened. */
function differencesOf(
  products: readonly ImportProduct[],
  current: ReadonlyMap<string, StockedProduct>,
  withStock: boolean,
): Difference[] {
  return products.flatMap((wanted) => {
    const row = current.get(wanted.sku);
    const change = row ? changeOf(wanted, row, withStock) : null;
    return row && change ? [{ wanted, current: row, change }] : [];
  });
}

/**
 * Locks by statements of their own, and only then reads: a sale may have been at work until the lock was had. The stock
 * as well where only names and prices change: a sale reads them more than once, under the lock on the stock.
 */
async function lockAndRead(tx: Tx, suspects: readonly Difference[]): Promise<Map<string, StockedProduct>> {
  if (suspects.length === 0) return new Map();
  const ids = suspects.map((suspect) => suspect.current.id);
  await lockStock(tx, ids);
  await lockProducts(tx, ids);
  return readProducts(tx, suspects.map(wantedOf).map(skuOf));
}

async function insertMissing(tx: Tx, missing: readonly ImportProduct[], fileName: string): Promise<Set<string>> {
  if (missing.length === 0) return new Set();
  // Of one millisecond, ids come in any order: sorted, they keep the catalogue in the order of the file.
  const ids = missing.map(newId).sort();
  const rows = missing.map((product, at) => ({
    ...product,
    id: ids[at] ?? newId(),
    maxPerOrder: product.maxPerOrder ?? null,
    why: reasonFor(product, fileName),
  }));
  return insertProducts(tx, rows);
}

function deferDifferences(tx: Tx, differences: readonly Difference[], fileName: string): void {
  const details = differences.filter(({ change }) => change.details);
  if (details.length > 0) {
    const rows = details.map(({ wanted, current: { id, maxPerOrder } }) => ({
      ...wanted,
      id,
      maxPerOrder: wanted.maxPerOrder === undefined ? maxPerOrder : wanted.maxPerOrder,
    }));
    deferDetails(tx, rows);
  }
  const moved = differences.filter(({ change }) => change.stockDelta !== 0);
  if (moved.length === 0) return;
  deferAdjustments(
    tx,
    moved.map(({ wanted, current, change }) => ({
      productId: current.id,
      delta: change.stockDelta,
      why: reasonFor(wanted, fileName),
    })),
  );
}

function reasonFor(product: ImportProduct, fileName: string): string {
  return `${fileName}, line ${product.line}`;
}

function wantedOf(difference: Difference): ImportProduct {
  return difference.wanted;
}

function skuOf(product: ImportProduct): string {
  return product.sku;
}
