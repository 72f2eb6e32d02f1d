import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Config } from '../platform/config.ts';
import { acquireEmbeddedPostgres } from '../platform/embedded-postgres.ts';
import { migrate } from '../platform/migrate.ts';
import { reasonOf } from './failure.ts';

/** Where the shop's database is, at its newest schema. `migrated` names the migrations that were missing. */
export type DatabaseAddress = Readonly<{
  url: string;
  /** Without a pooler in between: for LISTEN, COPY and migrations. */
  directUrl: string;
  migrated: readonly string[];
}>;

/** Not the current folder: a command run from elsewhere in the project must not found a second shop. */
const projectFolder = fileURLToPath(new URL('../../', import.meta.url));

type Server = Readonly<{ url: string; directUrl: string; hint: string; release: () => Promise<void> }>;

/**
 * Runs `work` on the database that `config` names, migrated: that of `DATABASE_URL`, else the embedded server of
 * `DATA_DIR`, which is shared with whoever else uses it and given back at the end, however that comes.
 */
export async function withDatabase<T>(config: Config, work: (database: DatabaseAddress) => Promise<T>): Promise<T> {
  const server = await openServer(config);
  try {
    const migrated = await migrateServer(server);
    return await work({ url: server.url, directUrl: server.directUrl, migrated });
  } finally {
    await server.release();
  }
}

async function openServer(config: Config): Promise<Server> {
  const { DATABASE_URL: url, DATABASE_DIRECT_URL: directUrl = url } = config;
  if (url && directUrl) return { url, directUrl, hint: ' (check DATABASE_URL)', release: async () => undefined };
  const embedded = await acquireEmbeddedPostgres({ dataDir: resolve(projectFolder, config.DATA_DIR) });
  return { url: embedded.url, directUrl: embedded.url, hint: '', release: () => embedded.release() };
}

async function migrateServer(server: Server): Promise<string[]> {
  try {
    return await migrate(server.directUrl);
  } catch (cause) {
    throw new Error(`The database cannot be brought to the newest schema: ${reasonOf(cause)}${server.hint}`, { cause });
  }
}
