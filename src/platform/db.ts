import { once } from 'node:events';
import { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { Unavailable } from '../shared/refusal.ts';
import { encodeParameters, type Statement, type Value } from './parameters.ts';
import { countPool } from './pools.ts';

export type { Statement, Value } from './parameters.ts';

/** Can read; what it reads may be a moment old. */
export interface Reader {
  query<Row>(statement: Statement, values?: readonly Value[]): Promise<Row[]>;
}

declare const insideTransaction: unique symbol;

/** An open transaction: the only thing that can lock, take stock, or write. */
export interface Tx extends Reader {
  readonly [insideTransaction]: true;
  /** Writes that need no answer: they leave together with COMMIT, in one round trip. */
  defer(statement: Statement, values?: readonly Value[]): void;
}

/** Reads, single writes and transactions on the primary. */
export interface Database extends Reader {
  transaction<T>(work: (tx: Tx) => Promise<T>): Promise<T>;
  close(): Promise<void>;
}

export type DatabaseOptions = Readonly<{
  url: string;
  /** Shown in pg_stat_activity. */
  name: string;
  connections: number;
  /** Requests that may wait for a connection before the next is turned away. */
  waiting: number;
  readOnly?: boolean;
  /**
   * `each time`, unless told otherwise: right for statements whose best plan depends on their values. `once`: for those that
   * look rows up by index; it saves some 0.2 ms for each execution.
   */
  plans?: 'each time' | 'once';
  /** How long an answer is waited for; then the connection counts as lost. Above what the server allows a statement. */
  answerTimeoutMs?: number;
  /** How long a lock is waited for. */
  lockTimeoutMs?: number;
  onError: (error: Error) => void;
}>;

/** The connection was lost after COMMIT had been sent: the transaction may have taken effect, or not. */
export class CommitUnknown extends Error {
  constructor(cause: unknown) {
    super('The answer to COMMIT was lost', { cause });
    this.name = 'CommitUnknown';
  }
}

const lockTimeoutMs = 1_000;
const statementTimeoutMs = 5_000;
const idleInTransactionTimeoutMs = 1_000;
/** A network that swallows everything must not hold a request for ever: the server itself answers after 5 s. */
const answerTimeoutMs = 7_000;
const connectTimeoutMs = 3_000;
/** How long the network may take to close a connection. */
const farewellMs = 1_000;
const transactionTries = 5;
/** What is looked up by key is in memory, or on a disk without a head to move. */
const plannerSettings = ['random_page_cost=1.1'];
/**
 * A plan that was made while a table was nearly empty, and kept, reads all of it for each batch of the sale that fills it,
 * until the table is analyzed (measured: 2,600 microseconds an order instead of 200).
 */
const plannedEachTime = [...plannerSettings, 'plan_cache_mode=force_custom_plan'];
/** Whatever the planner thinks of the size of a table: look-ups by index, row for row, are right for any. */
const plannedOnce = [...plannerSettings, 'enable_seqscan=off', 'enable_hashjoin=off', 'enable_mergejoin=off'];

const repeatable = new Set(['40001', '40P01']);
/**
 * Classes 08, 53, 57 (connection, resources, operator intervention), a lock not had in time, a server that has lost its
 * office to another and only reads, a refused connection.
 */
const passing = /^(08|53|57)|^(55P03|25P03|25006|ECONNREFUSED|ECONNRESET|EPIPE|ENOTFOUND|EHOSTUNREACH|ETIMEDOUT)$/;

/** A named statement. The name must be unique in the program; by convention `<module>.<what>`. */
export function sql(name: string, text: string): Statement {
  return { name, text };
}

/**
 * Opens a pool on `options.url`. Every connection has the engine's limits: a stalled process loses its locks after 1 s,
 * a lock is waited for 1 s, a statement runs 5 s at most. Throws {@link Unavailable} from its methods while the
 * database cannot be reached or its line is full.
 */
export function openDatabase(options: DatabaseOptions): Database {
  const sockets = new Set<Socket>();
  const pool = new pg.Pool({
    stream: () => openSocket(sockets),
    connectionString: options.url,
    application_name: `scalecommerce ${options.name}`,
    max: options.connections,
    connectionTimeoutMillis: connectTimeoutMs,
    idleTimeoutMillis: 30_000,
    keepAlive: true,
    keepAliveInitialDelayMillis: 2_000,
    pipeline: true,
    lock_timeout: options.lockTimeoutMs ?? lockTimeoutMs,
    statement_timeout: statementTimeoutMs,
    idle_in_transaction_session_timeout: idleInTransactionTimeoutMs,
    query_timeout: options.answerTimeoutMs ?? answerTimeoutMs,
    types: { getTypeParser: typeParserOf },
    options: settingsOf(options)
      .map((setting) => `-c ${setting}`)
      .join(' '),
  });
  // A client may die between two statements, or before the pool has handed it out: its error event must not take the
  // process with it. Whoever uses it next learns of it.
  pool.on('connect', (client) => void client.on('error', () => undefined));
  const forget = countPool(pool, options.name);
  pool.on('error', (error) => {
    // The pool hangs the whole client on it, the key included with which its statements can be cancelled.
    Reflect.deleteProperty(error, 'client');
    // Connections that take their leave may still hear that the server does so, too.
    if (!pool.ending)
      options.onError(new Unavailable(`An idle connection was lost: ${error.message}`, { cause: error }));
  });
  return {
    query: (statement, values = []) => withClient(pool, options, (client) => run(client, statement, values)),
    transaction: (work) => repeated(() => withClient(pool, options, (client) => inTransaction(client, work))),
    close: async () => {
      forget();
      await pool.end();
      await closeSockets(sockets);
    },
  };
}

function settingsOf({ plans = 'each time', readOnly = false }: DatabaseOptions): string[] {
  const planning = plans === 'once' ? plannedOnce : plannedEachTime;
  return readOnly ? [...planning, 'default_transaction_read_only=on'] : planning;
}

/** A socket that is among `sockets` until it is closed. */
export function openSocket(sockets: Set<Socket>): Socket {
  const socket = new Socket();
  sockets.add(socket);
  return socket.once('close', () => sockets.delete(socket));
}

/** Where the network swallows everything, the other end never hears of the farewell: the process must end all the same. */
export async function closeSockets(sockets: ReadonlySet<Socket>): Promise<void> {
  const closed = Promise.allSettled([...sockets].map((socket) => once(socket, 'close')));
  await Promise.race([closed, sleep(farewellMs, undefined, { ref: false })]);
  for (const socket of sockets) socket.destroy();
}

async function withClient<T>(
  pool: pg.Pool,
  { waiting, readOnly = false }: DatabaseOptions,
  use: (client: pg.PoolClient) => Promise<T>,
): Promise<T> {
  if (pool.waitingCount >= waiting) throw new Unavailable('Too many requests are waiting for the database');
  const client = await pool.connect().catch((cause: Error) => {
    throw new Unavailable(`The database cannot be reached: ${cause.message}`, { cause });
  });
  let broken: Error | undefined;
  try {
    return await use(client);
  } catch (error) {
    // Where nothing but reading was asked for, a write is the program's fault and no server's.
    if (readOnly && isReadOnlyRefusal(error)) throw error;
    broken = connectionIsSuspect(error) ? (error as Error) : undefined;
    throw asUnavailable(error);
  } finally {
    client.release(broken);
  }
}

async function inTransaction<T>(client: pg.PoolClient, work: (tx: Tx) => Promise<T>): Promise<T> {
  const writes: Array<[Statement, readonly Value[]]> = [];
  // BEGIN travels ahead of the first statement, which is not kept waiting; all that follow are.
  const begun = client.query('BEGIN');
  begun.catch(() => undefined);
  // Statements may be sent without waiting; behind one that has failed, the server only says that something had failed.
  let first: { failure: unknown } | null = null;
  const tx = {
    query: async (statement: Statement, values: readonly Value[] = []) => {
      const rows = await run(client, statement, values).catch((failure: unknown) => {
        first ??= { failure };
        throw first.failure;
      });
      await begun;
      return rows;
    },
    defer: (statement: Statement, values: readonly Value[] = []) => void writes.push([statement, values]),
  } as Tx;
  try {
    const result = await work(tx);
    await begun;
    await commit(client, writes);
    return result;
  } catch (error) {
    await client.query('ROLLBACK').catch(() => undefined);
    throw error;
  }
}

/**
 * Sends the writes and COMMIT in one pipeline. All parameters are encoded before the first goes out: a statement whose
 * parameters could not be encoded would be left out while COMMIT, behind it, is not.
 */
async function commit(client: pg.PoolClient, writes: ReadonlyArray<[Statement, readonly Value[]]>): Promise<void> {
  const encoded = writes.map(([statement, values]) => ({ ...statement, values: encodeParameters(statement, values) }));
  const answers = await Promise.allSettled([...encoded.map((write) => client.query(write)), client.query('COMMIT')]);
  const failedAt = answers.findIndex((answer) => answer.status === 'rejected');
  const failure = answers[failedAt];
  if (failure?.status === 'rejected')
    throw isCommitUnknown(failure.reason, failedAt === writes.length)
      ? new CommitUnknown(failure.reason)
      : failure.reason;
  const last = answers.at(-1);
  if (last?.status === 'fulfilled' && last.value.command !== 'COMMIT')
    throw new Error(`COMMIT was answered with ${last.value.command}`);
}

/**
 * Whether COMMIT may have taken effect although the first failure of its pipeline was `error`, its own when `atCommit`.
 * A write that the server refused, were it with its last word, means that COMMIT found nothing to commit.
 */
function isCommitUnknown(error: unknown, atCommit: boolean): boolean {
  if (wasNeverSent(error) || sqlStateOf(error) === '25P03') return false;
  return error instanceof pg.DatabaseError ? atCommit && connectionIsSuspect(error) : true;
}

/** How the driver refuses to use a connection of which it has learnt that it is lost. */
function wasNeverSent(error: unknown): boolean {
  return error instanceof Error && error.message.endsWith('is not queryable');
}

async function run<Row>(client: pg.PoolClient, statement: Statement, values: readonly Value[]): Promise<Row[]> {
  const result = await client.query({ ...statement, values: encodeParameters(statement, values) });
  return result.rows as Row[];
}

/** Runs a transaction again, whole, when the server broke it up for the sake of others (40001, 40P01), some times. */
async function repeated<T>(attempt: () => Promise<T>): Promise<T> {
  for (let tries = 1; ; tries++) {
    try {
      return await attempt();
    } catch (error) {
      if (!repeatable.has(sqlStateOf(error))) throw error;
      if (tries >= transactionTries) throw new Unavailable('A transaction was broken up too often', { cause: error });
      await sleep(Math.random() * 10 * tries);
    }
  }
}

/** Every bigint of the schema fits a double exactly: money is at most 10^15 minor units, sequences are below 2^53. */
function typeParserOf(oid: number, format?: 'text' | 'binary'): (text: string) => unknown {
  if (oid === pg.types.builtins.INT8) return Number;
  return pg.types.getTypeParser(oid, format as 'text') as (text: string) => unknown;
}

/** The SQLSTATE (or the socket's error code) of `error`, or the empty string. */
export function sqlStateOf(error: unknown): string {
  const code = error instanceof Error && 'code' in error ? error.code : '';
  return typeof code === 'string' ? code : '';
}

/** Whether a transaction was given up since somebody held a row that it needed for longer than it would wait. */
export function isLockTimeout(error: unknown): boolean {
  return error instanceof Unavailable && sqlStateOf(error.cause) === '55P03';
}

/** Whether the data of a statement caused `error`: a value (class 22) or a constraint (class 23). */
export function isDataFault(error: unknown): boolean {
  return error instanceof pg.DatabaseError && /^2[23]/.test(sqlStateOf(error));
}

/**
 * An error that is not the server's own answer leaves the connection in a state that nobody knows; and a server that
 * only reads will not do: the next connection leads to its successor.
 */
function connectionIsSuspect(error: unknown): boolean {
  return !(error instanceof pg.DatabaseError) || /^(08|57|25P03)/.test(sqlStateOf(error)) || isReadOnlyRefusal(error);
}

function isReadOnlyRefusal(error: unknown): boolean {
  return sqlStateOf(error) === '25006';
}

function asUnavailable(error: unknown): unknown {
  if (error instanceof Unavailable) return error;
  const lostConnection =
    error instanceof Error && /Connection terminated|timeout exceeded|Query read timeout/.test(error.message);
  if (!passing.test(sqlStateOf(error)) && !lostConnection && !wasNeverSent(error)) return error;
  return new Unavailable(`The database did not answer: ${(error as Error).message}`, { cause: error });
}
