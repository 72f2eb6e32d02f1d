import { setTimeout as sleep } from 'node:timers/promises';
import { CommitUnknown, type Database } from '../../platform/db.ts';
import { Unavailable } from '../../shared/refusal.ts';
import { announce, isWatched, type Notifications } from '../notifications/notifications.service.ts';
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
/** What a stop may take altogether. */
const drainMs = 8_000;
/** Once the worker stops, a call that has had no answer for so long is given up. */
const patienceMs = 2_500;
const longestBackoffMs = 5_000;
/** An order that fails so often by what it is, and not for want of an answer, is parked. */
const mostFaults = 5;
/** What was handed over in memory is believed for so long; then the table is asked for its hold and its cancellation. */
const believedForMs = 5_000;

type Job = Readonly<{
  orderId: string;
  owner: Owner;
  handedOver: Work | null;
  /** Of an order that was handed over: somebody may wait for its outcome. */
  basketId: string | null;
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
  /** Those at work, each with the time of its latest step (`performance.now()`). */
  readonly #atWork = new Map<Job, number>();
  /** The last look found as many free orders as it would take: there may be more. */
  #mayBeMore = false;
  /** Of the latest lease that was told to be lost. */
  #lostEpoch: number | null = null;
  /** Owned orders that the last sweep found and this worker did not know. */
  #unknownBefore: ReadonlySet<string> = new Set();
  readonly #looking = new Set<Look>();
  /** Since when; null: it does not. */
  #windingDownSinceMs: number | null = null;
  #hasStopped = false;

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
    const hasRoom = this.#known.size < mostKnown && !this.#hasStopped;
    return hasRoom ? this.#lease.owner() : null;
  }

  /** Takes on an order that was accepted under {@link owner}, without a look into the table. */
  handOver(order: AcceptedOrder): void {
    if (order.owner)
      this.#take(order.orderId, order.owner, {
        handedOver: { ...order, holdIsOver: false, isToBeCancelled: false, isUnanswered: false },
      });
  }

  /**
   * For the time in which the last requests are answered: takes on what they hand over and nothing else, goes on with what
   * is at work, and tries again only where somebody in this process waits for the outcome.
   */
  windDown(): void {
    if (this.#windingDownSinceMs !== null) return;
    this.#windingDownSinceMs = performance.now();
    for (const timer of this.#timers) clearInterval(timer);
    for (const job of this.#waiting.splice(0)) {
      if (this.#mayBegin(job)) this.#waiting.push(job);
      else this.#known.delete(job.orderId);
    }
  }

  /**
   * Winds down, and finishes what is at work, for up to 8 s and only as long as the gateway goes on answering. The lease is
   * given up on the rest: the next worker takes it on at once, and repeats its calls under the same keys.
   */
  async stop(): Promise<void> {
    this.windDown();
    const deadlineMs = performance.now() + drainMs;
    while (this.#goesForward() && performance.now() < deadlineMs) await sleep(10);
    this.#hasStopped = true;
    // It runs out by itself: no reason not to stop.
    await this.#lease.release().catch(this.#options.onError);
  }

  #goesForward(): boolean {
    const sinceMs = performance.now() - patienceMs;
    if ((this.#windingDownSinceMs ?? 0) > sinceMs) return this.#atWork.size > 0;
    for (const steppedAtMs of this.#atWork.values()) if (steppedAtMs > sinceMs) return true;
    return false;
  }

  #mayBegin({ handedOver, basketId }: Job): boolean {
    if (this.#hasStopped) return false;
    if (this.#windingDownSinceMs === null || handedOver) return true;
    return basketId !== null && isWatched(this.#options.notifications, basketId);
  }

  /** Never beside another look of the same kind: on a database that stalls they would pile up before the lease's renewal. */
  #look(kind: Look): void {
    if (this.#windingDownSinceMs !== null || this.#looking.has(kind)) return;
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
    const basketId = handedOver?.basketId ?? null;
    const takenAtMs = performance.now();
    const job = { orderId, owner, handedOver, basketId, isSuspect, takenAtMs, failures: 0, faults: 0 };
    // A look that was under way may still find orders.
    if (!this.#mayBegin(job)) return;
    this.#known.set(orderId, job);
    this.#waiting.push(job);
    this.#startWaiting();
  }

  #startWaiting(): void {
    while (this.#atWork.size < mostAtOnce) {
      const job = this.#waiting.shift();
      if (!job) return;
      this.#atWork.set(job, performance.now());
      void this.#workOn(job);
    }
  }

  async #workOn(job: Job): Promise<void> {
    const next = await this.#tryOnce(job);
    this.#atWork.delete(job);
    if (this.#known.get(job.orderId) === job) {
      if (next) this.#tryAgainLater(next);
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
    // It was given up, and is the next worker's.
    if (this.#hasStopped) return null;
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
      if (!this.#mayBegin(job)) {
        this.#known.delete(job.orderId);
        return;
      }
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
      await this.#endWork(job, work);
    } catch (error) {
      await this.#recordAnswer(job.owner, work, error).catch(onError);
      throw error;
    }
  }

  async #endWork(job: Job, work: Work): Promise<void> {
    const { gateway, notifications } = this.#options;
    const outcome = await endPayment(gateway, work, () => {
      this.#checkLease(job.owner);
      this.#atWork.set(job, performance.now());
    });
    this.#atWork.set(job, performance.now());
    const event = await this.#settlements.submit({ owner: job.owner, work, outcome });
    if (event) announce(notifications, event);
  }

  /** An order that was not settled, for whatever reason, stays on record with whether the gateway has answered for it. */
  async #recordAnswer(owner: Owner, work: Work, error: unknown): Promise<void> {
    const isUnanswered = error instanceof GatewayUnanswered;
    if (this.#hasStopped || error instanceof LeaseLost || isUnanswered === work.isUnanswered) return;
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
