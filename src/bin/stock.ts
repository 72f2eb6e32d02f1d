import {
  type Authorship,
  changeStock,
  getStock,
  type StockChange,
  type StockFigures,
  type StockWish,
} from '../modules/inventory/stock.service.ts';
import type { Config } from '../platform/config.ts';
import { CommitUnknown, type Database, isLockTimeout } from '../platform/db.ts';
import type { Refusal, Result } from '../shared/refusal.ts';
import { withDatabase } from './database.ts';
import { operatorName } from './operator.ts';
import { withShop } from './shop.ts';

/** Who and why, where the operator does not say. */
export type StockFlags = Readonly<{ by?: string; why?: string }>;

const defaultWhy: Readonly<Record<StockWish['kind'], string>> = {
  set: 'scalecommerce stock set',
  add: 'scalecommerce stock add',
};

/** `scalecommerce stock set|add PRODUCT N`: changes what can be sold of a product, also while it sells. */
export async function changeStockCommand(
  config: Config,
  name: string,
  wish: StockWish,
  { by = operatorName(), why = defaultWhy[wish.kind] }: StockFlags,
): Promise<number> {
  const answer = await inShop(config, (db) => changeOrExplain(db, name, wish, { who: by, why }));
  if (!answer.ok) throw new Error(`${reasonIn(answer.refusal)} Nothing was changed.`);
  console.log(changeTable(answer.value));
  return 0;
}

/** `scalecommerce stock show PRODUCT`: what is there of a product, and where it went. */
export async function showStockCommand(config: Config, name: string): Promise<number> {
  const answer = await inShop(config, (db) => getStock(db, name));
  if (!answer.ok) throw new Error(reasonIn(answer.refusal));
  console.log(figuresTable(answer.value));
  return 0;
}

function inShop<T>(config: Config, work: (db: Database) => Promise<T>): Promise<T> {
  return withDatabase(config, ({ url }) => withShop(config, url, work));
}

async function changeOrExplain(
  db: Database,
  name: string,
  wish: StockWish,
  authorship: Authorship,
): Promise<Result<StockChange>> {
  try {
    return await changeStock(db, name, wish, authorship);
  } catch (error) {
    if (isLockTimeout(error))
      throw new Error(
        `Somebody else keeps the stock of ${name} locked, longer than a sale does. Nothing was changed; try again soon.`,
        { cause: error },
      );
    if (error instanceof CommitUnknown)
      throw new Error(
        `The database went away before it said whether the stock was changed: see \`scalecommerce stock show ${name}\`.`,
        { cause: error },
      );
    throw error;
  }
}

function reasonIn(refusal: Refusal): string {
  return `${refusal.messages.join('; ')}.`;
}

function changeTable({ sku, before, held, after, isArchived }: StockChange): string {
  return tableOf(sku, { before, held, after }, isArchived);
}

function figuresTable({ sku, isArchived, ...units }: StockFigures): string {
  const { sellable, held, sold, received, adjusted, returned } = units;
  return tableOf(sku, { sellable, held, sold, received, adjusted, returned }, isArchived);
}

function tableOf(sku: string, units: Readonly<Record<string, number>>, isArchived: boolean): string {
  const numbers = Object.entries(units).map(([name, value]) => padded([name, String(value)], 'padStart'));
  const columns = [padded(['SKU', sku], 'padEnd'), ...numbers];
  const rows = [0, 1].map((row) => columns.map((column) => column[row]).join('  '));
  return [...rows, ...(isArchived ? ['The product is archived: none of it is on sale.'] : [])].join('\n');
}

function padded(column: readonly string[], pad: 'padStart' | 'padEnd'): string[] {
  const width = Math.max(...column.map((cell) => cell.length));
  return column.map((cell) => cell[pad](width));
}
