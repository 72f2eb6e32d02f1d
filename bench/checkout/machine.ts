import { execFileSync } from 'node:child_process';
import { cpus, release, totalmem, type } from 'node:os';
import type { Reader } from '../../src/platform/db.ts';
import { sql } from '../../src/platform/db.ts';

const selectSettings = sql(
  'bench.settings',
  `SELECT name, setting FROM pg_settings
    WHERE source NOT IN ('default', 'client', 'session') OR name IN ('fsync', 'synchronous_commit', 'full_page_writes')`,
);
const selectVersion = sql('bench.version', `SELECT current_setting('server_version') AS version`);

/** Where the figures come from: without it they say nothing. */
export async function describeMachine(reader: Reader): Promise<Record<string, unknown>> {
  const [postgres] = await reader.query<{ version: string }>(selectVersion);
  return {
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: cpus().length,
    memoryGb: Math.round(totalmem() / 2 ** 30),
    system: `${type()} ${release()}`,
    node: process.version,
    postgres: postgres?.version,
  };
}

/** The commit that is measured; `isDirty` when the files differ from it. Null outside a checkout. */
export function describeCommit(): { id: string; isDirty: boolean } | null {
  try {
    return { id: git('rev-parse', 'HEAD'), isDirty: git('status', '--porcelain', 'src', 'migrations', 'bench') !== '' };
  } catch {
    return null;
  }
}

/** What the database runs with, as far as it is not the default. Throws when that makes commits less than durable. */
export async function readDurableSettings(reader: Reader): Promise<Record<string, string>> {
  const rows = await reader.query<{ name: string; setting: string }>(selectSettings);
  const settings = Object.fromEntries(
    rows.filter(({ name }) => !/directory|file|path/.test(name)).map(({ name, setting }) => [name, setting]),
  );
  const off = ['fsync', 'synchronous_commit', 'full_page_writes'].filter((name) => settings[name] !== 'on');
  if (off.length > 0) throw new Error(`Not measured: PostgreSQL runs without ${off.join(', ')}. Turn them on`);
  return settings;
}

function git(...args: string[]): string {
  return execFileSync('git', args, {
    encoding: 'utf8',
    cwd: import.meta.dirname,
    stdio: ['ignore', 'pipe', 'ignore'],
  }).trim();
}
