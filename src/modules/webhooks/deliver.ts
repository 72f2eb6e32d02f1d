import type { JobResult } from 'pg-boss';
import type { Database } from '../../platform/db.ts';
import { getOrder } from '../orders/orders.service.ts';
import { type EventJob, messageOf } from './message.ts';
import { type Answer, send } from './send.ts';
import { disable, findActiveRecipient, type Recipient } from './webhooks.sql.ts';

export type Delivery = Readonly<{ id: string; data: EventJob; signal: AbortSignal }>;

/** What deliveries are made with. `onFailure` is told of each that an endpoint did not take. */
export type DeliveryDesk = Readonly<{
  database: Database;
  allowPrivate: boolean;
  deadlineMs: number;
  onFailure: (endpointId: string, reason: string) => void;
}>;

const gone = 410;

/** Tells an endpoint of an event. What is for one that was removed, or is disabled, is dropped. */
export async function deliver(
  desk: DeliveryDesk,
  endpointId: string,
  { id, data, signal }: Delivery,
): Promise<JobResult> {
  const recipient = await findActiveRecipient(desk.database, endpointId);
  if (!recipient) return { id, status: 'completed', output: { dropped: 'the endpoint is gone' } };
  const answer = await tell(desk, recipient, data, signal);
  if ('status' in answer && answer.status === gone) await disable(desk.database, endpointId);
  if (isTaken(answer)) return { id, status: 'completed', output: answer };
  desk.onFailure(endpointId, wordOf(answer));
  return { id, status: 'failed', output: answer };
}

/** Whether nothing more is to be sent: the endpoint has it, or wants nothing any more. */
function isTaken(answer: Answer): boolean {
  return 'status' in answer && (isSuccess(answer.status) || answer.status === gone);
}

/** Whether an endpoint that answers so has taken the message. */
export function isSuccess(status: number): boolean {
  return status >= 200 && status < 300;
}

/** An answer in words. */
export function wordOf(answer: Answer): string {
  return 'status' in answer ? `status ${answer.status}` : answer.failure;
}

/** A message that cannot be rendered is tried again like one that was not taken. */
async function tell(desk: DeliveryDesk, recipient: Recipient, event: EventJob, signal: AbortSignal): Promise<Answer> {
  try {
    const message = messageOf(event, await getOrder(desk.database, event.order_id));
    return await send(recipient, event.event_id, message, { ...desk, signal });
  } catch (error) {
    return { failure: error instanceof Error ? error.message : String(error) };
  }
}
