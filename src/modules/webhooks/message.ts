import type { OrderStatus } from '../orders/orders.service.ts';
import type { EventKind } from './webhooks.sql.ts';

/** What a job carries: which event is to be told. The message is rendered when it is sent. */
export type EventJob = Readonly<{ event_id: string; order_id: string; kind: EventKind; occurred_at: string }>;

/** The body of a message (Standard Webhooks). */
export type WebhookMessage = Readonly<{ type: string; timestamp: string; data: Readonly<Record<string, unknown>> }>;

/**
 * The message that tells of an event, from its order as it is now. Nothing in it opens anything, and nothing tells who or
 * where the shopper is. Throws when a sold order is not to be seen as sold (yet).
 */
export function messageOf(event: EventJob, { id, status, order, error }: OrderStatus): WebhookMessage {
  const isSold = event.kind === 'completed' || event.kind === 'refunded';
  if (isSold !== (order !== null)) throw new Error(`Order ${id} has the event ${event.kind} but is ${status}`);
  return {
    type: `order.${event.kind}`,
    timestamp: event.occurred_at,
    data: {
      id,
      status,
      order: order && {
        id: order.id,
        created_at: order.created_at,
        total_price: order.total_price,
        order_products: order.order_products,
      },
      error,
    },
  };
}

/** A message that only tries an endpoint out. */
export function testMessage(endpointId: string, now: Date): WebhookMessage {
  return { type: 'webhook.test', timestamp: now.toISOString(), data: { endpoint_id: endpointId } };
}
