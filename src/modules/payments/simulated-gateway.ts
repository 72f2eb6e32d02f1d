import { createHash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Database } from '../../platform/db.ts';
import { newId } from '../../shared/ids.ts';
import {
  type Authorization,
  type AuthorizeRequest,
  type Capture,
  type CaptureRequest,
  GatewayRefusedRequest,
  type PaymentGateway,
} from './payments.service.ts';
import { findEntry, type JournalRow, writeEntryOnce } from './simulated-gateway.sql.ts';

/** Test tokens that are declined, and what the shopper is told. Every other token is approved. */
const declined: ReadonlyMap<string, string> = new Map([
  ['tok_fail', 'Insufficient funds'],
  ['tok_failure', 'Insufficient funds'],
]);

/**
 * A payment provider of one's own for development and tests. It takes no money and keeps a journal as a real one would:
 * through `journal`, a connection that the shop's transactions never use. Half of `latencyMs` passes before an answer
 * is in the journal, half after.
 */
export function openSimulatedGateway(options: { journal: Database; latencyMs: number }): PaymentGateway {
  const { journal, latencyMs } = options;
  return {
    authorize: (request) => delayed(latencyMs, () => authorize(journal, request)),
    capture: (request) => delayed(latencyMs, () => capture(journal, request)),
    close: () => journal.close(),
  };
}

async function delayed<T>(latencyMs: number, answer: () => Promise<T>): Promise<T> {
  if (latencyMs === 0) return answer();
  await sleep(latencyMs / 2);
  const result = await answer();
  await sleep(latencyMs / 2);
  return result;
}

async function authorize(journal: Database, request: AuthorizeRequest): Promise<Authorization> {
  const message = declined.get(request.paymentToken) ?? null;
  const entry = await record(journal, {
    key: request.key,
    operation: 'authorize',
    authorization_key: null,
    amount: request.amount,
    currency: request.currency,
    request_digest: digestOf(['authorize', request.paymentToken, request.amount, request.currency]),
    approved: message === null,
    message,
  });
  return entry.approved
    ? { approved: true, reference: entry.reference }
    : { approved: false, message: entry.message ?? 'Declined' };
}

async function capture(journal: Database, request: CaptureRequest): Promise<Capture> {
  await checkCanBeCaptured(journal, request);
  const entry = await record(journal, {
    key: request.key,
    operation: 'capture',
    authorization_key: request.authorizationKey,
    amount: request.amount,
    currency: request.currency,
    request_digest: digestOf(['capture', request.authorizationKey, request.amount, request.currency]),
    approved: true,
    message: null,
  });
  return { reference: entry.reference };
}

async function checkCanBeCaptured(journal: Database, request: CaptureRequest): Promise<void> {
  const authorization = await findEntry(journal, request.authorizationKey);
  if (!authorization?.approved) throw new GatewayRefusedRequest(`${request.authorizationKey} is not authorized`);
  if (request.amount > authorization.amount || request.currency !== authorization.currency)
    throw new GatewayRefusedRequest(`${request.key} asks for more than was authorized`);
}

/** The first request under a key decides; the same request again gets the same answer, another one is refused. */
async function record(journal: Database, entry: Omit<JournalRow, 'reference'>): Promise<JournalRow> {
  const recorded = await writeEntryOnce(journal, { ...entry, reference: newId() });
  if (recorded.request_digest !== entry.request_digest)
    throw new GatewayRefusedRequest(`${entry.key} was used before for another request`);
  return recorded;
}

/** The journal is a book that people read: it must not hold payment tokens. */
function digestOf(parts: readonly (string | number)[]): string {
  return createHash('sha256').update(JSON.stringify(parts)).digest('base64url');
}
