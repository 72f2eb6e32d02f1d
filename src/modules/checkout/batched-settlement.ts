import { Coalescer } from '../../platform/coalescer.ts';
import { type Database, isDataFault, isLockTimeout, type Tx } from '../../platform/db.ts';
import { findHeldBaskets } from '../basket/basket.service.ts';
import { findHeldStock } from '../inventory/inventory.service.ts';
import type { OutcomeEvent } from '../notifications/notifications.service.ts';
import { findHeldOrders, readHeldLines } from './settle.sql.ts';
import { type Settlement, settleOrders } from './settle.ts';

type Answer = OutcomeEvent | null;

/** One batch at a time: each has a commit to pay for, so fewer and larger ones are cheaper than two that overlap. */
const limits = { waiting: 10_000, waitingPerKey: 64, batch: 1_000, inFlight: 1, waitMs: 10_000 };
/** Batches that run into one held row after another are given up: each order is tried again by its worker. */
const mostDetours = 3;

/**
 * Settles orders in batches that form by themselves. Where somebody else holds a row for long, the orders that need
 * it are refused, to be tried again, and the rest of the batch goes on.
 */
export class BatchedSettlement {
  readonly #database: Database;
  readonly #line: Coalescer<Settlement, Answer>;

  constructor(database: Database, onError: (error: Error) => void) {
    this.#database = database;
    this.#line = new Coalescer({
      name: 'settlements',
      run: (settlements) => this.#settleAround(settlements, 0),
      keyOf: ({ work }) => work.basketId,
      isMemberFault: isDataFault,
      onSplit: (error) => onError(error as Error),
      limits,
    });
  }

  /** Settles one order; see {@link settleOrders} for the answer. */
  submit(settlement: Settlement): Promise<Answer> {
    return this.#line.submit(settlement);
  }

  async #settleAround(settlements: readonly Settlement[], detours: number): Promise<(Answer | Promise<Answer>)[]> {
    try {
      return await this.#database.transaction((tx) => settleOrders(tx, settlements));
    } catch (error) {
      if (!isLockTimeout(error) || settlements.length === 1 || detours >= mostDetours) throw error;
      const held = await this.#database.transaction((tx) => findHeld(tx, settlements));
      const free = settlements.filter((settlement) => !held.has(settlement));
      const served = free.length === 0 ? [] : await this.#settleAround(free, detours + 1);
      const answers = new Map(free.map((settlement, index) => [settlement, served[index]]));
      return settlements.map((settlement) =>
        held.has(settlement) ? refusal(error) : (answers.get(settlement) ?? null),
      );
    }
  }
}

/** Which of the settlements need a row that somebody holds at this moment. Waits for no lock. */
async function findHeld(tx: Tx, settlements: readonly Settlement[]): Promise<Set<Settlement>> {
  const heldBaskets = await findHeldBaskets(
    tx,
    settlements.map(({ work }) => work.basketId),
  );
  const heldOrders = await findHeldOrders(
    tx,
    settlements.map(({ work }) => work.orderId),
  );
  const declined = settlements.filter(({ outcome }) => !outcome.captured).map(({ work }) => work.orderId);
  const needy = await findOrdersOfHeldGoods(tx, declined);
  const isHeld = ({ work }: Settlement): boolean =>
    heldBaskets.has(work.basketId) || heldOrders.has(work.orderId) || needy.has(work.orderId);
  return new Set(settlements.filter(isHeld));
}

/** Their lines go back into the stock. */
async function findOrdersOfHeldGoods(tx: Tx, declined: readonly string[]): Promise<Set<string>> {
  const lines = await readHeldLines(tx, declined);
  const products = [...new Set(lines.map((line) => line.product_id))];
  const held = await findHeldStock(tx, products);
  return new Set(lines.filter((line) => held.has(line.product_id)).map((line) => line.order_id));
}

/** Handed on later: until then it must not count as one that nobody listens to. */
function refusal(error: unknown): Promise<never> {
  const refused = Promise.reject(error);
  refused.catch(() => undefined);
  return refused;
}
