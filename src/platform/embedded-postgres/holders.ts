import { randomUUID } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { identityOf, isAlive, type ProcessIdentity } from './process-identity.ts';

/**
 * Writes down that this process uses the server, and returns the file that says so: removing it takes that back.
 * Like {@link pruneHolders}, to be called under the lock.
 */
export function addHolder(folder: string): string {
  mkdirSync(folder, { recursive: true });
  const file = join(folder, `${process.pid}-${randomUUID()}`);
  writeFileSync(file, JSON.stringify(identityOf(process.pid)));
  return file;
}

/** Forgets the holders that died without saying so, and returns how many are left. */
export function pruneHolders(folder: string): number {
  let living = 0;
  for (const name of readdirSync(folder)) {
    if (livesOn(join(folder, name))) living++;
    else rmSync(join(folder, name), { force: true });
  }
  return living;
}

function livesOn(file: string): boolean {
  try {
    return isAlive(JSON.parse(readFileSync(file, 'utf8')) as ProcessIdentity);
  } catch {
    // Half-written: only a process that died while writing leaves that, for it held the lock.
    return false;
  }
}
