import type { Config } from '../platform/config.ts';
import { withDatabase } from './database.ts';

/** `scalecommerce migrate`: brings the database to the newest schema and names what that took. */
export async function migrateCommand(config: Config): Promise<number> {
  const migrated = await withDatabase(config, async (database) => database.migrated);
  for (const name of migrated) console.log(`ran ${name}`);
  console.log(migrated.length === 0 ? 'The schema is the newest.' : 'The schema is now the newest.');
  return 0;
}
