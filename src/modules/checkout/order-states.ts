import type { OrderState } from '../orders/orders.service.ts';

/**
 * The life of an order. Several steps may share a commit, so an order may be seen to jump ahead; the database refuses
 * every transition that is not in this table (trigger `order_states_transition`).
 *
 *     pending -> authorized -> captured -> completed -> refunded
 *        |            |
 *        +------------+-----> failed | cancelled
 */
export const transitions: Readonly<Record<OrderState, readonly OrderState[]>> = {
  pending: ['authorized', 'captured', 'completed', 'failed', 'cancelled'],
  authorized: ['captured', 'completed', 'failed', 'cancelled'],
  captured: ['completed'],
  completed: ['refunded'],
  failed: [],
  cancelled: [],
  refunded: [],
};
