import { type Ledger, openLedger } from './ledger.ts';
import { createTestDatabase } from './postgres.ts';
import { type ShopProcess, startProcess } from './process.ts';

/** A database, and processes on it. */
export type Stage = Readonly<{
  url: string;
  ledger: Ledger;
  start(environment?: Record<string, string>): Promise<ShopProcess>;
}>;

// Each process that runs listens for the end of the tests, and many do beside each other.
process.setMaxListeners(100);

let lastStart: Promise<unknown> = Promise.resolve();

/** One after the other: all tests of a file at once would keep each other's processes from starting in time. */
function startInTurn(url: string, environment?: Record<string, string>): Promise<ShopProcess> {
  const started = lastStart.then(() => startProcess(url, environment));
  lastStart = started.catch(() => undefined);
  return started;
}

/** Gives `play` a database, and ends whatever was started on it. */
export async function onStage(play: (stage: Stage) => Promise<void>): Promise<void> {
  const database = await createTestDatabase();
  const ledger = openLedger(database.url);
  const processes: ShopProcess[] = [];
  const start = async (environment?: Record<string, string>): Promise<ShopProcess> => {
    const started = await startInTurn(database.url, environment);
    processes.push(started);
    return started;
  };
  try {
    await play({ url: database.url, ledger, start });
  } finally {
    await Promise.all(processes.map((each) => each.end('SIGKILL')));
    await ledger.close();
    await database.drop();
  }
}
