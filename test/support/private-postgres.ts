import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { KeeperCommand } from './private-postgres-keeper.ts';

/** A server of one test's own, to be ended and started again. It keeps its address and its data. */
export type PrivatePostgres = Readonly<{
  /** Of an empty database. */
  url: string;
  start(): Promise<void>;
  /** As an operator does: open transactions are rolled back. */
  stop(): Promise<void>;
  /** Kills all of it, the postmaster first. */
  kill(): Promise<void>;
  close(): Promise<void>;
}>;

const keeperPath = fileURLToPath(new URL('private-postgres-keeper.ts', import.meta.url));

/** Creates and starts such a server. Close it when done. */
export async function openPrivatePostgres(): Promise<PrivatePostgres> {
  const keeper = fork(keeperPath, { detached: true, execArgv: [], stdio: ['ignore', 'ignore', 'inherit', 'ipc'] });
  const { url } = await answerOf(keeper);
  const order = async (command: KeeperCommand): Promise<void> => {
    keeper.send(command);
    await answerOf(keeper);
  };
  await order('start');
  return {
    url: String(url),
    start: () => order('start'),
    stop: () => order('stop'),
    kill: () => order('kill'),
    close: async () => {
      keeper.disconnect();
      const [status] = await once(keeper, 'exit');
      if (status !== 0) throw new Error(`The server was not removed (exit status ${status}, its reason is above)`);
    },
  };
}

async function answerOf(keeper: ChildProcess): Promise<{ url?: string }> {
  const listening = new AbortController();
  const { signal } = listening;
  const ended = once(keeper, 'exit', { signal }).then(([status]) => {
    throw new Error(`The server's keeper has ended (exit status ${status}, its reason is above)`);
  });
  try {
    const [message] = await Promise.race([once(keeper, 'message', { signal }), ended]);
    return message as { url?: string };
  } finally {
    ended.catch(() => undefined);
    listening.abort();
  }
}
