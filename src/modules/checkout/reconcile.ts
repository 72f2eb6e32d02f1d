import { CommitUnknown, type Database, type Reader } from '../../platform/db.ts';
import { isUuid } from '../../shared/ids.ts';
import { Unavailable } from '../../shared/refusal.ts';
import {
  type GatewayAuthorization,
  GatewayUnanswered,
  type PaymentGateway,
  paymentKey,
} from '../payments/payments.service.ts';
import { type BookedAttempt, readAttempts, readNow, readPaid, recordMoneyReturned } from './reconcile.sql.ts';

/** Where the two books differ, or differed: `acted` says that the money was given back. */
export type Discrepancy = Readonly<{ key: string; problem: string; acted: boolean }>;

/** What a comparison came to: `compared` counts the gateway's authorizations and our paid attempts. */
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

/**
 * Compares the gateway's book with ours from `since` on, up to `until`: what is newer may still be on its way. Money that
 * the gateway has for an order that was not sold (a success that came late) is voided or refunded; anything else that
 * differs is only told, for people to look at.
 */
export async function reconcile(desk: ReconcilerDesk, since: Date, until: Date): Promise<Reconciliation> {
  const theirs = await compareTheirs(desk, since);
  const ours = await compareOurs(desk, since, until);
  return {
    compared: theirs.compared + ours.compared,
    discrepancies: [...theirs.discrepancies, ...ours.discrepancies],
  };
}

async function compareTheirs({ database, gateway }: ReconcilerDesk, since: Date): Promise<Reconciliation> {
  const discrepancies: Discrepancy[] = [];
  let compared = 0;
  for (let afterKey: string | null = null; ; ) {
    const page: readonly GatewayAuthorization[] | Discrepancy = await listTheirs(gateway, since, afterKey);
    if ('problem' in page) return { compared, discrepancies: [...discrepancies, page] };
    compared += page.length;
    const attempts = page.map((authorization) => attemptOf(authorization.key));
    const known = await readAttempts(
      database,
      attempts.flatMap((attempt) => attempt ?? []),
    );
    const bookedOf = new Map(known.map((row) => [`${row.order_id}:${row.attempt}`, row]));
    for (const [index, authorization] of page.entries()) {
      const attempt = attempts[index];
      const booked = attempt ? bookedOf.get(`${attempt.orderId}:${attempt.attempt}`) : undefined;
      const found = await compare({ database, gateway }, authorization, booked).catch((error: Error) =>
        notCompared(authorization.key, error),
      );
      if (found) discrepancies.push(found);
    }
    afterKey = page.at(-1)?.key ?? null;
    if (page.length < pageSize) return { compared, discrepancies };
  }
}

/** A page of the gateway's book; what can be compared without it still is. */
async function listTheirs(
  gateway: PaymentGateway,
  since: Date,
  afterKey: string | null,
): Promise<readonly GatewayAuthorization[] | Discrepancy> {
  try {
    return await gateway.listAuthorizations({ since, afterKey, limit: pageSize });
  } catch (error) {
    if (!(error instanceof GatewayUnanswered)) throw error;
    const key = afterKey === null ? 'from the first on' : `after ${afterKey}`;
    return {
      key,
      problem: `The gateway did not list its payments; compare again: ${error.message}`,
      acted: false,
    };
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

async function compareOurs({ database, gateway }: ReconcilerDesk, since: Date, until: Date): Promise<Reconciliation> {
  const discrepancies: Discrepancy[] = [];
  let compared = 0;
  for (let afterOrderId: string | null = null; ; ) {
    const page: Array<{ order_id: string; attempt: number }> = await readPaid(database, {
      since,
      until,
      afterOrderId,
      limit: pageSize,
    });
    compared += page.length;
    const keys = page.map((row) => paymentKey(row.order_id, row.attempt, 'capture'));
    const found = await Promise.all(
      keys.map((key) => compareCapture(gateway, key).catch((error: Error) => notCompared(key, error))),
    );
    discrepancies.push(...found.filter((one) => one !== null));
    afterOrderId = page.at(-1)?.order_id ?? null;
    if (page.length < pageSize) return { compared, discrepancies };
  }
}

function attemptOf(key: string): { orderId: string; attempt: number } | null {
  const [orderId, attempt] = key.split(':');
  return isUuid(orderId) && /^\d{1,9}$/.test(attempt ?? '') ? { orderId, attempt: Number(attempt) } : null;
}
