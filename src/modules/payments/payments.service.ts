/** Everything that a payment provider must be able to do for the shop, each call under an idempotency key. */
export interface PaymentGateway {
  /** Sets `amount` aside. A repeated key gets the first answer again. */
  authorize(request: AuthorizeRequest): Promise<Authorization>;
  /** Takes an authorized amount. A repeated key gets the first answer again. */
  capture(request: CaptureRequest): Promise<Capture>;
  close(): Promise<void>;
}

/** `amount` in minor units of `currency`. */
export type AuthorizeRequest = Readonly<{ key: string; paymentToken: string; amount: number; currency: string }>;
export type CaptureRequest = Readonly<{ key: string; authorizationKey: string; amount: number; currency: string }>;

/** The gateway's word: approved, or declined with a message that is fit for the shopper. */
export type Authorization =
  | Readonly<{ approved: true; reference: string }>
  | Readonly<{ approved: false; message: string }>;
export type Capture = Readonly<{ reference: string }>;

/** Thrown where a gateway was asked for what makes no sense to it: a fault in this program, not in the payment. */
export class GatewayRefusedRequest extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'GatewayRefusedRequest';
  }
}

/** The idempotency key of one step of one attempt to pay an order: the same for whoever takes the order on. */
export function paymentKey(orderId: string, attempt: number, step: 'authorize' | 'capture'): string {
  return `${orderId}:${attempt}:${step}`;
}
