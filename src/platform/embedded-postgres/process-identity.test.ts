import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { expect, test } from 'vitest';
import { identityOf, isAlive } from './process-identity.ts';

test.each([
  ['from /proc', '/proc'],
  ['from ps where there is no /proc', '/nowhere'],
])('a process is known %s, the same each time, and no longer after its end', async (_how, procDirectory) => {
  const child = spawn(process.execPath, ['--eval', 'setInterval(() => {}, 1000)'], { stdio: 'ignore' });
  await once(child, 'spawn');
  const pid = Number(child.pid);
  const identity = identityOf(pid, procDirectory);
  expect(identity?.startedAt).toMatch(/\d/);
  expect(identityOf(pid, procDirectory)).toEqual(identity);
  child.kill('SIGKILL');
  await once(child, 'exit');
  expect(identityOf(pid, procDirectory)).toBeUndefined();
});

test('another process under the same number is not the same process', () => {
  const own = identityOf(process.pid);
  expect(own && isAlive(own)).toBe(true);
  expect(own && isAlive({ ...own, startedAt: 'before' })).toBe(false);
});
