import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Account, commandOf } from './account.ts';
import type { Binaries } from './binaries.ts';
import { failure, type Place } from './place.ts';
import { awaitEnd, awaitReady, findOrphans, findPostmaster, type Postmaster, readPidFile } from './postmaster.ts';

const logLimitBytes = 10 * 1024 * 1024;
const tries = 20;
const pauseBetweenTriesMs = 250;
/** Lost the race for the port or for the folder, or processes of a dead postmaster are still ending. */
const passingFaults =
  /could not bind|could not create any TCP\/IP sockets|lock file .* already exists|shared memory block/;

/** For a machine of 2 cores and some gigabytes. What is safe to lose nothing (fsync and the like) stays as it comes. */
const tuning: Readonly<Record<string, string>> = {
  // Some 36 for each process of the shop.
  max_connections: '200',
  shared_buffers: '256MB',
  maintenance_work_mem: '128MB',
  max_wal_size: '4GB',
  // The log must not quote rows, which hold addresses and tokens.
  log_error_verbosity: 'terse',
  random_page_cost: '1.1',
  timezone: 'UTC',
  log_timezone: 'UTC',
  log_line_prefix: '%m [%p] %q%u@%d %a ',
};

/**
 * Starts a server on a whole cluster and waits until it accepts connections, on 127.0.0.1 and a free port.
 * `settings` are further options of postgres.
 */
export async function startPostmaster(
  place: Place,
  binaries: Binaries,
  account: Account,
  settings: Readonly<Record<string, string>>,
): Promise<Postmaster> {
  for (let attempt = 1; ; attempt++) {
    const other = findPostmaster(place.cluster);
    const { pid, loggedBytes } = other
      ? { pid: other.pid, loggedBytes: 0 }
      : await launch(place, binaries, account, settings);
    const ready = await awaitReady(place, pid);
    if (ready) return ready;
    const said = readFileSync(place.log).subarray(loggedBytes).toString();
    if (attempt === tries || !passingFaults.test(said)) throw failure(place, 'PostgreSQL did not start');
    await sleep(pauseBetweenTriesMs);
  }
}

async function launch(
  place: Place,
  binaries: Binaries,
  account: Account,
  settings: Readonly<Record<string, string>>,
): Promise<{ pid: number; loggedBytes: number }> {
  await clearRemains(place.cluster);
  const args = await postgresArguments(place.cluster, settings);
  const { file, args: allArgs, options } = commandOf(account, place.dataDir, binaries.postgres, args);
  const loggedBytes = boundLog(place.log);
  const log = openSync(place.log, 'a', 0o600);
  // A session of its own: Ctrl-C in the terminal is not for it, and it outlives the process that started it.
  const child = spawn(file, allArgs, { ...options, detached: true, stdio: ['ignore', log, log] });
  closeSync(log);
  return { pid: await pidOf(child, place), loggedBytes };
}

async function pidOf(child: ChildProcess, place: Place): Promise<number> {
  try {
    await once(child, 'spawn');
  } catch (cause) {
    throw failure(place, 'PostgreSQL could not be started', cause);
  }
  child.unref();
  return child.pid ?? 0;
}

async function postgresArguments(cluster: string, settings: Readonly<Record<string, string>>): Promise<string[]> {
  const all = {
    ...tuning,
    ...settings,
    listen_addresses: '127.0.0.1',
    port: String(await freePort()),
    // The path of a socket in the data folder may be longer than the system allows.
    unix_socket_directories: '',
  };
  return ['-D', cluster, ...Object.entries(all).flatMap(([name, value]) => ['-c', `${name}=${value}`])];
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

/** Makes way after a postmaster that was killed, or a machine that went down. */
async function clearRemains(cluster: string): Promise<void> {
  for (const pid of findOrphans(cluster)) {
    process.kill(pid, 'SIGKILL');
    await awaitEnd(pid);
  }
  const lines = readPidFile(cluster);
  if (!lines) return;
  // Its number may be a stranger's by now, which PostgreSQL would respect. It ignores its parent's, and that is ours.
  // The rest of the file stays: by it PostgreSQL sees whether somebody still uses the old shared memory.
  writeFileSync(join(cluster, 'postmaster.pid'), [String(process.pid), ...lines.slice(1)].join('\n'));
}

/** Returns the size of the log, which is emptied when it has grown past its limit. */
function boundLog(log: string): number {
  const size = statSync(log, { throwIfNoEntry: false })?.size ?? 0;
  if (size <= logLimitBytes) return size;
  truncateSync(log);
  return 0;
}
