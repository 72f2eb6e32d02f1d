import { hash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { Coalescer } from '../../platform/coalescer.ts';
import { type Database, isDataFault } from '../../platform/db.ts';
import { newId } from '../../shared/ids.ts';
import {
  type Authorization,
  type AuthorizeRequest,
  type Capture,
  type CaptureRequest,
  GatewayRefusedRequest,
  type PaymentGateway,
} from './payments.service.ts';
import { type JournalRow, writeEntriesOnce } from './simulated-gateway.sql.ts';

/** Test tokens that are declined, and what the shopper is told. Every other token is approved. */
const declined: ReadonlyMap<string, string> = new Map([
  ['tok_fail', 'Insufficient funds'],
  ['tok_failure', 'Insufficient funds'],
]);

const journalLimits = { waiting: 20_000, waitingPerKey: 64, batch: 500, inFlight: 2, waitMs: 8_000 };

/** Writes one call into the journal and returns the entry that its key has then, if any. */
type Record = (entry: JournalRow) => Promise<JournalRow | undefined>;

/**
 * A payment provider of one's own for development and tests. It takes no money and keeps a journal as a real one would:
 * through `journal`, a connection that the shop's transactions never use, calls that come together in one commit. Half
 * of `latencyMs` passes before an answer is in the journal, half after.
 */
export function openSimulatedGateway(options: {
  journal: Database;
  latencyMs: number;
  onSplit: (error: unknown, size: number) => void;
}): PaymentGateway {
  const { journal, latencyMs, onSplit } = options;
  const line = new Coalescer<JournalRow, JournalRow | undefined>({
    run: async (entries) => {
      const held = await writeEntriesOnce(journal, entries);
      return entries.map((entry) => held.get(entry.key));
    },
    keyOf: (entry) => entry.key,
    isMemberFault: isDataFault,
    onSplit,
    limits: journalLimits,
  });
  const record: Record = (entry) => line.submit(entry);
  return {
    authorize: (request) => delayed(latencyMs, () => authorize(record, request)),
    capture: (request) => delayed(latencyMs, () => capture(record, request)),
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

async function authorize(record: Record, request: AuthorizeRequest): Promise<Authorization> {
  const message = declined.get(request.paymentToken) ?? null;
  const entry = await recordOnce(record, {
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

async function capture(record: Record, request: CaptureRequest): Promise<Capture> {
  const entry = await recordOnce(record, {
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

/** The first request under a key decides; the same request again gets the same answer, another one is refused. */
async function recordOnce(record: Record, entry: Omit<JournalRow, 'reference'>): Promise<JournalRow> {
  const recorded = await record({ ...entry, reference: newId() });
  if (!recorded) throw new GatewayRefusedRequest(`${entry.authorization_key} is not authorized for as much`);
  if (recorded.request_digest !== entry.request_digest)
    throw new GatewayRefusedRequest(`${entry.key} was used before for another request`);
  return recorded;
}

/** The journal is a book that people read: it must not hold payment tokens. */
function digestOf(parts: readonly (string | number)[]): string {
  return hash('sha256', JSON.stringify(parts), 'base64url');
}
