import { type ChildProcess, spawn } from 'node:child_process';
import { on, once } from 'node:events';
import { chmodSync, closeSync, openSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chooseAccount, commandOf } from '../../src/platform/embedded-postgres/account.ts';
import { findBinaries } from '../../src/platform/embedded-postgres/binaries.ts';
import { ensureCluster, readPassword } from '../../src/platform/embedded-postgres/cluster.ts';
import { failure, openPlace } from '../../src/platform/embedded-postgres/place.ts';
import { awaitEnd, awaitReady, findOrphans } from '../../src/platform/embedded-postgres/postmaster.ts';
import { choosePort } from './port.ts';

export type KeeperCommand = 'start' | 'stop' | 'kill';

type Server = Readonly<{ url: string; start: () => Promise<void>; end: (signal: NodeJS.Signals) => Promise<void> }>;

/** The end of a process loses nothing that the system has been given: syncing it to disk would prove nothing more. */
const settings = ['fsync=off', 'shared_buffers=32MB', 'listen_addresses=127.0.0.1', 'unix_socket_directories='];

// A process of its own, as for the cluster of all tests: however the run ends, nothing is left behind.
const dataDir = await mkdtemp(join(tmpdir(), 'scalecommerce-private-'));
let server: Server | null = null;
try {
  server = await createCluster(dataDir);
  const commands = on(process, 'message', { close: ['disconnect'] });
  process.send?.({ url: server.url });
  for await (const [command] of commands) {
    if (command === 'start') await server.start();
    else await server.end(command === 'kill' ? 'SIGKILL' : 'SIGINT');
    process.send?.({});
  }
} finally {
  await server?.end('SIGKILL');
  await rm(dataDir, { recursive: true, force: true });
}

/** A cluster that keeps its port from one start to the next. It does not run yet. */
async function createCluster(folder: string): Promise<Server> {
  chmodSync(folder, 0o755);
  const place = openPlace(folder);
  const binaries = findBinaries();
  const { account, version } = await chooseAccount(place, binaries);
  await ensureCluster(place, binaries, account, { version, durable: false });
  const port = await choosePort();
  const args = ['-D', place.cluster, ...[...settings, `port=${port}`].flatMap((setting) => ['-c', setting])];
  const command = commandOf(account, place.dataDir, binaries.postgres, args);
  let postmaster: ChildProcess | null = null;
  const end = async (signal: NodeJS.Signals): Promise<void> => {
    if (postmaster?.exitCode === null && postmaster.kill(signal)) await once(postmaster, 'exit');
    postmaster = null;
    // A server outlives its postmaster by as long as each of its processes takes to notice.
    if (signal === 'SIGKILL') await endOrphans(place.cluster);
  };
  const start = async (): Promise<void> => {
    const log = openSync(place.log, 'a', 0o600);
    postmaster = spawn(command.file, command.args, { ...command.options, stdio: ['ignore', log, log] });
    closeSync(log);
    await once(postmaster, 'spawn');
    if (!(await awaitReady(place, postmaster.pid ?? 0))) throw failure(place, 'PostgreSQL did not start');
  };
  return { url: `postgres://postgres:${readPassword(place)}@127.0.0.1:${port}/postgres`, start, end };
}

async function endOrphans(cluster: string): Promise<void> {
  for (const pid of findOrphans(cluster)) {
    process.kill(pid, 'SIGKILL');
    await awaitEnd(pid);
  }
}
