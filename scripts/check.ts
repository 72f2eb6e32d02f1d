// npm run check [-- STEP…]: everything that can be said about the sources without running them.
import { spawnSync } from 'node:child_process';
import { globSync } from 'node:fs';
import path from 'node:path';

type Step = Readonly<{ name: string; about: string; command: readonly [string, ...string[]] }>;

const steps: readonly Step[] = [
  { name: 'lint', about: 'format, lint and security rules', command: ['biome', 'ci', '--error-on-warnings', '.'] },
  { name: 'types', about: 'strict types', command: ['tsc'] },
  { name: 'imports', about: 'who may import whom', command: ['depcruise', 'src', 'bin', 'scripts', 'test', 'bench'] },
  { name: 'unused', about: 'dead code and unused dependencies', command: ['knip', '--treat-config-hints-as-errors'] },
  { name: 'migrations', about: 'unsafe migrations', command: ['squawk', ...globSync('migrations/*.sql').sort()] },
  {
    name: 'openapi',
    about: 'docs/openapi.json is current',
    command: ['node', 'scripts/generate-openapi.ts', '--check'],
  },
  {
    name: 'configuration',
    about: 'the configuration reference is current',
    command: ['node', 'scripts/generate-configuration-docs.ts', '--check'],
  },
];

// The Node that runs this file also runs the tools, whichever one the PATH names.
const PATH = [path.dirname(process.execPath), path.resolve('node_modules/.bin'), process.env.PATH].join(path.delimiter);

process.exitCode = check(process.argv.slice(2));

function check(names: readonly string[]): number {
  const unknown = names.filter((name) => !steps.some((step) => step.name === name));
  if (unknown.length > 0) {
    console.error(`No step ${unknown.join(', ')}. There are: ${steps.map((step) => step.name).join(', ')}.`);
    return 2;
  }
  const wanted = names.length === 0 ? steps : steps.filter((step) => names.includes(step.name));
  const failed = wanted.filter((step, index) => !passes(step, `${index + 1}/${wanted.length}`));
  const again = `npm run check -- ${failed.map((step) => step.name).join(' ')}`;
  console.log(failed.length === 0 ? '\nAll of it passed.' : `\n${failed.length} failed. Again: ${again}`);
  return failed.length === 0 ? 0 : 1;
}

function passes({ name, about, command: [program, ...args] }: Step, position: string): boolean {
  console.log(`\n[${position}] ${name}: ${about}`);
  const startedMs = performance.now();
  const { status, error } = spawnSync(program, args, { stdio: 'inherit', env: { ...process.env, PATH } });
  const tookS = ((performance.now() - startedMs) / 1000).toFixed(1);
  if (error) console.error(`${program} does not start: ${error.message}`);
  console.log(`[${position}] ${name}: ${status === 0 ? 'passed' : 'FAILED'} (${tookS} s)`);
  return status === 0;
}
