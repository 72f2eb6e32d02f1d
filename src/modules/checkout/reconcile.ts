import { CommitUnknown, type Database, type Reader } from '../../platform/db.ts';
import { isUuid } from '../../shared/ids.ts';
import { Unavailable } from '../../shared/refusal.ts';
import {
  type GatewayAuthorization,
  GatewayUnanswered,
  type PaymentGateway,
  paymentKey,
} from '../payments/payments.service.ts';
import {
  type BookedAttempt,
  type PaidAttempt,
  readAttempts,
  readNow,
  readPaid,
  recordMoneyReturned,
} from './reconcile.sql.ts';

/** Where the two books differ, or differed: `acted` says that the money was given back. */
export type Discrepancy = Readonly<{ key: string; problem: string; acted: boolean }>;

/** What a comparison came to: `compared` counts each payment once that is in either book. */
export type Reconciliation = Readonly<{ compared: number; discrepancies: readonly Discrepancy[] }>;

export type ReconcilerDesk = Readonly<{ database: Database; gateway: PaymentGateway }>;

/** From `since` on, up to before `until`. */
export type Period = Readonly<{ since: Date; until: Date }>;

const pageSize = 500;
/** What is newer may still be on its way. */
const unripeMs = 60_000;

/** The latest `lengthMs` that can be compared, by the database's clock: that of a process may be wrong. */
export async function lastPeriod(reader: Reader, lengthMs: number): Promise<Period> {
  const untilMs = (await readNow(reader)).getTime() - unripeMs;
  return { since: new Date(untilMs - lengthMs), until: new Date(untilMs) };
}

/** The payments of pages of the gateway's book: whether our books say just the same of each. */
type Listed = ReadonlyMap<string, boolean>;

/** Part of our book: orders from `fromOrderId` on, up to before `untilOrderId`; null: to the end. */
type Stretch = Period & Readonly<{ fromOrderId: string; untilOrderId: string | null }>;

/** Of an order that was paid longer after its acceptance, only the gateway's list tells. */
const longestWayMs = 7 * 86_400_000;

/** What no order has an id below that was accepted from `time` on: ids are UUIDv7 (RFC 9562), which begin with theirs. */
function lowestIdAt(time: number): string {
  const hex = Math.max(0, time).toString(16).padStart(12, '0');
  return `${hex.slice(0, 8)}-${hex.slice(8)}-0000-0000-000000000000`;
}

/**
 * Compares the gateway's book with ours from `since` on, up to `until`: what is newer may still be on its way. Money that
 * the gateway has for an order that was not sold (a success that came late) is voided or refunded; anything else that
 * differs is only told, for people to look at. Both books are read side by side, a page of each at a time: only what the
 * gateway's does not confirm is asked for by itself.
 */
export async function reconcile(desk: ReconcilerDesk, since: Date, until: Date): Promise<Reconciliation> {
  const discrepancies: Discrepancy[] = [];
  let compared = 0;
  let fromOrderId = lowestIdAt(since.getTime() - longestWayMs);
  let listed: Listed = new Map();
  for (let afterKey: string | null = null; ; ) {
    const page: TheirPage = await listTheirs(desk.gateway, since, afterKey);
    const theirs = await compareTheirs(desk, page.authorizations);
    listed = new Map([...paymentsOf(fromOrderId, listed), ...theirs.listed]);
    const untilOrderId: string | null = page.isLast ? null : borderAfter(page.authorizations, fromOrderId);
    const ours = await compareOurs(desk, { since, until, fromOrderId, untilOrderId }, listed);
    compared += page.authorizations.length + ours.compared;
    discrepancies.push(...theirs.discrepancies, ...page.failures, ...ours.discrepancies);
    if (untilOrderId === null) return { compared, discrepancies };
    fromOrderId = untilOrderId;
    afterKey = page.authorizations.at(-1)?.key ?? null;
  }
}

/** The last order of a page: the next page may have more attempts to pay it. */
function borderAfter(page: readonly GatewayAuthorization[], fromOrderId: string): string {
  const last = page.findLast(({ key }) => attemptOf(key) !== null);
  const orderId = last && attemptOf(last.key)?.orderId;
  return orderId !== undefined && orderId > fromOrderId ? orderId : fromOrderId;
}

function paymentsOf(orderId: string, listed: Listed): [string, boolean][] {
  return [...listed].filter(([payment]) => payment.startsWith(orderId));
}

async function compareTheirs(
  desk: ReconcilerDesk,
  page: readonly GatewayAuthorization[],
): Promise<{ discrepancies: Discrepancy[]; listed: Listed }> {
  const attempts = page.map(({ key }) => attemptOf(key)).filter((attempt) => attempt !== null);
  const known = await readAttempts(desk.database, attempts);
  const bookedOf = new Map(known.map((row) => [nameOf(row.order_id, row.attempt), row]));
  const discrepancies: Discrepancy[] = [];
  const listed = new Map<string, boolean>();
  for (const authorization of page) {
    const attempt = attemptOf(authorization.key);
    const name = attempt && nameOf(attempt.orderId, attempt.attempt);
    const booked = name === null ? undefined : bookedOf.get(name);
    const found = await compare(desk, authorization, booked).catch((error: Error) =>
      notCompared(authorization.key, error),
    );
    if (found) discrepancies.push(found);
    if (name !== null) listed.set(name, !found && booked?.payment_state === authorization.state);
  }
  return { discrepancies, listed };
}

function nameOf(orderId: string, attempt: number): string {
  return `${orderId}:${attempt}`;
}

type TheirPage = Readonly<{
  authorizations: readonly GatewayAuthorization[];
  failures: readonly Discrepancy[];
  isLast: boolean;
}>;

/** A page of the gateway's book; what can be compared without it still is. */
async function listTheirs(gateway: PaymentGateway, since: Date, afterKey: string | null): Promise<TheirPage> {
  try {
    const authorizations = await gateway.listAuthorizations({ since, afterKey, limit: pageSize });
    return { authorizations, failures: [], isLast: authorizations.length < pageSize };
  } catch (error) {
    if (!(error instanceof GatewayUnanswered)) throw error;
    const key = afterKey === null ? 'from the first on' : `after ${afterKey}`;
    const problem = `The gateway did not list its payments; compare again: ${error.message}`;
    return { authorizations: [], failures: [{ key, problem, acted: false }], isLast: true };
  }
}

/** One payment of which the gateway says nothing that can be used must not keep the others from being compared. */
function notCompared(key: string, error: Error): Discrepancy {
  if (error instanceof Unavailable || error instanceof CommitUnknown) throw error;
  return { key, problem: `Could not be compared; do it again: ${error.message}`, acted: false };
}

/** Null where the books agree, or the order is still open: then its worker will bring its payment to an end. */
async function compare(
  desk: ReconcilerDesk,
  theirs: GatewayAuthorization,
  ours: BookedAttempt | undefined,
): Promise<Discrepancy | null> {
  const told = (problem: string): Discrepancy => ({ key: theirs.key, problem, acted: false });
  if (!ours?.order_state) return told('The gateway has a payment of an order that does not exist');
  if (theirs.amount !== ours.total || theirs.currency !== ours.currency)
    return told(`The gateway has ${theirs.amount} ${theirs.currency}, the order ${ours.total} ${ours.currency}`);
  const isPaying = ours.payment_state === 'captured' || ours.payment_state === 'refunded';
  if (isPaying && ours.order_state !== 'failed' && ours.order_state !== 'cancelled')
    return (await saysSo(desk, theirs, ours))
      ? null
      : told(`The gateway says ${theirs.state}, our books say ${ours.payment_state}`);
  if (isOpen(ours) || theirs.state === 'voided' || theirs.state === 'refunded') return null;
  return (await wasVoidedSince(desk, theirs, ours)) ? null : giveBack(desk, theirs, ours);
}

/** Asked once more where they differ: the payment may have gone on since the gateway made its list. */
async function saysSo(
  { gateway }: ReconcilerDesk,
  theirs: GatewayAuthorization,
  ours: BookedAttempt,
): Promise<boolean> {
  if (theirs.state === ours.payment_state) return true;
  const step = ours.payment_state === 'refunded' ? 'refund' : 'capture';
  const record = await gateway.lookup(paymentKey(ours.order_id, ours.attempt, step));
  return record?.approved === true && theirs.state !== 'voided' && theirs.state !== 'refunded';
}

/** The order is not over, and this is the attempt by which it is being paid. */
function isOpen({ order_state: order, payment_state: payment }: BookedAttempt): boolean {
  const isUnderWay = order === 'pending' || order === 'authorized' || order === 'captured';
  return isUnderWay && payment !== 'voided' && payment !== 'declined';
}

/** Since the gateway made its list: an order can end in that moment. */
async function wasVoidedSince(
  { gateway }: ReconcilerDesk,
  theirs: GatewayAuthorization,
  ours: BookedAttempt,
): Promise<boolean> {
  if (theirs.state !== 'authorized' || ours.payment_state !== 'voided') return false;
  const record = await gateway.lookup(paymentKey(ours.order_id, ours.attempt, 'void'));
  return record?.approved === true;
}

/** One payment that the gateway does not answer for must not keep the others from being compared. */
async function giveBack(desk: ReconcilerDesk, theirs: GatewayAuthorization, ours: BookedAttempt): Promise<Discrepancy> {
  const was = theirs.state === 'captured' ? 'Captured' : 'Authorized';
  const found = `${was} for an order that is ${ours.order_state}`;
  try {
    const isVoided = theirs.state === 'authorized' && (await voidAuthorization(desk, theirs, ours));
    if (!isVoided) await refundCapture(desk, theirs, ours);
    return { key: theirs.key, problem: `${found}: ${isVoided ? 'voided' : 'refunded'}`, acted: true };
  } catch (error) {
    if (!(error instanceof NotGivenBack || error instanceof GatewayUnanswered)) throw error;
    return { key: theirs.key, problem: `${found}, and not given back: ${error.message}`, acted: false };
  }
}

/** Thrown where the gateway refuses a refund; the message is its own. */
class NotGivenBack extends Error {}

/** False where a capture came first: then the money is to be refunded. */
async function voidAuthorization(
  { database, gateway }: ReconcilerDesk,
  { key, amount, currency }: GatewayAuthorization,
  { order_id: orderId, attempt }: BookedAttempt,
): Promise<boolean> {
  const authorization = { key, paymentToken: null, amount, currency };
  const answer = await gateway.void({ key: paymentKey(orderId, attempt, 'void'), authorization });
  if (answer.outcome === 'captured') return false;
  await recordMoneyReturned(database, { orderId, attempt, state: 'voided', amount });
  return true;
}

async function refundCapture(
  { database, gateway }: ReconcilerDesk,
  { key: authorizationKey, amount, currency }: GatewayAuthorization,
  { order_id: orderId, attempt }: BookedAttempt,
): Promise<void> {
  const key = paymentKey(orderId, attempt, 'refund');
  const answer = await gateway.refund({ key, authorizationKey, amount, currency });
  if (answer.outcome === 'refused') throw new NotGivenBack(answer.message);
  await recordMoneyReturned(database, { orderId, attempt, state: 'refunded', amount });
}

async function compareCapture(gateway: PaymentGateway, key: string): Promise<Discrepancy | null> {
  const isCaptured = (await gateway.lookup(key))?.approved;
  return isCaptured ? null : { key, problem: 'Paid in our books, and not captured in the gateway’s', acted: false };
}

/** `compared` counts only those that the gateway did not list. */
async function compareOurs(
  { database, gateway }: ReconcilerDesk,
  stretch: Stretch,
  listed: Listed,
): Promise<Reconciliation> {
  const discrepancies: Discrepancy[] = [];
  let compared = 0;
  for (let afterOrderId: string | null = null; ; ) {
    const page: PaidAttempt[] = await readPaid(database, { ...stretch, afterOrderId, limit: pageSize });
    compared += page.filter((row) => !listed.has(nameOf(row.order_id, row.attempt))).length;
    const unconfirmed = page.filter((row) => listed.get(nameOf(row.order_id, row.attempt)) !== true);
    const keys = unconfirmed.map((row) => paymentKey(row.order_id, row.attempt, 'capture'));
    const found = await Promise.all(
      keys.map((key) => compareCapture(gateway, key).catch((error: Error) => notCompared(key, error))),
    );
    discrepancies.push(...found.filter((one) => one !== null));
    afterOrderId = page.at(-1)?.order_id ?? null;
    if (page.length < pageSize) return { compared, discrepancies };
  }
}

/** Null for a key that no order of ours can have. */
function attemptOf(key: string): { orderId: string; attempt: number } | null {
  const [orderId, attempt] = key.split(':');
  return isUuid(orderId) && orderId === orderId.toLowerCase() && /^\d{1,9}$/.test(attempt ?? '')
    ? { orderId, attempt: Number(attempt) }
    : null;
}
