import { execFile } from 'node:child_process';
import { statSync } from 'node:fs';
import { dirname } from 'node:path';
import { promisify } from 'node:util';
import type { Binaries } from './binaries.ts';
import type { Place } from './place.ts';

/** As whom PostgreSQL's programs run: it refuses root. */
export type Account = Readonly<{
  name: string;
  /** The owner that the cluster's files must have. */
  uid: number;
  gid: number;
  /** Set for a spawned process; empty when it stays the user who runs us. */
  credentials: Readonly<{ uid?: number; gid?: number }>;
  /** Goes before the command. */
  prefix: readonly string[];
}>;

/** How to spawn a program: file, arguments and options for node:child_process. */
export type Command = Readonly<{
  file: string;
  args: readonly string[];
  options: Readonly<{ uid?: number; gid?: number; env: NodeJS.ProcessEnv; cwd: string }>;
}>;

/** The uid and gid of `nobody` on Linux. initdb needs a uid that has a name. */
const nobodyId = 65_534;
const systemPath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/**
 * The first account that can run PostgreSQL on this folder, and the server's version.
 * As root that is `nobody`, if the folders on the way are open to all; else the owner of the folder that the data
 * lies in (sudo in somebody's home); else root's own files through a user namespace, in which root has another name.
 * Throws with the reason of each when none can.
 */
export async function chooseAccount(place: Place, binaries: Binaries): Promise<{ account: Account; version: string }> {
  const reasons: string[] = [];
  for (const account of candidates(place.dataDir)) {
    const { output, error } = await probe(account, place, binaries);
    if (error === undefined) return { account, version: output.trim().split('\n').at(-1) ?? '' };
    reasons.push(`  as ${account.name}: ${error}`);
  }
  throw new Error(
    `PostgreSQL cannot be run on ${place.dataDir} (it refuses root, and must reach both the data and its programs):\n` +
      `${reasons.join('\n')}\n` +
      'Set DATA_DIR to a folder that every user can reach and install outside of closed folders, ' +
      'or run as a user other than root, or set DATABASE_URL to a PostgreSQL server.',
  );
}

/** The command that runs `program` as that account, apart from the caller's environment (its PG variables above all). */
export function commandOf(account: Account, cwd: string, program: string, args: readonly string[]): Command {
  const [file = program, ...rest] = [...account.prefix, program, ...args];
  // TZ spares initdb a search through all time zones.
  const env = { PATH: systemPath, LC_ALL: 'C', TZ: 'UTC' };
  return { file, args: rest, options: { ...account.credentials, env, cwd } };
}

function candidates(dataDir: string): Account[] {
  const uid = process.getuid?.() ?? 0;
  const gid = process.getgid?.() ?? 0;
  const mapped = mappedAccount(uid, gid);
  if (uid !== 0) return [{ name: `user ${uid}`, uid, gid, credentials: {}, prefix: [] }, ...mapped];
  const nobody = process.platform === 'linux' ? [switchedAccount('nobody', nobodyId, nobodyId)] : [];
  return [...nobody, ...ownerAccount(dataDir), ...mapped];
}

function switchedAccount(name: string, uid: number, gid: number): Account {
  return { name, uid, gid, credentials: { uid, gid }, prefix: [] };
}

/** The files stay those of the user who runs us; the programs see that user as `nobody`. */
function mappedAccount(uid: number, gid: number): Account[] {
  if (process.platform !== 'linux') return [];
  const prefix = ['unshare', '--user', `--map-user=${nobodyId}`, `--map-group=${nobodyId}`, '--'];
  return [{ name: `user ${uid} in a user namespace`, uid, gid, credentials: {}, prefix }];
}

function ownerAccount(directory: string): Account[] {
  const { uid, gid } = statSync(directory);
  if (uid !== 0) return [switchedAccount(`user ${uid}, the owner of ${directory}`, uid, gid)];
  const parent = dirname(directory);
  return parent === directory ? [] : ownerAccount(parent);
}

/** Asks the system itself rather than reading modes: access lists, namespaces and missing libraries count too. */
async function probe(account: Account, place: Place, binaries: Binaries): Promise<{ output: string; error?: string }> {
  const script = 'id -un >/dev/null && cd -- "$1" && exec "$2" -V';
  const args = ['-c', script, 'sh', place.dataDir, binaries.postgres];
  const command = commandOf(account, '/', '/bin/sh', args);
  try {
    const { stdout } = await promisify(execFile)(command.file, command.args, command.options);
    return { output: stdout };
  } catch (error) {
    const { stderr, message } = error as Error & { stderr?: string };
    return { output: '', error: stderr?.trim() || message };
  }
}
