import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';

/** A process that can be told from a later one that got the same number. */
export type ProcessIdentity = Readonly<{ pid: number; startedAt: string }>;

/**
 * The identity of a running process; undefined when there is none, or only its remains (a zombie).
 * Without a `procDirectory` (macOS), the start is asked of `ps`.
 */
export function identityOf(pid: number, procDirectory = '/proc'): ProcessIdentity | undefined {
  const startedAt = existsSync(`${procDirectory}/self/stat`)
    ? startFromProc(pid, procDirectory)
    : startFromProcessList(pid);
  return startedAt === undefined ? undefined : { pid, startedAt };
}

/** Whether that very process still runs. */
export function isAlive(identity: ProcessIdentity): boolean {
  return identityOf(identity.pid)?.startedAt === identity.startedAt;
}

function startFromProc(pid: number, procDirectory: string): string | undefined {
  const stat = readIfThere(`${procDirectory}/${pid}/stat`);
  if (stat === undefined) return undefined;
  // The second field is the command's name in parentheses and may itself hold spaces and parentheses.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const [state, ticksSinceBoot] = [fields[0], fields[19]];
  if (state === 'Z' || state === 'X') return undefined;
  return `${readIfThere(`${procDirectory}/sys/kernel/random/boot_id`)?.trim() ?? ''}/${ticksSinceBoot}`;
}

function startFromProcessList(pid: number): string | undefined {
  // In one form whoever asks: processes in different time zones compare it.
  const env = { LC_ALL: 'C', TZ: 'UTC' };
  const answer = spawnSync('ps', ['-o', 'lstart=', '-p', String(pid)], { env, encoding: 'utf8' });
  return answer.status === 0 ? answer.stdout.trim() : undefined;
}

function readIfThere(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return undefined;
  }
}
