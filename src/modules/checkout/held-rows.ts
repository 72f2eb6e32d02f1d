import type { HeldRows } from '../../platform/batches-around-held-rows.ts';
import type { Database, Tx } from '../../platform/db.ts';
import { findHeldBaskets, lockBasketsOfOrders, readCheckoutRows } from '../basket/basket.service.ts';
import { findHeldStock, lockStock } from '../inventory/inventory.service.ts';
import type { PlannedOrder } from './accept.ts';

/** Asks which of `planned` name a row that somebody holds at this moment. Waits for no lock and keeps none. */
export function findHeldRows(database: Database, planned: readonly PlannedOrder[]): Promise<HeldRows<PlannedOrder>> {
  return database.transaction(async (tx) => {
    const rowsOf = await rowsByToken(tx, planned);
    const baskets = [...rowsOf.values()].map((rows) => rows.basketId);
    const products = new Set([...rowsOf.values()].flatMap((rows) => rows.productIds));
    const heldBaskets = await findHeldBaskets(tx, baskets);
    const heldStock = await findHeldStock(tx, [...products]);
    return firstOfEach(planned, rowsOf, (row) => heldBaskets.has(row) || heldStock.has(row));
  });
}

/** Which of `planned` name one of `rows`, of which it is known that somebody holds them. */
export function findNamed(
  database: Database,
  planned: readonly PlannedOrder[],
  rows: { has(row: string): boolean },
): Promise<HeldRows<PlannedOrder>> {
  return database.transaction(async (tx) =>
    firstOfEach(planned, await rowsByToken(tx, planned), (row) => rows.has(row)),
  );
}

/** Locks the basket with that id, or the stock of that product: a checkout locks no product. */
export async function lockHeldRow(tx: Tx, row: string): Promise<void> {
  await lockBasketsOfOrders(tx, [row]);
  await lockStock(tx, [row]);
}

type Rows = Readonly<{ basketId: string; productIds: readonly string[] }>;

async function rowsByToken(tx: Tx, planned: readonly PlannedOrder[]): Promise<Map<string, Rows>> {
  const rows = await readCheckoutRows(
    tx,
    planned.map((order) => order.token),
  );
  return new Map(rows.map((row) => [row.token, row]));
}

function firstOfEach(
  planned: readonly PlannedOrder[],
  rowsOf: ReadonlyMap<string, Rows>,
  isHeld: (row: string) => boolean,
): HeldRows<PlannedOrder> {
  const held = new Map<PlannedOrder, string>();
  for (const order of planned) {
    const rows = rowsOf.get(order.token);
    const row = rows && [rows.basketId, ...rows.productIds].find(isHeld);
    if (row) held.set(order, row);
  }
  return held;
}
