/**
 * How fast this machine sells, in one run of about three minutes: the load generator and the database run beside the
 * shop, and everything is on that makes a commit durable. Prints a table of goals and figures and keeps every raw figure
 * under bench/results/. `--only NAME` runs one part (several: repeat it), `--quick` a fifth of everything, without keeping it.
 */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { openDatabase, sql } from '../src/platform/db.ts';
import { acquireEmbeddedPostgres } from '../src/platform/embedded-postgres.ts';
import { migrate } from '../src/platform/migrate.ts';
import { parentOf } from './checkout/cpu.ts';
import { type Figure, isMet, rowOf } from './checkout/figures.ts';
import { describeCommit, describeMachine, readDurableSettings } from './checkout/machine.ts';
import type { Bench } from './checkout/runs.ts';
import { type Scenario, scenarios } from './checkout/scenarios.ts';

type Raw = Record<string, unknown>;

const backendPid = sql('bench.backend', 'SELECT pg_backend_pid() AS pid');

const { values: options } = parseArgs({
  options: {
    only: { type: 'string', multiple: true },
    quick: { type: 'boolean', default: false },
    /** For the process that is measured, such as --node-option=--cpu-prof. */
    'node-option': { type: 'string', multiple: true, default: [] },
  },
});
const dataDir = await mkdtemp(path.join(tmpdir(), 'checkout-bench-'));
const server = await acquireEmbeddedPostgres({ dataDir });
try {
  await migrate(server.url);
  await measure(chosen(options.only), server.url);
} finally {
  await server.release();
  await rm(dataDir, { recursive: true, force: true });
}

async function measure(parts: readonly Scenario[], databaseUrl: string): Promise<void> {
  const onError = (error: Error): void => console.error(error);
  const database = openDatabase({ url: databaseUrl, name: 'bench', connections: 2, waiting: 10, onError });
  try {
    const settings = await readDurableSettings(database);
    const machine = await describeMachine(database);
    const commit = describeCommit();
    console.log(`${machine.cores} x ${machine.cpu}, ${machine.memoryGb} GB, ${machine.system}`);
    console.log(
      `Node ${machine.node}, PostgreSQL ${machine.postgres}, ${commit?.id.slice(0, 7) ?? 'no commit'}${commit?.isDirty ? ' and changes' : ''}`,
    );
    const [backend] = await database.query<{ pid: number }>(backendPid);
    const raw: Raw[] = [];
    const bench: Bench = {
      database,
      databaseUrl,
      postmaster: parentOf(backend?.pid ?? 0),
      isQuick: options.quick,
      nodeOptions: options['node-option'],
      record: (run) => {
        raw.push(run);
        console.log(lineOf(run));
      },
    };
    const figures: Figure[] = [];
    for (const part of parts) {
      console.log(`\n${part.name}: ${part.about}`);
      figures.push(...(await part.run(bench)));
    }
    console.table(figures.map(rowOf));
    if (!options.quick) await keep({ commit, machine, settings, figures: figures.map(withVerdict), runs: raw });
  } finally {
    await database.close();
  }
}

function chosen(names: readonly string[] | undefined): readonly Scenario[] {
  const unknown = names?.find((name) => !scenarios.some((scenario) => scenario.name === name));
  if (unknown)
    throw new Error(`There is no part ${unknown}; there are ${scenarios.map(({ name }) => name).join(', ')}`);
  return names ? scenarios.filter(({ name }) => names.includes(name)) : scenarios;
}

/** What is worth a look while it runs; the rest is in the file. */
function lineOf({ name, completed, accepted, latencyMs, cpu }: Raw): string {
  const { p50, p99 } = latencyMs as { p50: number; p99: number };
  const rates = `${Math.round(Number(accepted))}/s accepted, ${Math.round(Number(completed))}/s completed`;
  return `  ${name}: ${rates}, p50 ${p50} ms, p99 ${p99} ms; processor time per order ${JSON.stringify(cpu)}`;
}

function withVerdict(figure: Figure): Raw {
  return { ...figure, isMet: figure.goal ? isMet(figure.goal, figure.measured) : null };
}

async function keep(result: Raw & { commit: ReturnType<typeof describeCommit> }): Promise<void> {
  const folder = path.join(import.meta.dirname, 'results');
  await mkdir(folder, { recursive: true });
  const { commit } = result;
  const version = commit ? `${commit.id.slice(0, 7)}${commit.isDirty ? '-dirty' : ''}` : 'no-commit';
  const file = path.join(folder, `${new Date().toISOString().slice(0, 10)}-${version}.json`);
  await writeFile(file, `${JSON.stringify(result, null, 2)}\n`);
  console.log(`Every figure: ${path.relative(process.cwd(), file)}`);
}
