import { Unavailable } from '../shared/refusal.ts';
import { Coalescer, type CoalescerLimits, type CoalescerOptions, type Departure, LineFull } from './coalescer.ts';
import { CommitUnknown, type Database, isDataFault, isLockTimeout, type Tx } from './db.ts';
import { Turns } from './turns.ts';

/** For each request that has to wait: the row that somebody holds. */
export type HeldRows<Request> = ReadonlyMap<Request, string>;

export type BatchesOptions<Request, Answer> = Readonly<{
  /** What its figures are called; those of all side lines together `<name>, aside`. */
  name: string;
  /** Waits for a lock as long as any transaction: for those set aside. */
  database: Database;
  /** Gives up on a lock soon, since a whole batch waits. */
  batchDatabase: Database;
  /** Serves requests in one transaction on `database` and answers them in their order. */
  serve: (database: Database, requests: readonly Request[]) => Promise<readonly Answer[]>;
  /** Requests of one key are served one after the other, in the order of their arrival; null: no key. */
  keyOf: (request: Request) => string | null;
  /** Which of `requests` need a row that somebody holds at this moment. Waits for no lock and keeps none. */
  findHeld: (database: Database, requests: readonly Request[]) => Promise<HeldRows<Request>>;
  /** Which of `requests` need one of `rows`, of which it is known that somebody holds them. */
  findNamed: (
    database: Database,
    requests: readonly Request[],
    rows: { has(row: string): boolean },
  ) => Promise<HeldRows<Request>>;
  /** Locks a row that {@link findHeld} has named, as strongly as serving a request does. */
  lockRow: (tx: Tx, row: string) => Promise<unknown>;
  /** Told of every batch that had to be split: a gap in validation. */
  onSplit: (error: unknown, size: number) => void;
}>;

type Run<Request, Answer> = CoalescerOptions<Request, Answer>['run'];
type DepartureOf<Request> = (request: Request) => Departure | undefined;

/** Those that wait for one row. */
type SideLine<Request, Answer> = { readonly line: Coalescer<Request, Answer>; members: number };
/** Where those of one key wait. */
type SidePlace = { readonly row: string; members: number };

const limits: CoalescerLimits = { waiting: 10_000, waitingPerKey: 64, batch: 500, inFlight: 2, waitMs: 5_000 };
const sideLimits: CoalescerLimits = { waiting: 2_000, waitingPerKey: 64, batch: 500, inFlight: 1, waitMs: 5_000 };
/** Those set aside for all rows together. */
const mostAside = 10_000;
/** How long those set aside try for a row that stays held. */
const patienceMs = 5_000;
/**
 * Of the side lines, however many rows are held: so many wait for their row at the same time, each on a connection, and
 * one is served beside the main line, to which the other connections for batches are left.
 */
const waitAtOnce = 4;
const servedAtOnce = 1;
/** Batches that run into one held row after another are given up. */
const mostDetours = 3;

/**
 * Serves requests in batches that form by themselves. A row that somebody else holds for long costs a batch one short
 * wait: the members that need it are then set aside into a bounded line of that row's own, with later arrivals for the
 * row, or of a member's key, behind them, and everybody else goes on.
 */
export class BatchesAroundHeldRows<Request, Answer> {
  readonly #options: BatchesOptions<Request, Answer>;
  readonly #line: Coalescer<Request, Answer>;
  readonly #sideLines = new Map<string, SideLine<Request, Answer>>();
  readonly #sidePlaces = new Map<string, SidePlace>();
  readonly #turnsToWait = new Turns(waitAtOnce);
  readonly #turnsToServe = new Turns(servedAtOnce);
  #aside = 0;

  constructor(options: BatchesOptions<Request, Answer>) {
    this.#options = options;
    this.#line = this.#open(options.name, limits, async (requests, departureOf) =>
      this.#serveAround(requests, departureOf, await this.#findBehindOthers(requests), 0),
    );
  }

  /** Serves one request; rejects as {@link Coalescer.submit} does. */
  submit(request: Request, departure?: Departure): Promise<Answer> {
    return this.#line.submit(request, departure);
  }

  #open(name: string, lineLimits: CoalescerLimits, run: Run<Request, Answer>): Coalescer<Request, Answer> {
    const { keyOf, onSplit } = this.#options;
    return new Coalescer({ name, run, keyOf, isMemberFault: isDataFault, onSplit, limits: lineLimits });
  }

  /** Who needs a row that others are waiting for already, or comes after one of its key who is. */
  async #findBehindOthers(requests: readonly Request[]): Promise<HeldRows<Request>> {
    if (this.#aside === 0) return new Map();
    const { batchDatabase, findNamed } = this.#options;
    const named = new Map(await look(() => findNamed(batchDatabase, requests, this.#sideLines)));
    for (const request of requests) {
      const place = this.#sidePlaces.get(this.#options.keyOf(request) ?? '');
      if (place) named.set(request, place.row);
    }
    return named;
  }

  /** Answers the members that can be served now; those that cannot get a promise of the line that they wait in. */
  async #serveAround(
    requests: readonly Request[],
    departureOf: DepartureOf<Request>,
    held: HeldRows<Request>,
    detours: number,
  ): Promise<(Answer | Promise<Answer>)[]> {
    // First: should it fail, it fails for the whole batch, and nobody of it may be served later after all.
    const served = await this.#serveFree(without(requests, held), departureOf, detours);
    return assemble(requests, held, served, (request, row) => this.#setAside(request, departureOf(request), row));
  }

  async #serveFree(
    requests: readonly Request[],
    departureOf: DepartureOf<Request>,
    detours: number,
  ): Promise<readonly (Answer | Promise<Answer>)[]> {
    if (requests.length === 0) return [];
    const { batchDatabase, serve, findHeld } = this.#options;
    try {
      return await serve(batchDatabase, requests);
    } catch (error) {
      if (!isLockTimeout(error) || detours >= mostDetours) throw error;
      const held = await look(() => findHeld(batchDatabase, requests));
      return this.#serveAround(requests, departureOf, held, detours + 1);
    }
  }

  #setAside(request: Request, departure: Departure | undefined, row: string): Promise<Answer> {
    if (this.#aside >= mostAside) return rejected(new LineFull(false));
    const side = this.#sideLines.get(row) ?? this.#openSideLine(row);
    const key = this.#options.keyOf(request);
    const place = key === null ? null : (this.#sidePlaces.get(key) ?? { row, members: 0 });
    this.#sideLines.set(row, side);
    if (key !== null && place) this.#sidePlaces.set(key, place);
    this.#count(1, side, place);
    const answer = side.line.submit(request, departure).finally(() => {
      this.#count(-1, side, place);
      if (side.members === 0) this.#sideLines.delete(row);
      if (key !== null && place?.members === 0) this.#sidePlaces.delete(key);
    });
    return handedOnLater(answer);
  }

  #count(change: 1 | -1, side: SideLine<Request, Answer>, place: SidePlace | null): void {
    this.#aside += change;
    side.members += change;
    if (place) place.members += change;
  }

  #openSideLine(row: string): SideLine<Request, Answer> {
    const untilServed = (requests: readonly Request[]) =>
      this.#servePatiently(row, requests, performance.now() + patienceMs);
    return { line: this.#open(`${this.#options.name}, aside`, sideLimits, untilServed), members: 0 };
  }

  /**
   * Waits for the row alone: whoever waited with other rows locked would hold those up, too. A member that then needs yet
   * another held row is turned away.
   */
  async #servePatiently(
    row: string,
    requests: readonly Request[],
    untilMs: number,
  ): Promise<readonly (Answer | Promise<Answer>)[]> {
    const { batchDatabase, serve, findHeld } = this.#options;
    if (requests.length === 0) return [];
    try {
      await this.#turnsToWait.run(() => this.#waitForRow(row, untilMs));
      return await this.#turnsToServe.run(() => serve(batchDatabase, requests));
    } catch (error) {
      if (!isLockTimeout(error) || performance.now() > untilMs) throw error;
      const held = await this.#turnsToServe.run(() => look(() => findHeld(batchDatabase, requests)));
      const elsewhere = new Map([...held].filter(([, other]) => other !== row));
      const served = await this.#servePatiently(row, without(requests, elsewhere), untilMs);
      return assemble(requests, elsewhere, served, () => rejected(error));
    }
  }

  /** Where many rows stay held, the turn may come too late: then those behind it are not kept waiting. */
  async #waitForRow(row: string, untilMs: number): Promise<void> {
    if (performance.now() > untilMs) throw new Unavailable('Too many rows are held at the same time');
    const { database, lockRow } = this.#options;
    await look(() => database.transaction((tx) => lockRow(tx, row)));
  }
}

/** Runs a transaction that writes nothing: were its COMMIT lost, nothing was taken. */
async function look<T>(run: () => Promise<T>): Promise<T> {
  try {
    return await run();
  } catch (error) {
    if (!(error instanceof CommitUnknown)) throw error;
    throw new Unavailable('The database was lost during a look at held rows', { cause: error });
  }
}

function without<Request>(requests: readonly Request[], held: HeldRows<Request>): readonly Request[] {
  return held.size === 0 ? requests : requests.filter((request) => !held.has(request));
}

/** The answers of all: `served` are those of the ones that are not `held`, in their order. */
function assemble<Request, Answer>(
  requests: readonly Request[],
  held: HeldRows<Request>,
  served: readonly (Answer | Promise<Answer>)[],
  answerHeld: (request: Request, row: string) => Promise<Answer>,
): (Answer | Promise<Answer>)[] {
  let next = 0;
  return requests.map((request) => {
    const row = held.get(request);
    return row === undefined ? (served[next++] as Answer | Promise<Answer>) : answerHeld(request, row);
  });
}

function rejected(error: unknown): Promise<never> {
  return handedOnLater(Promise.reject(error));
}

/** A refusal in the meantime must not count as one that nobody listens to. */
function handedOnLater<Answer>(answer: Promise<Answer>): Promise<Answer> {
  answer.catch(() => undefined);
  return answer;
}
