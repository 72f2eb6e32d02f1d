import { existsSync, rmSync } from 'node:fs';
import pg from 'pg';
import { chooseAccount } from './embedded-postgres/account.ts';
import { findBinaries } from './embedded-postgres/binaries.ts';
import { ensureCluster, readPassword } from './embedded-postgres/cluster.ts';
import { addHolder, pruneHolders } from './embedded-postgres/holders.ts';
import { withLock } from './embedded-postgres/lock.ts';
import { failure, openPlace, type Place } from './embedded-postgres/place.ts';
import {
  awaitEnd,
  awaitReady,
  findPostmaster,
  type Postmaster,
  stopPostmaster,
} from './embedded-postgres/postmaster.ts';
import { identityOf, isAlive } from './embedded-postgres/process-identity.ts';
import { startPostmaster } from './embedded-postgres/start.ts';

/** A share in the server of a folder. */
export interface EmbeddedPostgres {
  /** Of the database `scalecommerce`, as superuser. */
  readonly url: string;
  /** Gives the share back; whoever gives back the last one stops the server. May be called again. */
  release(): Promise<void>;
}

/** Of one acquire. `settings` are further options of postgres, applied when this call starts the server. */
export type EmbeddedPostgresOptions = Readonly<{
  dataDir: string;
  settings?: Readonly<Record<string, string>>;
  log?: (line: string) => void;
}>;

type Log = ((line: string) => void) | undefined;

const database = 'scalecommerce';
const databaseMissing = '3D000';

/**
 * Joins the server of `dataDir` (an absolute or relative folder), starting it (and creating the cluster) when it does
 * not run. Processes share it: the last to release stops it, and one that a killed process left running is taken over.
 * Throws with the folder, the log and its last lines when there is no server to be had.
 */
export async function acquireEmbeddedPostgres(options: EmbeddedPostgresOptions): Promise<EmbeddedPostgres> {
  const place = openPlace(options.dataDir);
  const { settings = {}, log } = options;
  return locked(place, log, async () => {
    const holder = addHolder(place.holders);
    try {
      const server = await join(place, settings, log);
      const url = urlOf(server, readPassword(place), database);
      await ensureDatabase(place, server, url);
      return { url, release: onlyOnce(releaser(place, holder, server, log)) };
    } catch (error) {
      await leave(place, holder, log);
      throw error;
    }
  });
}

async function join(place: Place, settings: Readonly<Record<string, string>>, log: Log): Promise<Postmaster> {
  const running = findPostmaster(place.cluster);
  if (running && running.status !== 'stopping') {
    const ready = await awaitReady(place, running.pid);
    if (ready) return ready;
  }
  if (running) await awaitEnd(running.pid);
  return start(place, settings, log);
}

async function start(place: Place, settings: Readonly<Record<string, string>>, log: Log): Promise<Postmaster> {
  const binaries = findBinaries();
  const { account, version } = await chooseAccount(place, binaries);
  if (!existsSync(place.cluster)) log?.(`creating a PostgreSQL cluster in ${place.cluster}`);
  await ensureCluster(place, binaries, account, { version, durable: settings.fsync !== 'off' });
  const server = await startPostmaster(place, binaries, account, settings);
  log?.(`${version} runs on 127.0.0.1:${server.port} as ${account.name}`);
  return server;
}

function releaser(place: Place, holder: string, server: Postmaster, log: Log): () => Promise<void> {
  const postmaster = identityOf(server.pid);
  return async () => {
    if (existsSync(place.cluster)) return locked(place, log, () => leave(place, holder, log));
    // Somebody deleted the data under the running server: nothing is shared any more, and there is no lock to take.
    if (postmaster && isAlive(postmaster)) await stopPostmaster(place, postmaster.pid);
  };
}

function onlyOnce(work: () => Promise<void>): () => Promise<void> {
  let result: Promise<void> | undefined;
  return () => {
    result ??= work();
    return result;
  };
}

async function leave(place: Place, holder: string, log: Log): Promise<void> {
  rmSync(holder, { force: true });
  if (pruneHolders(place.holders) > 0) return;
  const server = findPostmaster(place.cluster);
  if (!server) return;
  log?.('stopping PostgreSQL');
  await stopPostmaster(place, server.pid);
}

function locked<T>(place: Place, log: Log, work: () => Promise<T>): Promise<T> {
  const onWait = () => log?.(`waiting for another process that starts or stops PostgreSQL in ${place.dataDir}`);
  return withLock(place.lock, onWait, work);
}

/** Also for a server that is taken over: whoever started it may have died before it came to this. */
async function ensureDatabase(place: Place, server: Postmaster, url: string): Promise<void> {
  try {
    if (await canConnect(url)) return;
    const administration = await connect(urlOf(server, readPassword(place), 'postgres'));
    await administration.query(`CREATE DATABASE ${database}`).finally(() => administration.end());
  } catch (cause) {
    throw failure(place, `PostgreSQL on 127.0.0.1:${server.port} does not let us in`, cause);
  }
}

async function canConnect(url: string): Promise<boolean> {
  try {
    const client = await connect(url);
    await client.end();
    return true;
  } catch (error) {
    if ((error as { code?: string }).code === databaseMissing) return false;
    throw error;
  }
}

async function connect(url: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url, ssl: false, application_name: 'scalecommerce start' });
  await client.connect();
  return client;
}

function urlOf(server: Postmaster, password: string, name: string): string {
  return `postgres://postgres:${password}@127.0.0.1:${server.port}/${name}`;
}
