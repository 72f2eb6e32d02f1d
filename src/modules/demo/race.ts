import { setTimeout as sleep } from 'node:timers/promises';
import { type Answer, Loopback, type Message } from './loopback.ts';

export type RaceOptions = Readonly<{
  /** Where the shop listens. */
  host: string;
  port: number;
  productId: string;
  buyers: number;
  /** Of 100 buyers, so many have a card that is declined. */
  declinedPercent: number;
}>;

/** How far a buyer has come. `failed`: the shop did not answer as it should. */
type Stage = 'in_basket' | 'checking_out' | 'accepted' | 'sold' | 'declined' | 'sold_out' | 'failed';

/**
 * A buyer (from 0) has reached a stage, so many milliseconds after the race began. With the answer to a checkout comes
 * how long it took, in milliseconds.
 */
type Turn = readonly [buyer: number, stage: Stage, atMs: number, tookMs?: number];

/** What is told of a race while it runs: turns in the order of time, once the start of the sale, and how it ended. */
export type RaceNews =
  | Readonly<{ turns: readonly Turn[] }>
  | Readonly<{ saleAtMs: number }>
  | Readonly<{ isOver: true; fault: string | null }>;

export type Race = Readonly<{ news: AsyncIterable<RaceNews>; over: Promise<unknown> }>;

type Buyer = { readonly index: number; readonly paymentToken: string; basketToken: string | undefined };
type Accepted = Readonly<{ buyer: Buyer; orderPath: string }>;

/** Buyers whose request is under way at the same time, and the askers after the orders of those who were accepted. */
const requestsAtOnce = 200;
const askersAtOnce = 20;
const newsEveryMs = 40;
const askAgainAfterMs = 10;
const tryAgainAfterMs = 200;

const address = { line_1: '1 Main St', city: 'Springfield', state: 'IL', zip: '62701', country: 'US' };

/** Sends the buyers in, each in real HTTP requests, until all know their outcome or `signal` is aborted. */
export function startRace(options: RaceOptions, signal: AbortSignal): Race {
  const crowd = new Crowd(options, signal);
  const over = crowd.run().then(
    () => null,
    (error: Error) =>
      signal.aborted ? 'The race was stopped. Its orders come to their end all the same.' : error.message,
  );
  return { news: newsOf(crowd, over), over };
}

async function* newsOf(crowd: Crowd, over: Promise<string | null>): AsyncGenerator<RaceNews> {
  for (let isOver = false; !isOver; ) {
    isOver = await Promise.race([over.then(() => true), sleep(newsEveryMs, false)]);
    yield* crowd.takeNews();
  }
  yield { isOver: true, fault: (await over) ?? crowd.firstFault };
}

class Crowd {
  readonly #options: RaceOptions;
  readonly #signal: AbortSignal;
  readonly #shop: Loopback;
  readonly #beganAtMs = performance.now();
  readonly #accepted: Accepted[] = [];
  readonly #tooLate: Buyer[] = [];
  #unitsReturned = 0;
  #turns: Turn[] = [];
  #saleAtMs: number | null = null;
  firstFault: string | null = null;

  constructor(options: RaceOptions, signal: AbortSignal) {
    this.#options = options;
    this.#signal = signal;
    this.#shop = new Loopback(options.host, options.port);
    signal.addEventListener('abort', () => this.#shop.close());
  }

  /** What is new since it was last asked for. */
  *takeNews(): Generator<RaceNews> {
    if (this.#saleAtMs !== null) yield { saleAtMs: this.#saleAtMs };
    this.#saleAtMs = null;
    if (this.#turns.length > 0) yield { turns: this.#turns };
    this.#turns = [];
  }

  /** Baskets first: they take nothing, so everybody still has a chance when the sale begins. */
  async run(): Promise<void> {
    const { buyers, declinedPercent } = this.#options;
    const everybody = inAnyOrder(Array.from({ length: buyers }, (_, index) => newBuyer(index, declinedPercent)));
    try {
      await inParallel(everybody, requestsAtOnce, (buyer) => this.#orFail(buyer, () => this.#fillBasket(buyer)));
      this.#saleAtMs = this.#now();
      await this.#sellTo(everybody.filter((buyer) => buyer.basketToken !== undefined));
    } finally {
      this.#shop.close();
    }
  }

  /** The units that declined cards give back go to the first of those who were too late. */
  async #sellTo(everybody: readonly Buyer[]): Promise<void> {
    for (let buyers = everybody; buyers.length > 0; buyers = this.#tooLate.splice(0, this.#unitsReturned)) {
      this.#unitsReturned = 0;
      let areCheckingOut = true;
      const checkouts = inParallel(buyers, requestsAtOnce, (buyer) => this.#orFail(buyer, () => this.#checkOut(buyer)));
      const askers = Array.from({ length: askersAtOnce }, () => this.#askWhile(() => areCheckingOut));
      const allCheckedOut = checkouts.finally(() => {
        areCheckingOut = false;
      });
      // Together: when the race is stopped all of them fail, and none must do so unheard.
      await Promise.all([allCheckedOut, ...askers]);
    }
  }

  async #fillBasket(buyer: Buyer): Promise<void> {
    const body = { product: { product_id: this.#options.productId, quantity: 1 } };
    const answer = await this.#send('/api/v2/shopping_basket/products', { body });
    if (answer.status !== 201) throw new Error(faultIn(answer));
    buyer.basketToken = String(answer.headers['shopping-basket-id']);
    this.#note(buyer, 'in_basket');
  }

  async #checkOut(buyer: Buyer): Promise<void> {
    this.#note(buyer, 'checking_out');
    const email = `buyer-${buyer.index + 1}@demo.example`;
    const body = { payment_token: buyer.paymentToken, email, address };
    const sentAtMs = performance.now();
    const answer = await this.#send('/api/v2/shopping_basket/checkout', { token: buyer.basketToken, body });
    const tookMs = rounded(performance.now() - sentAtMs);
    if (answer.status === 202) {
      this.#note(buyer, 'accepted', tookMs);
      this.#accepted.push({ buyer, orderPath: String(answer.headers.location) });
    } else if (answer.status === 422) {
      this.#note(buyer, 'sold_out', tookMs);
      this.#tooLate.push(buyer);
    } else throw new Error(faultIn(answer));
  }

  /** Asks after one accepted order after the other, until all have ended and no more can come. */
  async #askWhile(mayMoreCome: () => boolean): Promise<void> {
    for (;;) {
      const next = this.#accepted.shift();
      if (next) await this.#orFail(next.buyer, () => this.#ask(next));
      else if (!mayMoreCome()) return;
      else await sleep(askAgainAfterMs);
    }
  }

  async #ask({ buyer, orderPath }: Accepted): Promise<void> {
    const { status, body } = await this.#send(orderPath, { token: buyer.basketToken });
    if (status !== 200) throw new Error(`${orderPath} was answered with ${status}`);
    if (body.status === 'completed') this.#note(buyer, 'sold');
    else if (body.status === 'failed' || body.status === 'cancelled') {
      this.#unitsReturned++;
      this.#note(buyer, 'declined');
    } else {
      await sleep(askAgainAfterMs);
      this.#accepted.push({ buyer, orderPath });
    }
  }

  /** Sent again as long as the shop says that it has no room now. */
  async #send(path: string, message: Message): Promise<Answer> {
    for (;;) {
      this.#signal.throwIfAborted();
      const answer = await this.#shop.send(path, message);
      if (answer.status !== 503 && answer.status !== 429) return answer;
      await sleep(tryAgainAfterMs);
    }
  }

  /** A buyer who fails does not keep the others from going on; the end of the race does. */
  async #orFail(buyer: Buyer, act: () => Promise<void>): Promise<void> {
    try {
      await act();
    } catch (error) {
      this.#signal.throwIfAborted();
      this.firstFault ??= (error as Error).message;
      this.#note(buyer, 'failed');
    }
  }

  #note(buyer: Buyer, stage: Stage, tookMs?: number): void {
    const turn = [buyer.index, stage, this.#now()] as const;
    this.#turns.push(tookMs === undefined ? turn : [...turn, tookMs]);
  }

  #now(): number {
    return rounded(performance.now() - this.#beganAtMs);
  }
}

/** Declined cards are spread evenly over the buyers. */
function newBuyer(index: number, declinedPercent: number): Buyer {
  const isDeclined = declinedUpTo(index + 1, declinedPercent) > declinedUpTo(index, declinedPercent);
  return { index, paymentToken: isDeclined ? 'tok_fail' : 'tok_success', basketToken: undefined };
}

function declinedUpTo(buyers: number, declinedPercent: number): number {
  return Math.floor((buyers * declinedPercent) / 100);
}

function faultIn({ status, body }: Answer): string {
  const { messages = [] } = (body.error ?? {}) as { messages?: string[] };
  return `The shop answered a buyer with ${status}: ${messages.join('; ')}`;
}

function inAnyOrder<T>(items: readonly T[]): T[] {
  const keyed = items.map((item) => ({ item, key: Math.random() }));
  return keyed.sort((one, other) => one.key - other.key).map(({ item }) => item);
}

/** To a hundredth of a millisecond. */
function rounded(ms: number): number {
  return Math.round(ms * 100) / 100;
}

/** Has `work` done for each of `items`, in their order, for at most so many of them at the same time. */
async function inParallel<T>(items: readonly T[], atOnce: number, work: (item: T) => Promise<void>): Promise<void> {
  const left = items.values();
  const doOnesLeft = async (): Promise<void> => {
    for (const item of left) await work(item);
  };
  await Promise.all(Array.from({ length: Math.min(atOnce, items.length) }, doOnesLeft));
}
