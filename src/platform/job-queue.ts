import { createHash } from 'node:crypto';
import type { Socket } from 'node:net';
import pg from 'pg';
import type { Db, PgBoss } from 'pg-boss';
import { Unavailable } from '../shared/refusal.ts';
import { closeSockets, openSocket, type Statement, sql, type Tx, type Value } from './db.ts';
import { countPool } from './pools.ts';

export type JobQueueOptions = Readonly<{
  url: string;
  /** How often jobs are looked for whose worker is gone, and the queues counted; null where another process does that. */
  superviseEveryS: number | null;
  onError: (error: Error) => void;
}>;

/** The queue of jobs that are no part of a sale (pg-boss, schema `pgboss`). */
export type JobQueue = Readonly<{
  boss: PgBoss;
  /** Waits for jobs at work for up to `patienceMs`; the others will be tried again. */
  close: (patienceMs: number) => Promise<void>;
}>;

const connections = 4;
const connectTimeoutMs = 3_000;
const lockTimeoutMs = 5_000;
const statementTimeoutMs = 15_000;
/** Above what the server allows a statement. */
const answerTimeoutMs = 17_000;
const idleInTransactionTimeoutMs = 5_000;
const deleteEveryS = 600;
const seldomS = 300;

/**
 * Opens the job queue of the database at `url`, and makes or renews its schema where that is missing or old. Close it when
 * done. Loaded when it is wanted: a shop without jobs starts without it.
 */
export async function openJobQueue(options: JobQueueOptions): Promise<JobQueue> {
  const { PgBoss } = await import('pg-boss');
  const { pool, closePool } = openPool(options);
  const boss = new PgBoss({
    db: { executeSql: (text, values) => pool.query(text, values) },
    schedule: false,
    registerInstance: false,
    supervise: options.superviseEveryS !== null,
    ...(options.superviseEveryS === null
      ? {}
      : { superviseIntervalSeconds: options.superviseEveryS, monitorIntervalSeconds: options.superviseEveryS }),
    maintenanceIntervalSeconds: deleteEveryS,
    // No job waits for another.
    flowIntervalSeconds: seldomS,
    bamIntervalSeconds: seldomS,
  });
  boss.on('error', (error) => options.onError(asOutage(error)));
  const close = async (patienceMs: number): Promise<void> => {
    await boss.stop({ graceful: true, timeout: patienceMs, close: false });
    await closePool();
  };
  try {
    await boss.start();
  } catch (error) {
    await close(0);
    throw asOutage(error as Error);
  }
  return { boss, close };
}

/** Lets the job queue work in a transaction of the shop's: `boss.insert(name, jobs, { db: inTransaction(tx) })`. */
export function inTransaction(tx: Tx): Db {
  return {
    executeSql: async (text, values = []) => ({ rows: await tx.query(statementOf(text), values as Value[]) }),
  };
}

/** Texts differ by the name of the queue only. */
function statementOf(text: string): Statement {
  return sql(`job_queue.${createHash('sha256').update(text).digest('hex').slice(0, 32)}`, text);
}

function openPool({ url, onError }: JobQueueOptions): { pool: pg.Pool; closePool: () => Promise<void> } {
  const sockets = new Set<Socket>();
  const pool = new pg.Pool({
    stream: () => openSocket(sockets),
    connectionString: url,
    application_name: 'scalecommerce jobs',
    max: connections,
    connectionTimeoutMillis: connectTimeoutMs,
    idleTimeoutMillis: 30_000,
    keepAlive: true,
    keepAliveInitialDelayMillis: 2_000,
    lock_timeout: lockTimeoutMs,
    statement_timeout: statementTimeoutMs,
    idle_in_transaction_session_timeout: idleInTransactionTimeoutMs,
    query_timeout: answerTimeoutMs,
  });
  pool.on('connect', (client) => void client.on('error', () => undefined));
  pool.on('error', (error) => {
    if (!pool.ending) onError(new Unavailable(`An idle connection of the job queue was lost: ${error.message}`));
  });
  const forget = countPool(pool, 'jobs');
  const closePool = async (): Promise<void> => {
    forget();
    await pool.end();
    await closeSockets(sockets);
  };
  return { pool, closePool };
}

/** Whatever the queue fails with it tries again, and nothing waits for it: in the log it counts as an outage. */
function asOutage(cause: Readonly<{ message: string }>): Error {
  return new Unavailable(`The job queue: ${cause.message}`, { cause });
}
