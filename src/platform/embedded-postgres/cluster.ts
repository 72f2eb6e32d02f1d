import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import {
  chownSync,
  closeSync,
  existsSync,
  fsyncSync,
  lchownSync,
  lstatSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  writeFileSync,
} from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { type Account, commandOf } from './account.ts';
import type { Binaries } from './binaries.ts';
import { clusterFailure, type Place } from './place.ts';

const unfinishedPrefix = 'postgres.new-';
/** Repeated, for an initdb whose caller was killed may still be writing there. */
const removal = { recursive: true, force: true, maxRetries: 10, retryDelay: 20 };

/**
 * Sees to it that `place.cluster` is a whole cluster of this server's major version that `account` can use.
 * `durable` false skips the sync to disk, for clusters that need not survive the machine.
 */
export async function ensureCluster(
  place: Place,
  binaries: Binaries,
  account: Account,
  options: Readonly<{ version: string; durable: boolean }>,
): Promise<void> {
  await removeUnfinished(place);
  if (isMissingOrEmpty(place.cluster)) return createCluster(place, binaries, account, options.durable);
  checkVersion(place, options.version);
  giveTo(account, place);
}

/** The superuser's password. Throws when a cluster has lost it. */
export function readPassword(place: Place): string {
  try {
    return readFileSync(place.password, 'utf8').trim();
  } catch (cause) {
    throw clusterFailure(place, `The password of the PostgreSQL cluster in ${place.cluster} cannot be read`, cause);
  }
}

/**
 * The cluster is made under another name and renamed when it is whole and on disk, so that an interrupted initdb
 * leaves nothing that could be taken for one.
 */
async function createCluster(place: Place, binaries: Binaries, account: Account, durable: boolean): Promise<void> {
  const workshop = mkdtempSync(join(place.dataDir, unfinishedPrefix));
  chownSync(workshop, account.uid, account.gid);
  const passwordForInitdb = join(workshop, 'password');
  writeFileSync(passwordForInitdb, ensurePassword(place), { mode: 0o600 });
  chownSync(passwordForInitdb, account.uid, account.gid);
  const cluster = join(workshop, 'cluster');
  // initdb syncs by itself at its end. The server's first checkpoint would not do: it syncs what the server wrote only.
  const args = [...initdbArguments(cluster, passwordForInitdb), ...(durable ? [] : ['--no-sync'])];
  const command = commandOf(account, place.dataDir, binaries.initdb, args);
  try {
    await runApart(command);
  } catch (cause) {
    throw clusterFailure(place, 'initdb could not create the PostgreSQL cluster', cause);
  }
  renameSync(cluster, place.cluster);
  syncFolder(place.dataDir);
  await rm(workshop, { recursive: true });
}

/** In a process group of its own: a Ctrl-C in the terminal is for us to hear, not for a half-made cluster to die of. */
async function runApart({ file, args, options }: ReturnType<typeof commandOf>): Promise<void> {
  const child = spawn(file, args, { ...options, detached: true, stdio: ['ignore', 'ignore', 'pipe'] });
  const [complaint, [status, signal]] = await Promise.all([text(child.stderr), once(child, 'close')]);
  if (status !== 0) throw new Error(`${file} ended with ${signal ?? `status ${status}`}: ${complaint.trim()}`);
}

function initdbArguments(cluster: string, passwordFile: string): string[] {
  return [
    `--pgdata=${cluster}`,
    '--username=postgres',
    `--pwfile=${passwordFile}`,
    '--auth=scram-sha-256',
    '--encoding=UTF8',
    // The same order of text on every machine: built into the server, not taken from the system's libraries.
    '--locale=C',
    '--locale-provider=builtin',
    '--builtin-locale=C.UTF-8',
    '--no-instructions',
  ];
}

/**
 * For a cluster that does not exist yet. Written under another name, so that whoever is killed on the way leaves no empty
 * one behind; one that was left counts as none.
 */
function ensurePassword(place: Place): string {
  const left = existsSync(place.password) ? readPassword(place) : '';
  if (left !== '') return left;
  const password = randomBytes(24).toString('base64url');
  const unfinished = `${place.password}.new`;
  const file = openSync(unfinished, 'w', 0o600);
  writeFileSync(file, password);
  fsyncSync(file);
  closeSync(file);
  renameSync(unfinished, place.password);
  return password;
}

function syncFolder(folder: string): void {
  const handle = openSync(folder, 'r');
  fsyncSync(handle);
  closeSync(handle);
}

async function removeUnfinished(place: Place): Promise<void> {
  for (const name of readdirSync(place.dataDir)) {
    if (name.startsWith(unfinishedPrefix)) await rm(join(place.dataDir, name), removal);
  }
}

function isMissingOrEmpty(folder: string): boolean {
  return !existsSync(folder) || readdirSync(folder).length === 0;
}

function checkVersion(place: Place, version: string): void {
  const file = join(place.cluster, 'PG_VERSION');
  if (!existsSync(file)) {
    throw clusterFailure(
      place,
      `${place.cluster} is not a PostgreSQL cluster. Move it away, or set DATA_DIR to another folder`,
    );
  }
  const made = readFileSync(file, 'utf8').trim();
  const runs = /(\d+)\.\d+/.exec(version)?.[1];
  if (made === runs) return;
  throw clusterFailure(
    place,
    `The cluster in ${place.cluster} was made by PostgreSQL ${made}, but PostgreSQL ${runs} is installed here. ` +
      `Dump it with version ${made} and restore it, or set DATA_DIR to another folder`,
  );
}

/** Root may come to run the same cluster as another account, for instance after the project was moved. */
function giveTo(account: Account, place: Place): void {
  const owner = lstatSync(place.cluster).uid;
  if (owner === account.uid) return;
  if (process.getuid?.() !== 0) {
    throw clusterFailure(
      place,
      `The cluster in ${place.cluster} belongs to user ${owner}. Run as that user or as root, or set DATA_DIR`,
    );
  }
  for (const name of readdirSync(place.cluster, { recursive: true, encoding: 'utf8' })) {
    lchownSync(join(place.cluster, name), account.uid, account.gid);
  }
  // Last, so that an interrupted change of owner is begun again.
  lchownSync(place.cluster, account.uid, account.gid);
}
