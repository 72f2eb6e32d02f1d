import { findStart, type HistoryWish, replay } from './cable-history.ts';
import {
  basketTokenIn,
  confirmation,
  delivery,
  historyConfirmation,
  historyRejection,
  rejection,
  type StreamPosition,
} from './cable-protocol.ts';
import type { CableReads, IsWanted } from './cable-reads.ts';
import { type Notifications, type OutcomeEvent, type Stream, watchBasket } from './notifications.service.ts';

const maxSubscriptions = 100;

type Task = () => Promise<void>;

type Subscription = {
  readonly identifier: string;
  readonly token: string;
  /** What it asked for when it began. */
  readonly history: HistoryWish;
  /** What it is still to be told, in this order and one at a time. */
  readonly tasks: Task[];
  /** The offset up to which it has been told what it is to be told: what is live comes after that. */
  reached: number;
  isHistoryDue: boolean;
  /** Null until it is confirmed. */
  stopWatching: (() => void) | null;
};

/**
 * The subscriptions of one socket. Their baskets are looked up one after the other, so that a socket with many holds
 * up none but itself. A subscription is told in this order: that it stands, the history it asks for or else the known
 * outcome, what comes after it.
 */
export class CableSubscriptions {
  readonly #notifications: Notifications;
  readonly #reads: CableReads;
  readonly #epoch: string | null;
  readonly #send: (text: string) => void;
  readonly #onError: (error: Error) => void;
  readonly #subscriptions = new Map<string, Subscription>();
  readonly #unconfirmed = new Set<Subscription>();
  #isConfirming = false;

  /** `epoch` says for how long offsets mean the same; null for a client that does not know them. */
  constructor(context: {
    notifications: Notifications;
    reads: CableReads;
    epoch: string | null;
    send: (text: string) => void;
    onError: (error: Error) => void;
  }) {
    this.#notifications = context.notifications;
    this.#reads = context.reads;
    this.#epoch = context.epoch;
    this.#send = context.send;
    this.#onError = context.onError;
  }

  /** Clients repeat a subscribe that was not confirmed in time: once is enough for each identifier. */
  subscribe(identifier: string, history: HistoryWish): void {
    const known = this.#subscriptions.get(identifier);
    const token = basketTokenIn(identifier);
    if (known) this.#confirmAgain(known);
    else if (token === null || this.#subscriptions.size >= maxSubscriptions) this.#send(rejection(identifier));
    else this.#add({ identifier, token, history, tasks: [], reached: 0, isHistoryDue: false, stopWatching: null });
  }

  /** Ends a subscription, also one that is not confirmed yet. Nothing is answered. */
  unsubscribe(identifier: string): void {
    const subscription = this.#subscriptions.get(identifier);
    if (!subscription) return;
    subscription.stopWatching?.();
    this.#subscriptions.delete(identifier);
    this.#unconfirmed.delete(subscription);
  }

  /** Tells what a subscription asks for of what it has been told, or has missed. One such request at a time. */
  replay(identifier: string, history: HistoryWish): void {
    const subscription = this.#subscriptions.get(identifier);
    if (!subscription || subscription.isHistoryDue) this.#send(historyRejection(identifier));
    else this.#addReplay(subscription, history);
  }

  /** Ends all of them. */
  clear(): void {
    for (const identifier of [...this.#subscriptions.keys()]) this.unsubscribe(identifier);
  }

  /** A client of the extension takes a second confirmation for a mistake, and ends the subscription. */
  #confirmAgain({ identifier, stopWatching }: Subscription): void {
    if (stopWatching && this.#epoch === null) this.#send(confirmation(identifier));
  }

  #add(subscription: Subscription): void {
    this.#subscriptions.set(subscription.identifier, subscription);
    this.#unconfirmed.add(subscription);
    if (!this.#isConfirming) this.#confirmAll().catch(this.#onError);
  }

  /** A set's iteration takes in what is added to it on the way, and leaves out what is removed. */
  async #confirmAll(): Promise<void> {
    this.#isConfirming = true;
    try {
      for (const subscription of this.#unconfirmed) {
        await this.#confirm(subscription);
        this.#unconfirmed.delete(subscription);
      }
    } finally {
      this.#isConfirming = false;
    }
  }

  async #confirm(subscription: Subscription): Promise<void> {
    const { identifier, token, tasks } = subscription;
    const stream = await this.#reads.findStream(token, this.#wants(subscription));
    if (!this.#has(subscription)) return;
    if (!stream) {
      this.unsubscribe(identifier);
      return this.#send(rejection(identifier));
    }
    subscription.reached = stream.offset;
    subscription.stopWatching = watchBasket(this.#notifications, stream.basketId, stream.offset, (event) =>
      this.#addTask(subscription, () => this.#tellLive(subscription, event)),
    );
    this.#send(confirmation(identifier));
    // Before the history that was asked for meanwhile.
    tasks.unshift(() => this.#tellKnown(subscription, stream));
    this.#runAll(subscription).catch(this.#onError);
  }

  #addReplay(subscription: Subscription, history: HistoryWish): void {
    subscription.isHistoryDue = true;
    this.#addTask(subscription, async () => {
      const stream = await this.#reads.findStream(subscription.token, this.#wants(subscription));
      if (stream) await this.#replay(subscription, stream, history, null);
      else this.#sendTo(subscription, historyRejection(subscription.identifier));
      subscription.isHistoryDue = false;
    });
  }

  /** What is added before the subscription is confirmed waits for that. */
  #addTask(subscription: Subscription, task: Task): void {
    subscription.tasks.push(task);
    if (subscription.tasks.length === 1 && subscription.stopWatching) this.#runAll(subscription).catch(this.#onError);
  }

  /** One at a time: a message that renders faster must not overtake the one before it, nor a live one the history. */
  async #runAll(subscription: Subscription): Promise<void> {
    const { tasks } = subscription;
    for (let task = tasks[0]; task && this.#has(subscription); task = tasks[0]) {
      await task();
      tasks.shift();
    }
  }

  async #tellKnown(subscription: Subscription, stream: Stream): Promise<void> {
    const { history } = subscription;
    if (history !== null) await this.#replay(subscription, stream, history, stream.outcome);
    else if (stream.outcome) await this.#tell(subscription, stream.outcome);
  }

  async #tellLive(subscription: Subscription, event: OutcomeEvent): Promise<void> {
    await this.#tell(subscription, event);
    subscription.reached = event.offset;
  }

  /**
   * Tells what is asked for of the stream's past. The `outcome` is told in any case, unless the client is known to have
   * been told of what came after it.
   */
  async #replay(
    subscription: Subscription,
    stream: Stream,
    history: HistoryWish,
    outcome: OutcomeEvent | null,
  ): Promise<void> {
    const { identifier, reached: through } = subscription;
    const isWanted = this.#wants(subscription);
    let lastTold = 0;
    const tell = (event: OutcomeEvent): Promise<void> => {
      lastTold = event.offset;
      return this.#tell(subscription, event);
    };
    const start = await findStart(history, { stream, epoch: this.#epoch, through }, this.#reads, isWanted);
    if (outcome && start && !start.isKnown && outcome.offset <= start.after) await tell(outcome);
    const range = { basketId: stream.basketId, after: start?.after ?? 0, through };
    const isTold = start ? await replay(range, this.#reads, tell, isWanted) : false;
    this.#sendTo(subscription, isTold ? historyConfirmation(identifier) : historyRejection(identifier));
    if (outcome && !isTold && outcome.offset > lastTold) await tell(outcome);
  }

  async #tell(subscription: Subscription, event: OutcomeEvent): Promise<void> {
    const message = await this.#reads.renderMessage(event, this.#wants(subscription));
    if (message === undefined) return;
    this.#sendTo(subscription, delivery(subscription.identifier, message, this.#positionOf(event)));
  }

  #positionOf(event: OutcomeEvent): StreamPosition | null {
    if (this.#epoch === null) return null;
    return { stream_id: event.basketId, epoch: this.#epoch, offset: event.offset };
  }

  #sendTo(subscription: Subscription, text: string): void {
    if (this.#has(subscription)) this.#send(text);
  }

  #wants(subscription: Subscription): IsWanted {
    return () => this.#has(subscription);
  }

  #has(subscription: Subscription): boolean {
    return this.#subscriptions.get(subscription.identifier) === subscription;
  }
}
