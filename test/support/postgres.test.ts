import { expect, test } from 'vitest';
import { createTestDatabase, onServer } from './postgres.ts';

const tablesOf = (url: string) =>
  onServer(url, async (client) => {
    const { rows } = await client.query<{ name: string }>(
      "SELECT relname AS name FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace",
    );
    return rows.map((row) => row.name);
  });

test('a test database is migrated and its own', async () => {
  const [one, other] = await Promise.all([createTestDatabase(), createTestDatabase()]);
  await onServer(one.url, (client) => client.query('CREATE TABLE scribble ()'));
  expect(await tablesOf(one.url)).toContain('scribble');
  expect(await tablesOf(other.url)).toContain('products');
  expect(await tablesOf(other.url)).not.toContain('scribble');
  await Promise.all([one.drop(), other.drop()]);
});

test('a test database is dropped under an open session', async () => {
  const database = await createTestDatabase();
  const interrupted = onServer(database.url, async (client) => {
    client.on('error', () => undefined);
    await database.drop();
    return client.query('SELECT 1').catch((error: Error) => error);
  });
  expect(await interrupted).toBeInstanceOf(Error);
});
