import { expect, it } from 'vitest';
import type { ListedOrder } from '../modules/orders/order-desk.service.ts';
import { orderTable } from './order-page.ts';

const waited: ListedOrder = {
  number: '7K3M-Q0XD',
  state: 'pending',
  created_at: new Date('2026-01-02T03:04:05Z'),
  total: 1_000,
  currency: 'USD',
  parked_reason: null,
  unanswered_since: new Date('2026-01-02T03:04:06Z'),
  error_message: null,
};

it('says of an open order that the gateway does not answer, or that it is parked', () => {
  expect(orderTable([waited])).toMatch(/no answer from the gateway since 2026-01-02T03:04:06\.000Z$/);
  expect(orderTable([{ ...waited, parked_reason: 'Five failures' }])).toMatch(/parked: Five failures$/);
});

it.each(['completed', 'failed', 'cancelled', 'refunded'] as const)(
  'says nothing of the kind of an order that is %s',
  (state) => {
    const ended = orderTable([{ ...waited, state, parked_reason: 'Five failures', error_message: 'How it ended' }]);
    expect(ended).not.toMatch(/no answer|parked/);
    expect(ended).toMatch(/How it ended$/);
  },
);
