import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { basename, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { failure, type Place } from './place.ts';
import { identityOf, isAlive } from './process-identity.ts';

/** The server's main process, as its postmaster.pid describes it. */
export type Postmaster = Readonly<{ pid: number; port: number; status: string }>;

const pollMs = 10;
/** Long, for after a crash up to `max_wal_size` of log is replayed. */
const startLimitMs = 300_000;
const fastShutdownLimitMs = 60_000;
const immediateShutdownLimitMs = 10_000;

/** The living postmaster of a cluster. One that only its left-behind postmaster.pid speaks of is none. */
export function findPostmaster(cluster: string): Postmaster | undefined {
  const lines = readPidFile(cluster);
  const pid = Number(lines?.[0]);
  if (!lines || !Number.isInteger(pid) || pid <= 0 || !isPostgresIn(cluster, pid)) return undefined;
  return { pid, port: Number(lines[3]), status: (lines[7] ?? '').trim() };
}

/** The lines of postmaster.pid: pid, folder, start, port, socket folder, address, shared memory, status. */
export function readPidFile(cluster: string): string[] | undefined {
  try {
    return readFileSync(join(cluster, 'postmaster.pid'), 'utf8').split('\n');
  } catch {
    return undefined;
  }
}

/** Waits until the server accepts connections. Undefined when the process `pid` ended instead. */
export async function awaitReady(place: Place, pid: number): Promise<Postmaster | undefined> {
  const identity = identityOf(pid);
  const deadlineMs = performance.now() + startLimitMs;
  while (identity && isAlive(identity)) {
    const found = findPostmaster(place.cluster);
    if (found?.pid === pid && found.status === 'ready') return found;
    if (performance.now() > deadlineMs) throw failure(place, `PostgreSQL was not ready in ${startLimitMs / 1_000} s`);
    await sleep(pollMs);
  }
  return undefined;
}

/** Ends the server: open transactions are rolled back, everything committed is on disk. */
export async function stopPostmaster(place: Place, pid: number): Promise<void> {
  if (await endedAfter('SIGINT', pid, fastShutdownLimitMs)) return;
  // What a hasty end leaves undone, the next start replays from the log.
  if (await endedAfter('SIGQUIT', pid, immediateShutdownLimitMs)) return;
  throw failure(place, `PostgreSQL (process ${pid}) could not be stopped`);
}

/** Waits until a process has ended; false when it still runs after `limitMs`. */
export async function awaitEnd(pid: number, limitMs: number = fastShutdownLimitMs): Promise<boolean> {
  const identity = identityOf(pid);
  const deadlineMs = performance.now() + limitMs;
  while (identity && isAlive(identity)) {
    if (performance.now() > deadlineMs) return false;
    await sleep(pollMs);
  }
  return true;
}

/** Processes of a cluster whose postmaster died without ending them. They keep a new one from starting. */
export function findOrphans(cluster: string): number[] {
  if (!existsSync('/proc/self/cwd')) return [];
  return readdirSync('/proc')
    .map(Number)
    .filter((pid) => Number.isInteger(pid) && isPostgresIn(cluster, pid));
}

async function endedAfter(signal: NodeJS.Signals, pid: number, limitMs: number): Promise<boolean> {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return true;
    throw error;
  }
  return awaitEnd(pid, limitMs);
}

/** Whether the process is PostgreSQL at work in that folder, and not a stranger who got its number. */
function isPostgresIn(cluster: string, pid: number): boolean {
  if (!existsSync('/proc/self/cwd')) return processListShows(cluster, pid);
  try {
    const program = basename(readlinkSync(`/proc/${pid}/exe`)).replace(' (deleted)', '');
    return program === 'postgres' && readlinkSync(`/proc/${pid}/cwd`) === cluster;
  } catch {
    return false;
  }
}

function processListShows(cluster: string, pid: number): boolean {
  const answer = spawnSync('ps', ['-ww', '-o', 'command=', '-p', String(pid)], { encoding: 'utf8' });
  return answer.status === 0 && answer.stdout.includes(`-D ${cluster} `);
}
