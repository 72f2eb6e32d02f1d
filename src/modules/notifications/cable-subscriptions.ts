import { basketTokenIn, confirmation, delivery, rejection } from './cable-protocol.ts';
import type { CableReads } from './cable-reads.ts';
import { type Notifications, type OutcomeEvent, watchBasket } from './notifications.service.ts';

const maxSubscriptions = 100;

type Subscription = {
  readonly identifier: string;
  readonly token: string;
  readonly undelivered: OutcomeEvent[];
  /** Null until it is confirmed. */
  stopWatching: (() => void) | null;
};

/**
 * The subscriptions of one socket. Their baskets are looked up one after the other, so that a socket with many holds
 * up none but itself. A subscription is told in this order: that it stands, the known outcome, what comes after it.
 */
export class CableSubscriptions {
  readonly #notifications: Notifications;
  readonly #reads: CableReads;
  readonly #send: (text: string) => void;
  readonly #onError: (error: Error) => void;
  readonly #subscriptions = new Map<string, Subscription>();
  readonly #unconfirmed = new Set<Subscription>();
  #isConfirming = false;

  constructor(context: {
    notifications: Notifications;
    reads: CableReads;
    send: (text: string) => void;
    onError: (error: Error) => void;
  }) {
    this.#notifications = context.notifications;
    this.#reads = context.reads;
    this.#send = context.send;
    this.#onError = context.onError;
  }

  /** Clients repeat a subscribe that was not confirmed in time: once is enough for each identifier. */
  subscribe(identifier: string): void {
    const known = this.#subscriptions.get(identifier);
    if (known?.stopWatching) this.#send(confirmation(identifier));
    if (known) return;
    const token = basketTokenIn(identifier);
    if (token === null || this.#subscriptions.size >= maxSubscriptions) this.#send(rejection(identifier));
    else this.#add({ identifier, token, undelivered: [], stopWatching: null });
  }

  /** Ends a subscription, also one that is not confirmed yet. Nothing is answered. */
  unsubscribe(identifier: string): void {
    const subscription = this.#subscriptions.get(identifier);
    if (!subscription) return;
    subscription.stopWatching?.();
    this.#subscriptions.delete(identifier);
    this.#unconfirmed.delete(subscription);
  }

  /** Ends all of them. */
  clear(): void {
    for (const identifier of [...this.#subscriptions.keys()]) this.unsubscribe(identifier);
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
    const { identifier, token } = subscription;
    const stream = await this.#reads.findStream(token, () => this.#has(subscription));
    if (!this.#has(subscription)) return;
    if (!stream) {
      this.unsubscribe(identifier);
      return this.#send(rejection(identifier));
    }
    const deliver = (event: OutcomeEvent): void => this.#deliver(subscription, event);
    subscription.stopWatching = watchBasket(this.#notifications, stream.basketId, stream.offset, deliver);
    this.#send(confirmation(identifier));
    if (stream.outcome) deliver(stream.outcome);
  }

  #deliver(subscription: Subscription, event: OutcomeEvent): void {
    subscription.undelivered.push(event);
    if (subscription.undelivered.length === 1) this.#deliverAll(subscription).catch(this.#onError);
  }

  /** One at a time: a message that renders faster must not overtake the one before it. */
  async #deliverAll(subscription: Subscription): Promise<void> {
    const { identifier, undelivered } = subscription;
    for (let event = undelivered[0]; event && this.#has(subscription); event = undelivered[0]) {
      const message = await this.#reads.renderMessage(event, () => this.#has(subscription));
      if (message !== undefined && this.#has(subscription)) this.#send(delivery(identifier, message));
      undelivered.shift();
    }
  }

  #has(subscription: Subscription): boolean {
    return this.#subscriptions.get(subscription.identifier) === subscription;
  }
}
