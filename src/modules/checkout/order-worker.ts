import { setTimeout as sleep } from 'node:timers/promises';
import type { Database } from '../../platform/db.ts';
import { announce, type Notifications } from '../notifications/notifications.service.ts';
import type { PaymentGateway } from '../payments/payments.service.ts';
import type { AcceptedOrder } from './accept.ts';
import { BatchedSettlement } from './batched-settlement.ts';
import { claimFreeOrders, readOwnedOrders } from './claim.sql.ts';
import type { Owner } from './lease.sql.ts';
import { type Lease, takeLease } from './lease.ts';
import { payOrder, type Work } from './pay.ts';
import { findWork } from './settle.sql.ts';

export type OrderWorkerOptions = Readonly<{
  database: Database;
  gateway: PaymentGateway;
  notifications: Notifications;
  /** How often to look for orders that nobody works on. */
  pollMs: number;
  onError: (error: Error) => void;
}>;

/** Orders being paid at the same time; a slow gateway is waited for by many. */
const mostAtOnce = 500;
/** Orders known to this worker, waiting ones included; beyond it they stay in the table, free for anybody. */
const mostKnown = 10_000;
const claimAtMost = 500;
const sweepEveryMs = 2_000;
const drainMs = 8_000;
const longestBackoffMs = 5_000;

type Job = Readonly<{ orderId: string; owner: Owner; handedOver: Work | null; failures: number }>;

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
  #isStopping = false;

  constructor(options: OrderWorkerOptions, lease: Lease) {
    this.#options = options;
    this.#lease = lease;
    this.#settlements = new BatchedSettlement(options.database, options.onError);
    this.#timers = [
      setInterval(() => this.#look(() => this.#claim()), options.pollMs),
      setInterval(() => this.#look(() => this.#sweep()), sweepEveryMs),
    ];
    this.#look(() => this.#claim());
  }

  /** Under which owner an order accepted now is to be written; null: leave it free for any worker. */
  owner(): Owner | null {
    const hasRoom = this.#known.size < mostKnown && !this.#isStopping;
    return hasRoom ? this.#lease.owner() : null;
  }

  /** Takes on an order that was accepted under {@link owner}, without a look into the table. */
  handOver(order: AcceptedOrder): void {
    if (order.owner) this.#take({ orderId: order.orderId, owner: order.owner, handedOver: order, failures: 0 });
  }

  /** Takes no more orders, finishes those at hand for up to 8 s and gives up the lease on the rest. */
  async stop(): Promise<void> {
    this.#isStopping = true;
    for (const timer of this.#timers) clearInterval(timer);
    const deadlineMs = performance.now() + drainMs;
    while (this.#known.size > 0 && performance.now() < deadlineMs) await sleep(10);
    await this.#lease.release();
  }

  #look(find: () => Promise<void>): void {
    if (!this.#isStopping) find().catch(this.#options.onError);
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
    this.#look(() => this.#claim());
  }

  /** Finds orders whose acceptance this process never learnt of, since the answer to its COMMIT was lost. */
  async #sweep(): Promise<void> {
    const owner = this.owner();
    if (owner) this.#takeAll(await readOwnedOrders(this.#options.database, owner), owner);
  }

  #takeAll(orderIds: readonly string[], owner: Owner): void {
    for (const orderId of orderIds) this.#take({ orderId, owner, handedOver: null, failures: 0 });
  }

  #take(job: Job): void {
    if (this.#known.get(job.orderId)?.owner.epoch === job.owner.epoch) return;
    this.#known.set(job.orderId, job);
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
    const isOver = await this.#tryOnce(job);
    this.#running--;
    if (this.#known.get(job.orderId) === job) {
      if (isOver || this.#isStopping) this.#known.delete(job.orderId);
      else this.#tryAgainLater({ ...job, failures: job.failures + 1 });
    }
    this.#startWaiting();
    this.#claimMore();
  }

  /** Whether there is nothing left to do: the order has ended, or it is not this worker's any more. */
  async #tryOnce(job: Job): Promise<boolean> {
    if (!this.#lease.isHeldBy(job.owner)) return true;
    try {
      await this.#payAndSettle(job);
      return true;
    } catch (error) {
      // Told ever more rarely: an outage that holds up thousands of orders must not bury the log.
      if (Number.isInteger(Math.log2(job.failures + 1))) this.#options.onError(error as Error);
      return false;
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
      this.#waiting.push(job);
      this.#startWaiting();
    }, backoffMs);
  }

  async #payAndSettle(job: Job): Promise<void> {
    const { gateway, notifications } = this.#options;
    const work = job.handedOver ?? (await this.#readWork(job));
    if (!work) return;
    const outcome = await payOrder(gateway, work, () => this.#checkLease(job.owner));
    const event = await this.#settlements.submit({ owner: job.owner, work, outcome });
    if (event) announce(notifications, event);
  }

  async #readWork(job: Job): Promise<Work | null> {
    const row = await findWork(this.#options.database, job.orderId, job.owner);
    if (!row) return null;
    if (row.payment_token === null) throw new Error(`Order ${job.orderId} is open but has no payment token`);
    return {
      orderId: row.order_id,
      basketId: row.basket_id,
      attempt: row.attempt,
      paymentToken: row.payment_token,
      total: row.total,
      currency: row.currency,
    };
  }

  /** A process that was stopped for a while must not call the gateway for an order that is somebody else's by now. */
  #checkLease(owner: Owner): void {
    if (!this.#lease.isHeldBy(owner)) throw new Error('The lease was lost before a call to the gateway');
  }
}

/** Takes a lease and starts to work on orders. */
export async function startOrderWorker(options: OrderWorkerOptions): Promise<OrderWorker> {
  return new OrderWorker(options, await takeLease(options.database, options.onError));
}
