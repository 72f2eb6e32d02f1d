import { hash } from 'node:crypto';
import type { Database } from '../../platform/db.ts';
import {
  type AuthorizeAnswer,
  type AuthorizeRequest,
  type CaptureAnswer,
  type CaptureRequest,
  type GatewayRecord,
  GatewayRefusedRequest,
  GatewayUnanswered,
  type PaymentGateway,
  type RefundAnswer,
  type RefundRequest,
  type VoidAnswer,
  type VoidRequest,
} from './payments.service.ts';
import type { JournalRow, Standing } from './simulated-gateway.sql.ts';
import { type Journal, openJournal } from './simulated-journal.ts';
import { type NetworkOptions, openNetwork } from './simulated-network.ts';

/** What the shopper is told. */
const declinedMessage = 'Insufficient funds';
const captureRefusedMessage = 'Card was blocked';

/**
 * A payment provider of one's own for development and tests. It takes no money and keeps a journal as a real one would:
 * through `journal`, a connection that the shop's transactions never use, calls that come together in one commit. What
 * goes wrong on the way to it, and when, is in docs/simulated-gateway.md.
 */
export function openSimulatedGateway(
  options: NetworkOptions & Readonly<{ journal: Database; onSplit: (error: unknown, size: number) => void }>,
): PaymentGateway {
  const journal = openJournal(options.journal, options.onSplit);
  const network = openNetwork(options);
  return {
    authorize: (request) => {
      const { key, paymentToken } = request;
      return network.carry({ name: 'authorize', key, paymentToken }, (faults) =>
        authorize(journal, request, faults.has('decline') ? declinedMessage : null),
      );
    },
    capture: (request) => {
      const { paymentToken } = request.authorization;
      return network.carry({ name: 'capture', key: request.key, paymentToken }, (faults) =>
        capture(journal, request, faults.has('capture_refused') ? captureRefusedMessage : null),
      );
    },
    void: (request) => {
      const { paymentToken } = request.authorization;
      return network.carry({ name: 'void', key: request.key, paymentToken }, () => voidAuthorization(journal, request));
    },
    refund: (request) => network.carry({ name: 'refund', key: request.key }, () => refund(journal, request)),
    lookup: (key) => network.carry({ name: 'lookup', key }, () => lookup(journal, key)),
    listAuthorizations: (request) =>
      network.carry({ name: 'list', key: request.afterKey ?? '' }, () => journal.authorizations(request)),
    close: () => {
      network.close();
      return journal.close();
    },
  };
}

async function authorize(
  journal: Journal,
  request: AuthorizeRequest,
  declinedWith: string | null,
): Promise<AuthorizeAnswer> {
  const { entry } = await journal.record({
    key: request.key,
    operation: 'authorize',
    authorization_key: null,
    amount: request.amount,
    currency: request.currency,
    request_digest: digestOf(request),
    approved: declinedWith === null,
    closed: false,
    message: declinedWith,
  });
  if (!entry) throw cameTogether(request.key);
  if (entry.closed) return { outcome: 'closed' };
  return entry.approved
    ? { outcome: 'approved', reference: entry.reference }
    : { outcome: 'declined', message: entry.message ?? 'Declined' };
}

/** A refusal takes no place that a void could have taken before it, so whether one has is asked first. */
async function capture(journal: Journal, request: CaptureRequest, refusedWith: string | null): Promise<CaptureAnswer> {
  const { key, authorization } = request;
  if (refusedWith !== null && (await journal.endOf(authorization.key))?.operation === 'void')
    return { outcome: 'closed' };
  const standing = await journal.record({
    ...entryAbout(authorization, digestOf(authorization)),
    key,
    operation: 'capture',
    approved: refusedWith === null,
    message: refusedWith,
  });
  const { entry } = standing;
  if (!entry) return answerWithoutCapture(standing, request);
  return entry.approved
    ? { outcome: 'captured', reference: entry.reference }
    : { outcome: 'refused', message: entry.message ?? 'Refused' };
}

function answerWithoutCapture({ authorization, end }: Standing, request: CaptureRequest): CaptureAnswer {
  const { key } = request.authorization;
  if (!authorization) throw new GatewayRefusedRequest(`${key} cannot be captured: it was never authorized`);
  mustBeOf(authorization, digestOf(request.authorization));
  if (authorization.closed || end?.operation === 'void') return { outcome: 'closed' };
  if (end) throw new GatewayRefusedRequest(`${key} was captured before, under ${end.key}`);
  if (!authorization.approved) throw new GatewayRefusedRequest(`${key} cannot be captured: it was declined`);
  throw cameTogether(key);
}

async function voidAuthorization(journal: Journal, { key, authorization }: VoidRequest): Promise<VoidAnswer> {
  const digest = await digestToVoid(journal, authorization);
  const standing = await journal.record({ ...entryAbout(authorization, digest), key, operation: 'void' });
  if (standing.entry) return { outcome: 'closed' };
  if (standing.authorization) mustBeOf(standing.authorization, digest);
  if (!standing.end) throw cameTogether(authorization.key);
  const { operation, reference } = standing.end;
  return operation === 'capture' ? { outcome: 'captured', reference } : { outcome: 'closed' };
}

/** What is on record stays there, so that a void without the token can be taken for one of what is found first. */
async function digestToVoid(journal: Journal, { key, ...request }: VoidRequest['authorization']): Promise<string> {
  const { paymentToken } = request;
  if (paymentToken !== null) return digestOf({ ...request, paymentToken });
  const found = await journal.find(key);
  if (found?.operation === 'authorize' && found.amount === request.amount && found.currency === request.currency)
    return found.request_digest;
  throw new GatewayRefusedRequest(
    `${key} cannot be voided without its payment token: no authorization of ${request.amount} ${request.currency} is on record`,
  );
}

/** A capture stays for good, so it can be looked for first. Of two refunds the first in the journal stands. */
async function refund(journal: Journal, request: RefundRequest): Promise<RefundAnswer> {
  const { key, authorizationKey, amount, currency } = request;
  const captured = await journal.endOf(authorizationKey);
  if (captured?.operation !== 'capture')
    throw new GatewayRefusedRequest(`${authorizationKey} cannot be refunded: it is not captured`);
  if (captured.amount !== amount || captured.currency !== currency)
    throw new GatewayRefusedRequest(`${authorizationKey} was captured for another amount than ${amount} ${currency}`);
  const { entry } = await journal.record({
    ...entryAbout({ key: authorizationKey, amount, currency }, captured.request_digest),
    key,
    operation: 'refund',
  });
  return entry
    ? { outcome: 'refunded', reference: entry.reference }
    : { outcome: 'refused', message: 'Refunded before' };
}

async function lookup(journal: Journal, key: string): Promise<GatewayRecord | null> {
  const entry = await journal.find(key);
  if (!entry) return null;
  const { operation, approved, amount, currency, reference } = entry;
  return { operation, approved, amount, currency, reference };
}

type Authorization = Omit<AuthorizeRequest, 'paymentToken'>;

/** What all that draws on an authorization has in common. */
function entryAbout({ key, amount, currency }: Authorization, digest: string) {
  const about = { authorization_key: key, amount, currency, request_digest: digest };
  return { ...about, approved: true, closed: false, message: null } as const;
}

/** A capture brings the request along that it draws on: the digest of that one is there already. */
const digests = new WeakMap<Omit<AuthorizeRequest, 'key'>, string>();

/** The journal is a book that people read: it must not hold payment tokens. */
function digestOf(request: Omit<AuthorizeRequest, 'key'>): string {
  const known = digests.get(request);
  if (known) return known;
  const { paymentToken, amount, currency } = request;
  const digest = hash('sha256', JSON.stringify(['authorize', paymentToken, amount, currency]), 'base64url');
  digests.set(request, digest);
  return digest;
}

function mustBeOf(authorization: JournalRow, digest: string): void {
  if (authorization.operation !== 'authorize' || authorization.request_digest !== digest)
    throw new GatewayRefusedRequest(`${authorization.key} was used before for another request than this one names`);
}

/** What kept a call out of the journal was not there a moment later, or the other way round: it can be asked again. */
function cameTogether(key: string): GatewayUnanswered {
  return new GatewayUnanswered(`Calls about ${key} came together and nothing was recorded for this one`);
}
