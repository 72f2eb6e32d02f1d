import type { Tx } from '../../platform/db.ts';
import { deferStockChange, lockStockRows } from './inventory.sql.ts';

/** So many units of one product. */
export type Units = Readonly<{ productId: string; quantity: number }>;

/**
 * Locks the stock of `productIds` and returns the units that can be sold of each. Third in the global lock order:
 * baskets and orders must be locked already, products must not be.
 */
export function lockStock(tx: Tx, productIds: readonly string[]): Promise<Map<string, number>> {
  return lockStockRows(tx, productIds);
}

/** Takes `units` out of the locked stock, in the commit of `tx`; the table's check refuses to go below zero. */
export function takeStock(tx: Tx, units: readonly Units[]): void {
  changeStock(tx, units, -1);
}

/** Puts `units` back into the locked stock, in the commit of `tx`. */
export function returnStock(tx: Tx, units: readonly Units[]): void {
  changeStock(tx, units, 1);
}

function changeStock(tx: Tx, units: readonly Units[], sign: 1 | -1): void {
  deferStockChange(
    tx,
    units.map((unit) => unit.productId),
    units.map((unit) => sign * unit.quantity),
  );
}
