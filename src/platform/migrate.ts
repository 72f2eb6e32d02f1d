import { fileURLToPath } from 'node:url';
import { runner } from 'node-pg-migrate';
import { Client } from 'pg';

const migrationsDirectory = fileURLToPath(new URL('../../migrations', import.meta.url));

/**
 * Brings the database at `url` to the newest schema and returns the names of the migrations it ran.
 * Processes that start at once wait for each other: one migrates, the others find nothing left to do.
 */
export async function migrate(url: string): Promise<string[]> {
  const client = new Client({ connectionString: url, application_name: 'scalecommerce migrate' });
  await client.connect();
  try {
    const ran = await runner({
      dbClient: client,
      dir: migrationsDirectory,
      direction: 'up',
      migrationsTable: 'migrations',
      checkOrder: true,
      singleTransaction: false,
      advisoryLockMode: 'wait',
      log: () => undefined,
    });
    return ran.map((migration) => migration.name);
  } finally {
    await client.end();
  }
}
