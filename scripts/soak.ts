/**
 * npm run soak -- --minutes N --seed S: sells under faults at random for N minutes (10 unless told otherwise) on a
 * database and processes of its own, and ends with the audit. The same seed chooses the same faults in the same order;
 * what they hit depends on the machine. Talks to loopback only.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { parseArgs } from 'node:util';

const mostMinutes = 24 * 60;

const { values } = parseArgs({ options: { minutes: { type: 'string', default: '10' }, seed: { type: 'string' } } });
const seed = values.seed ?? String(Math.floor(Math.random() * 2 ** 31));
const minutes = Number(values.minutes);

if (!(minutes > 0 && minutes <= mostMinutes) || !/^\d{1,10}$/.test(seed)) {
  console.error(`soak: --minutes must be above 0 and at most ${mostMinutes}, --seed a whole number`);
  process.exit(2);
}

console.log(
  `Soak: ${minutes} minutes, seed ${seed} (repeat it with: npm run soak -- --minutes ${minutes} --seed ${seed})`,
);
const vitest = spawn(
  process.execPath,
  ['node_modules/vitest/vitest.mjs', 'run', '--config', 'vitest.soak.config.ts', '--disable-console-intercept'],
  { stdio: 'inherit', env: { ...process.env, SOAK_MINUTES: String(minutes), FAULT_SEED: seed } },
);
// Ctrl-C reaches both: this one only waits for the other.
process.on('SIGINT', () => undefined);
const [status] = await once(vitest, 'exit');
process.exitCode = status ?? 1;
