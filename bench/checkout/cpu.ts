import { existsSync, readdirSync, readFileSync } from 'node:fs';

/** Seconds of processor time since their start; null where the system does not tell (no /proc). */
export type CpuTimes = Readonly<{ node: number; postgres: number; machine: number }> | null;

/** Linux counts in hundredths of a second, whatever the kernel's own clock. */
const ticksPerSecond = 100;

/** What the process `node`, the server of `postmaster` and the whole machine have used so far. */
export function cpuTimes(node: number, postmaster: number): CpuTimes {
  if (!existsSync('/proc/self/stat')) return null;
  const server = statOf(postmaster);
  const backends = readdirSync('/proc').map(Number).filter(Number.isInteger).map(tryStatOf);
  const living = backends.filter((stat) => stat?.parent === postmaster);
  const postgres = living.reduce((sum, stat) => sum + (stat?.own ?? 0), server.own + server.ofEnded);
  return { node: statOf(node).own, postgres, machine: busySeconds() };
}

/** The process that started process `pid`. */
export function parentOf(pid: number): number {
  return existsSync('/proc/self/stat') ? statOf(pid).parent : 0;
}

type Stat = Readonly<{ parent: number; own: number; ofEnded: number }>;

/** The fields of proc_pid_stat(5), counted from behind the name, which may hold anything. */
function statOf(pid: number): Stat {
  const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  const seconds = (index: number): number => Number(fields[index]) / ticksPerSecond;
  return { parent: Number(fields[1]), own: seconds(11) + seconds(12), ofEnded: seconds(13) + seconds(14) };
}

function tryStatOf(pid: number): Stat | null {
  try {
    return statOf(pid);
  } catch {
    return null;
  }
}

/** All but idle and waiting for the disk. */
function busySeconds(): number {
  const [, user, nice, system, , , irq, softirq, steal] = (
    readFileSync('/proc/stat', 'utf8').split('\n', 1)[0] ?? ''
  ).split(/\s+/);
  return [user, nice, system, irq, softirq, steal].reduce((sum, ticks) => sum + Number(ticks) / ticksPerSecond, 0);
}
