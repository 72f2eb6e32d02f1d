import { setTimeout as sleep } from 'node:timers/promises';
import { CommitUnknown, type Database } from '../../platform/db.ts';
import { Unavailable } from '../../shared/refusal.ts';
import { announce, type Notifications } from '../notifications/notifications.service.ts';
import { GatewayUnanswered, type PaymentGateway } from '../payments/payments.service.ts';
import type { AcceptedOrder } from './accept.ts';
import { BatchedSettlement } from './batched-settlement.ts';
import {
  claimFreeOrders,
  claimSuspect,
  parkOrder,
  parkWornOutOrders,
  readOwnedOrders,
  recordAnswered,
  recordUnanswered,
} from './claim.sql.ts';
import { isToBeTold } from './failures.ts';
import type { Owner } from './lease.sql.ts';
import { type Lease, takeLease } from './lease.ts';
import { endPayment } from './pay.ts';
import { readWork, type Work } from './work.ts';

export type OrderWorkerOptions = Readonly<{
  database: Database;
  gateway: PaymentGateway;
  notifications: Notifications;
  /** How often to look for orders that nobody works on. */
  pollMs: number;
  onError: (error: Error) => void;
}>;

/** Orders being paid at the same time; a slow gateway is waited for by many. */
const mostAtOnce = 2_000;
/** Orders known to this worker, waiting ones included; beyond it they stay in the table, free for anybody. */
const mostKnown = 10_000;
const claimAtMost = 500;
const sweepEveryMs = 2_000;
const drainMs = 8_000;
const longestBackoffMs = 5_000;
/** An order that fails so often by what it is, and not for want of an answer, is parked. */
const mostFaults = 5;
/** What was handed over in memory is believed for so long; then the table is asked for its hold and its cancellation. */
const believedForMs = 5_000;

type Job = Readonly<{
  orderId: string;
  owner: Owner;
  handedOver: Work | null;
  isSuspect: boolean;
  takenAtMs: number;
  failures: number;
  /** Those of the failures that no outage explains. */
  faults: number;
}>;

/** The ways of finding orders in the table. */
type Look = 'claim' | 'sweep' | 'suspect';

/** Thrown where a process that was stopped for a while finds that its orders are somebody else's by now. */
class LeaseLost extends Error {}

/**
 * Pays and settles orders: those handed over by the acceptance of its own process, and those that it finds in the
 * table, free or left behind. Start it with {@link startOrderWorker}.
 */
export class OrderWorker {
  readonly #options: OrderWorkerOptions;
  readonly #lease: Lease;
  readonly #known = new Map<string, Job>();
  readonly #waiting: Job[] = [];
  readonly #settlements: BatchedSettlement;
  readonly #timers: NodeJS.Timeout[];
  #running = 0;
  /** The last look found as many free orders as it would take: there may be more. */
  #mayBeMore = false;
  /** Of the latest lease that was told to be lost. */
  #lostEpoch: number | null = null;
  /** Owned orders that the last sweep found and this worker did not know. */
  #unknownBefore: ReadonlySet<string> = new Set();
  readonly #looking = new Set<Look>();
  #isStopping = false;

  constructor(options: OrderWorkerOptions, lease: Lease) {
    this.#options = options;
    this.#lease = lease;
    this.#settlements = new BatchedSettlement(options.database, options.onError);
    this.#timers = [
      setInterval(() => this.#look('claim'), options.pollMs),
      setInterval(() => this.#look('sweep'), sweepEveryMs),
    ];
    this.#look('claim');
  }

  /** Under which owner an order accepted now is to be written; null: leave it free for any worker. */
  owner(): Owner | null {
    const hasRoom = this.#known.size < mostKnown && !this.#isStopping;
    return hasRoom ? this.#lease.owner() : null;
  }

  /** Takes on an order that was accepted under {@link owner}, without a look into the table. */
  handOver(order: AcceptedOrder): void {
    if (order.owner)
      this.#take(order.orderId, order.owner, {
        handedOver: { ...order, holdIsOver: false, isToBeCancelled: false, isUnanswered: false },
      });
  }

  /** Takes no more orders, finishes those at work for up to 8 s and gives up the lease on the rest. */
  async stop(): Promise<void> {
    this.#isStopping = true;
    for (const timer of this.#timers) clearInterval(timer);
    const deadlineMs = performance.now() + drainMs;
    while (this.#running + this.#waiting.length > 0 && performance.now() < deadlineMs) await sleep(10);
    // It runs out by itself: no reason not to stop.
    await this.#lease.release().catch(this.#options.onError);
  }

  /** Never beside another look of the same kind: on a database that stalls they would pile up before the lease's renewal. */
  #look(kind: Look): void {
    if (this.#isStopping || this.#looking.has(kind)) return;
    this.#looking.add(kind);
    const looks = { claim: () => this.#claim(), sweep: () => this.#sweep(), suspect: () => this.#claimSuspect() };
    looks[kind]()
      .catch(this.#options.onError)
      .finally(() => this.#looking.delete(kind));
  }

  async #claim(): Promise<void> {
    const owner = this.owner();
    if (!owner) return;
    const room = Math.min(claimAtMost, mostKnown - this.#known.size);
    const claimed = await claimFreeOrders(this.#options.database, owner, room);
    this.#mayBeMore = claimed.length === room;
    this.#takeAll(claimed, owner);
  }

  /** A long line of free orders is not left to the next look, once there is room for more of it. */
  #claimMore(): void {
    if (!this.#mayBeMore || this.#known.size >= mostKnown / 2) return;
    this.#mayBeMore = false;
    this.#look('claim');
  }

  /**
   * Finds orders whose acceptance this process never learnt of, since the answer to its COMMIT was lost, and sees to those
   * that others have crashed on.
   */
  async #sweep(): Promise<void> {
    const owner = this.owner();
    if (!owner) return;
    await this.#takeForgotten(owner);
    for (const orderId of await parkWornOutOrders(this.#options.database))
      this.#options.onError(new Error(`Order ${orderId} is parked: one worker after the other has crashed on it`));
    if (![...this.#known.values()].some((job) => job.isSuspect)) await this.#claimSuspect();
  }

  /** What was accepted a moment ago may be about to be handed over: only what was unknown the last time, too, is forgotten. */
  async #takeForgotten(owner: Owner): Promise<void> {
    const unknown = (await readOwnedOrders(this.#options.database, owner)).filter((id) => !this.#known.has(id));
    this.#takeAll(
      unknown.filter((id) => this.#unknownBefore.has(id)),
      owner,
    );
    this.#unknownBefore = new Set(unknown);
  }

  /** One at a time: should it crash this process, too, then no other order is blamed for it. */
  async #claimSuspect(): Promise<void> {
    const owner = this.owner();
    if (!owner) return;
    for (const orderId of await claimSuspect(this.#options.database, owner))
      this.#take(orderId, owner, { isSuspect: true });
  }

  #takeAll(orderIds: readonly string[], owner: Owner): void {
    for (const orderId of orderIds) this.#take(orderId, owner, {});
  }

  #take(orderId: string, owner: Owner, { handedOver = null, isSuspect = false }: Partial<Job>): void {
    if (this.#known.get(orderId)?.owner.epoch === owner.epoch) return;
    const job = { orderId, owner, handedOver, isSuspect, takenAtMs: performance.now(), failures: 0, faults: 0 };
    this.#known.set(orderId, job);
    this.#waiting.push(job);
    this.#startWaiting();
  }

  #startWaiting(): void {
    while (this.#running < mostAtOnce) {
      const job = this.#waiting.shift();
      if (!job) return;
      this.#running++;
      void this.#workOn(job);
    }
  }

  async #workOn(job: Job): Promise<void> {
    const next = await this.#tryOnce(job);
    this.#running--;
    if (this.#known.get(job.orderId) === job) {
      if (next && !this.#isStopping) this.#tryAgainLater(next);
      else this.#known.delete(job.orderId);
    }
    this.#startWaiting();
    if (job.isSuspect) this.#look('suspect');
    this.#claimMore();
  }

  /** Null when there is nothing left to do: the order has ended or is parked, or it is not this worker's any more. */
  async #tryOnce(job: Job): Promise<Job | null> {
    if (!this.#lease.isHeldBy(job.owner)) return null;
    try {
      await this.#endPaymentAndSettle(job);
      return null;
    } catch (error) {
      return await this.#afterFailure(job, error as Error);
    }
  }

  async #afterFailure(job: Job, error: Error): Promise<Job | null> {
    const isNews = error instanceof LeaseLost ? this.#isNewsOf(job.owner) : isToBeTold(job.failures + 1);
    if (isNews) this.#options.onError(error);
    if (error instanceof LeaseLost) return null;
    // It came back from the try, so it is not what crashes workers.
    const failed = { ...job, handedOver: null, isSuspect: false, failures: job.failures + 1 };
    if (isOutage(error)) return failed;
    if (job.faults + 1 < mostFaults) return { ...failed, faults: job.faults + 1 };
    return this.#park({ ...failed, faults: 0 }, error);
  }

  /** A lease is lost for all of its orders at once. */
  #isNewsOf(owner: Owner): boolean {
    const isNews = this.#lostEpoch !== owner.epoch;
    this.#lostEpoch = owner.epoch;
    return isNews;
  }

  async #park(job: Job, error: Error): Promise<Job | null> {
    const { database, onError } = this.#options;
    try {
      await parkOrder(database, job.orderId, job.owner, error.message);
      onError(
        new Error(`Order ${job.orderId} is parked after ${mostFaults} tries: ${error.message}`, { cause: error }),
      );
      return null;
    } catch (problem) {
      onError(problem as Error);
      return job;
    }
  }

  /**
   * A gateway or a database that does not answer is asked again, for as long as the order is this worker's. Until then
   * the order keeps its place among those known, and leaves its place among those at work to others.
   */
  #tryAgainLater(job: Job): void {
    this.#known.set(job.orderId, job);
    const backoffMs = Math.min(longestBackoffMs, 50 * 2 ** job.failures) * (0.5 + Math.random() / 2);
    setTimeout(() => {
      if (this.#isStopping) return;
      this.#waiting.push(job);
      this.#startWaiting();
    }, backoffMs);
  }

  async #endPaymentAndSettle(job: Job): Promise<void> {
    const { database, onError } = this.#options;
    const isFresh = performance.now() - job.takenAtMs < believedForMs;
    const work = (isFresh && job.handedOver) || (await readWork(database, job.orderId, job.owner));
    if (!work) return;
    try {
      await this.#endWork(job.owner, work);
    } catch (error) {
      await this.#recordAnswer(job.owner, work, error).catch(onError);
      throw error;
    }
  }

  async #endWork(owner: Owner, work: Work): Promise<void> {
    const { gateway, notifications } = this.#options;
    const outcome = await endPayment(gateway, work, () => this.#checkLease(owner));
    const event = await this.#settlements.submit({ owner, work, outcome });
    if (event) announce(notifications, event);
  }

  /** An order that was not settled, for whatever reason, stays on record with whether the gateway has answered for it. */
  async #recordAnswer(owner: Owner, work: Work, error: unknown): Promise<void> {
    const isUnanswered = error instanceof GatewayUnanswered;
    if (error instanceof LeaseLost || isUnanswered === work.isUnanswered) return;
    const record = isUnanswered ? recordUnanswered : recordAnswered;
    await record(this.#options.database, work.orderId, owner);
  }

  #checkLease(owner: Owner): void {
    if (!this.#lease.isHeldBy(owner)) throw new LeaseLost('The lease was lost before a call to the gateway');
  }
}

function isOutage(error: Error): boolean {
  return error instanceof GatewayUnanswered || error instanceof Unavailable || error instanceof CommitUnknown;
}

/** Takes a lease and starts to work on orders. */
export async function startOrderWorker(options: OrderWorkerOptions): Promise<OrderWorker> {
  return new OrderWorker(options, await takeLease(options.database, options.onError));
}
