import { accessSync, constants, existsSync, mkdirSync, readFileSync, realpathSync, statSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';

/** Where everything of one embedded server lies. */
export type Place = Readonly<{
  dataDir: string;
  /** The cluster: PostgreSQL's own data directory. */
  cluster: string;
  password: string;
  log: string;
  lock: string;
  holders: string;
}>;

const quotedLogLines = 10;

/** Creates `dataDir` when it is missing. Throws when it cannot be written. */
export function openPlace(dataDir: string): Place {
  const folder = resolve(dataDir);
  try {
    makeFolder(folder);
    accessSync(folder, constants.R_OK | constants.W_OK | constants.X_OK);
  } catch (cause) {
    throw new Error(
      `The data folder ${folder} cannot be used by user ${process.getuid?.()}: ${(cause as Error).message}. ` +
        'Give it to that user, or set DATA_DIR to a folder of theirs.',
      { cause },
    );
  }
  return placeIn(realpathSync(folder));
}

/** With its parents. Node's own way tries for ever where a folder that exists says that it does not (`/proc`). */
function makeFolder(folder: string): void {
  const parent = dirname(folder);
  if (!isFolder(parent)) makeFolder(parent);
  try {
    mkdirSync(folder);
  } catch (error) {
    if (!isFolder(folder)) throw error;
  }
}

function isFolder(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;
}

function placeIn(dataDir: string): Place {
  return {
    dataDir,
    cluster: join(dataDir, 'postgres'),
    password: join(dataDir, 'postgres.password'),
    log: join(dataDir, 'postgres.log'),
    lock: join(dataDir, 'postgres.lock'),
    holders: join(dataDir, 'postgres.holders'),
  };
}

/** An error of the cluster, of which the server's log says nothing: names the folder. */
export function clusterFailure(place: Place, what: string, cause?: unknown): Error {
  return new Error(headOf(place, what, cause).join('\n'), { cause });
}

/** An error of the server: names the folder and, if there is one, the log, and quotes the end of the log. */
export function failure(place: Place, what: string, cause?: unknown): Error {
  const lines = headOf(place, what, cause);
  if (existsSync(place.log)) lines.push(`  log: ${place.log}`);
  const tail = lastLines(place.log);
  if (tail.length > 0) lines.push('  its last lines:', ...tail.map((line) => `    ${line}`));
  return new Error(lines.join('\n'), { cause });
}

function headOf(place: Place, what: string, cause: unknown): string[] {
  const reason = cause instanceof Error ? `: ${cause.message}` : '';
  return [`${what}${reason}`, `  folder: ${place.dataDir}`];
}

function lastLines(file: string): string[] {
  try {
    const text = readFileSync(file, 'utf8').trimEnd();
    return text === '' ? [] : text.split('\n').slice(-quotedLogLines);
  } catch {
    return [];
  }
}
