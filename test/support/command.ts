import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';

/** How a command ended, and what it said. */
export type Ended = Readonly<{ status: number | null; stdout: string; stderr: string }>;

/** A `scalecommerce` that runs: `ended` resolves with its end. */
export type Running = Readonly<{ process: ChildProcess; ended: Promise<Ended> }>;

/** Starts `scalecommerce` with nothing in its environment but `environment`. */
export function startCommand(args: readonly string[], environment: Record<string, string>): Running {
  const child = spawn(process.execPath, ['bin/scalecommerce.js', ...args], {
    env: { PATH: process.env.PATH, ...environment },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const ended = Promise.all([once(child, 'close'), text(child.stdout), text(child.stderr)]);
  return {
    process: child,
    ended: ended.then(([[status], stdout, stderr]) => ({ status, stdout, stderr })),
  };
}

/** Runs `scalecommerce` to its end. */
export function runCommand(args: readonly string[], environment: Record<string, string>): Promise<Ended> {
  return startCommand(args, environment).ended;
}
