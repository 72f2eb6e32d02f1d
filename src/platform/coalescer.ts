import { Unavailable } from '../shared/refusal.ts';

export type CoalescerOptions<Request, Answer> = Readonly<{
  /**
   * Runs one batch and answers its members in their order; an answer may be a promise of one that comes later, for
   * which the batch is not held. What it throws is every member's error.
   */
  run: (batch: readonly Request[]) => Promise<readonly (Answer | Promise<Answer>)[]>;
  /** Requests of one key are served one after the other, in the order of their arrival; null: no key. */
  keyOf: (request: Request) => string | null;
  /** Whether an error may be due to one member's data, so that its neighbours are worth another try without it. */
  isMemberFault: (error: unknown) => boolean;
  /** Told of every batch that had to be split: a gap in validation. */
  onSplit: (error: unknown, size: number) => void;
  limits: CoalescerLimits;
}>;

export type CoalescerLimits = Readonly<{
  /** Requests that may wait; the next is turned away. */
  waiting: number;
  /** Requests of one key that may wait. */
  waitingPerKey: number;
  batch: number;
  /** Batches under way at the same time. */
  inFlight: number;
  /** How long a request may wait before it is turned away. */
  waitMs: number;
}>;

/** Figures since the start, and the lengths of the lines now. */
export type CoalescerStats = Readonly<{
  batches: number;
  served: number;
  splits: number;
  largestBatch: number;
  waiting: number;
  inFlight: number;
  /** Sum of the times that served requests have waited. */
  waitedMs: number;
}>;

/** Thrown where a line is full; see {@link CoalescerLimits}. */
export class LineFull extends Unavailable {
  readonly ofKey: boolean;

  constructor(ofKey: boolean) {
    super(ofKey ? 'Too many requests are waiting for one key' : 'Too many requests are waiting');
    this.name = 'LineFull';
    this.ofKey = ofKey;
  }
}

const sweepEveryMs = 100;

type Member<Request, Answer> = {
  readonly request: Request;
  readonly key: string | null;
  readonly place: number;
  readonly arrivedAtMs: number;
  readonly resolve: (answer: Answer | Promise<Answer>) => void;
  readonly reject: (error: unknown) => void;
  hasLeft: boolean;
};

/**
 * Turns requests that come one by one into batches, without a timer: a request that finds nothing under way leaves at
 * once, as a batch of one; those that come meanwhile wait together and leave together as soon as a batch returns.
 */
export class Coalescer<Request, Answer> {
  readonly #options: CoalescerOptions<Request, Answer>;
  /** Those that may leave now: the first of each key, and all without one. */
  #ready: Member<Request, Answer>[] = [];
  /** Those behind another of their key; a key is here from its first request to its last answer. */
  readonly #behind = new Map<string, Member<Request, Answer>[]>();
  #waiting = 0;
  #inFlight = 0;
  #places = 0;
  readonly #figures = { batches: 0, served: 0, splits: 0, largestBatch: 0, waitedMs: 0 };
  #sweeper: NodeJS.Timeout | null = null;

  constructor(options: CoalescerOptions<Request, Answer>) {
    this.#options = options;
  }

  /**
   * Waits for a place in a batch and for that batch's answer. Rejects with {@link LineFull} at once when a line is
   * full, with {@link Unavailable} when no batch could take it in time, and with the signal's reason when it is aborted
   * before it leaves; once it is under way it is answered.
   */
  submit(request: Request, signal?: AbortSignal): Promise<Answer> {
    const { keyOf, limits } = this.#options;
    if (signal?.aborted) return Promise.reject(signal.reason);
    if (this.#waiting >= limits.waiting) return Promise.reject(new LineFull(false));
    const key = keyOf(request);
    const behind = key === null ? undefined : this.#behind.get(key);
    if (behind && behind.length >= limits.waitingPerKey) return Promise.reject(new LineFull(true));
    return new Promise((resolve, reject) => {
      const place = this.#places++;
      const member = { request, key, place, arrivedAtMs: performance.now(), resolve, reject, hasLeft: false };
      signal?.addEventListener('abort', () => this.#turnAway(member, signal.reason), { once: true });
      this.#waiting++;
      this.#queue(member);
      this.#dispatch();
    });
  }

  /** Figures for metrics. */
  stats(): CoalescerStats {
    return { ...this.#figures, waiting: this.#waiting, inFlight: this.#inFlight };
  }

  #queue(member: Member<Request, Answer>): void {
    this.#sweeper ??= setInterval(() => this.#turnAwayLate(), sweepEveryMs);
    if (member.key === null) {
      this.#ready.push(member);
      return;
    }
    const behind = this.#behind.get(member.key);
    if (behind) behind.push(member);
    else {
      this.#behind.set(member.key, []);
      this.#ready.push(member);
    }
  }

  /** Batches leave while there is room for one more under way. */
  #dispatch(): void {
    const { limits } = this.#options;
    while (this.#inFlight < limits.inFlight && this.#ready.length > 0) {
      const batch = this.#takeBatch(limits.batch);
      if (batch.length > 0) void this.#send(batch);
    }
  }

  #takeBatch(most: number): Member<Request, Answer>[] {
    const batch: Member<Request, Answer>[] = [];
    while (batch.length < most && this.#ready.length > 0) {
      for (const member of this.#ready.splice(0, most - batch.length)) {
        if (member.hasLeft) this.#letNextOfKey(member.key);
        else batch.push(member);
      }
    }
    const nowMs = performance.now();
    for (const member of batch) {
      member.hasLeft = true;
      this.#figures.waitedMs += nowMs - member.arrivedAtMs;
    }
    this.#waiting -= batch.length;
    return batch.sort((one, other) => one.place - other.place);
  }

  async #send(batch: Member<Request, Answer>[]): Promise<void> {
    this.#inFlight++;
    this.#figures.batches++;
    this.#figures.largestBatch = Math.max(this.#figures.largestBatch, batch.length);
    await this.#serve(batch);
    this.#inFlight--;
    for (const member of batch) this.#letNextOfKey(member.key);
    this.#dispatch();
  }

  /** Halves are served one after the other within the same place, so that newer arrivals stay behind both. */
  async #serve(batch: readonly Member<Request, Answer>[]): Promise<void> {
    try {
      const answers = await this.#options.run(batch.map((member) => member.request));
      if (answers.length !== batch.length) throw new Error(`${batch.length} requests got ${answers.length} answers`);
      batch.forEach((member, index) => void member.resolve(answers[index] as Answer | Promise<Answer>));
      this.#figures.served += batch.length;
    } catch (error) {
      if (batch.length === 1 || !this.#options.isMemberFault(error)) {
        for (const member of batch) member.reject(error);
        return;
      }
      this.#figures.splits++;
      this.#options.onSplit(error, batch.length);
      const middle = Math.ceil(batch.length / 2);
      await this.#serve(batch.slice(0, middle));
      await this.#serve(batch.slice(middle));
    }
  }

  #letNextOfKey(key: string | null): void {
    if (key === null) return;
    const behind = this.#behind.get(key);
    let next = behind?.shift();
    while (next?.hasLeft) next = behind?.shift();
    if (next) this.#ready.push(next);
    else this.#behind.delete(key);
  }

  #turnAway(member: Member<Request, Answer>, reason: unknown): void {
    if (member.hasLeft) return;
    member.hasLeft = true;
    this.#waiting--;
    member.reject(reason);
  }

  /** The clock is looked at for all of them together: a timer for each request would cost more than the request. */
  #turnAwayLate(): void {
    const arrivedBeforeMs = performance.now() - this.#options.limits.waitMs;
    for (const member of [...this.#ready, ...[...this.#behind.values()].flat()]) {
      if (member.arrivedAtMs < arrivedBeforeMs)
        this.#turnAway(member, new Unavailable('No batch could take the request in time'));
    }
    if (this.#waiting > 0 || !this.#sweeper) return;
    clearInterval(this.#sweeper);
    this.#sweeper = null;
  }
}
