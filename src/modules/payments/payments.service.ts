import { Outage } from '../../shared/refusal.ts';

/**
 * Everything that a payment provider must be able to do for the shop, each call under an idempotency key: the first
 * request under a key decides, and the same one again gets the same answer. A call that gets no answer, or one that says
 * nothing about the payment, throws {@link GatewayUnanswered}: then nobody knows what has happened.
 */
export interface PaymentGateway {
  /** Sets an amount aside. */
  authorize(request: AuthorizeRequest): Promise<AuthorizeAnswer>;
  /** Takes all of an authorized amount. */
  capture(request: CaptureRequest): Promise<CaptureAnswer>;
  /**
   * Closes an authorization, by its key, with every capture of it: also one that has not arrived yet, which is then
   * refused when it does. A capture that came first stays.
   */
  void(request: VoidRequest): Promise<VoidAnswer>;
  /** Gives a captured amount back, all of it. */
  refund(request: RefundRequest): Promise<RefundAnswer>;
  /** What the gateway has on record under a key. Finding nothing proves nothing: the request may still arrive. */
  lookup(key: string): Promise<GatewayRecord | null>;
  /** Authorizations that the gateway approved since then, with what became of them, by their keys, in pages after `afterKey`. */
  listAuthorizations(request: ListRequest): Promise<readonly GatewayAuthorization[]>;
  close(): Promise<void>;
}

/** `amount` in minor units of `currency`. */
export type AuthorizeRequest = Readonly<{ key: string; paymentToken: string; amount: number; currency: string }>;
/** With the whole request that it draws on: what a gateway without a look-up by key needs. */
export type CaptureRequest = Readonly<{ key: string; authorization: AuthorizeRequest }>;
/** Without its token once that was erased: then the gateway must have the authorization on record. */
export type VoidRequest = Readonly<{
  key: string;
  authorization: Omit<AuthorizeRequest, 'paymentToken'> & Readonly<{ paymentToken: string | null }>;
}>;
export type RefundRequest = Readonly<{ key: string; authorizationKey: string; amount: number; currency: string }>;
export type ListRequest = Readonly<{ since: Date; afterKey: string | null; limit: number }>;

/** Messages are fit for the shopper. `closed`: a void came first. */
export type AuthorizeAnswer =
  | Readonly<{ outcome: 'approved'; reference: string }>
  | Readonly<{ outcome: 'declined'; message: string }>
  | Readonly<{ outcome: 'closed' }>;
export type CaptureAnswer =
  | Readonly<{ outcome: 'captured'; reference: string }>
  | Readonly<{ outcome: 'refused'; message: string }>
  | Readonly<{ outcome: 'closed' }>;
export type VoidAnswer = Readonly<{ outcome: 'closed' }> | Readonly<{ outcome: 'captured'; reference: string }>;
export type RefundAnswer =
  | Readonly<{ outcome: 'refunded'; reference: string }>
  | Readonly<{ outcome: 'refused'; message: string }>;

export type GatewayRecord = Readonly<{
  operation: 'authorize' | 'capture' | 'void' | 'refund';
  approved: boolean;
  amount: number;
  currency: string;
  reference: string;
}>;

/** An approved authorization: money set aside, until it is captured, voided, or captured and refunded. */
export type GatewayAuthorization = Readonly<{
  key: string;
  amount: number;
  currency: string;
  state: 'authorized' | 'captured' | 'voided' | 'refunded';
}>;

/** No answer in time, a broken connection, a fault of the gateway's own: what became of the call is unknown. */
export class GatewayUnanswered extends Outage {
  constructor(message: string, options: { cause?: unknown } = {}) {
    super(message, options);
    this.name = 'GatewayUnanswered';
  }
}

/** Thrown where a gateway was asked for what makes no sense to it: a fault in this program, not in the payment. */
export class GatewayRefusedRequest extends Error {
  constructor(message: string, options: { cause?: unknown } = {}) {
    super(message, options);
    this.name = 'GatewayRefusedRequest';
  }
}

export type PaymentStep = 'authorize' | 'capture' | 'void' | 'refund';

/** The idempotency key of one step of one attempt to pay an order: the same for whoever takes the order on. */
export function paymentKey(orderId: string, attempt: number, step: PaymentStep): string {
  return `${orderId}:${attempt}:${step}`;
}

/** The same gateway, whose calls are given up as {@link GatewayUnanswered} after `deadlineMs`, or a little later. */
export function withDeadline(gateway: PaymentGateway, deadlineMs: number): PaymentGateway {
  const { within, close } = openDeadline(deadlineMs);
  return {
    authorize: (request) => within('authorize', gateway.authorize(request)),
    capture: (request) => within('capture', gateway.capture(request)),
    void: (request) => within('void', gateway.void(request)),
    refund: (request) => within('refund', gateway.refund(request)),
    lookup: (key) => within('lookup', gateway.lookup(key)),
    listAuthorizations: (request) => within('list', gateway.listAuthorizations(request)),
    close: async () => {
      await gateway.close();
      close();
    },
  };
}

type Waiting = Readonly<{ call: string; untilMs: number; reject: (error: Error) => void }>;

const lookEveryMs = 100;

/** One timer for all calls, the one that has waited longest first: a timer for each would cost more than the rest of it. */
function openDeadline(deadlineMs: number) {
  const waiting = new Set<Waiting>();
  const timer = setInterval(() => {
    const nowMs = performance.now();
    for (const one of waiting) {
      if (one.untilMs > nowMs) return;
      waiting.delete(one);
      one.reject(new GatewayUnanswered(`The gateway did not answer ${one.call} within ${deadlineMs / 1_000} s`));
    }
  }, lookEveryMs);
  const within = <T>(call: string, answer: Promise<T>): Promise<T> =>
    new Promise((resolve, reject) => {
      const one = { call, untilMs: performance.now() + deadlineMs, reject };
      waiting.add(one);
      answer.then(
        (value) => {
          waiting.delete(one);
          resolve(value);
        },
        (error) => {
          waiting.delete(one);
          reject(error);
        },
      );
    });
  return { within, close: () => clearInterval(timer) };
}
