import { accessSync, constants, mkdirSync, readFileSync, realpathSync } from 'node:fs';
import { join, resolve } from 'node:path';

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
    mkdirSync(folder, { recursive: true });
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

/** An error that names the folder and the log, and quotes the end of the log. */
export function failure(place: Place, what: string, cause?: unknown): Error {
  const reason = cause instanceof Error ? `: ${cause.message}` : '';
  const lines = [`${what}${reason}`, `  folder: ${place.dataDir}`, `  log: ${place.log}`];
  const tail = lastLines(place.log);
  if (tail.length > 0) lines.push('  its last lines:', ...tail.map((line) => `    ${line}`));
  return new Error(lines.join('\n'), { cause });
}

function lastLines(file: string): string[] {
  try {
    return readFileSync(file, 'utf8').trimEnd().split('\n').slice(-quotedLogLines);
  } catch {
    return [];
  }
}
