import type { Tx } from '../../platform/db.ts';
import { deferMovements, deferStockChange, lockFreeStockRows, lockStockRows, takeCovered } from './inventory.sql.ts';

/** So many units of one product. */
export type Units = Readonly<{ productId: string; quantity: number }>;

/**
 * Locks the stock of `productIds` and returns the units that can be sold of each. Third in the global lock order:
 * baskets and orders must be locked already, products must not be.
 */
export function lockStock(tx: Tx, productIds: readonly string[]): Promise<Map<string, number>> {
  return lockStockRows(tx, productIds);
}

/** Those of the products whose stock somebody else holds now; the stock of the others is locked. */
export async function findHeldStock(tx: Tx, productIds: readonly string[]): Promise<Set<string>> {
  const held = new Set(productIds);
  for (const productId of await lockFreeStockRows(tx, productIds)) held.delete(productId);
  return held;
}

/** Takes `units` out of the locked stock, in the commit of `tx`; the table's check refuses to go below zero. */
export function takeStock(tx: Tx, units: readonly Units[]): void {
  changeStock(tx, units, -1);
}

/** Takes each of `units` of which there is enough, and returns the products of which it was taken. */
export async function takeStockIfCovered(tx: Tx, units: readonly Units[]): Promise<Set<string>> {
  const taken = await takeCovered(
    tx,
    units.map((unit) => unit.productId),
    units.map((unit) => unit.quantity),
  );
  return new Set(taken);
}

/** Puts `units` back into the locked stock, in the commit of `tx`. */
export function returnStock(tx: Tx, units: readonly Units[]): void {
  changeStock(tx, units, 1);
}

/** In the commit of `tx`: books sold goods that came back. Their stock must be locked. */
export function bookReturned(tx: Tx, units: readonly Units[], { who, why }: { who: string; why: string }): void {
  deferMovements(
    tx,
    units.map(({ productId, quantity }) => ({ productId, delta: quantity, kind: 'returned', who, why })),
  );
}

/** One change per product, however many orders it is in. */
function changeStock(tx: Tx, units: readonly Units[], sign: 1 | -1): void {
  const deltas = new Map<string, number>();
  for (const { productId, quantity } of units) deltas.set(productId, (deltas.get(productId) ?? 0) + sign * quantity);
  deferStockChange(tx, [...deltas.keys()], [...deltas.values()]);
}
