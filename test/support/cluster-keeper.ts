import { once } from 'node:events';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { acquireEmbeddedPostgres } from '../../src/platform/embedded-postgres.ts';

/** No machine has to survive with these databases. A dozen processes of the shop are on them at times, with their pools. */
const throwAway = { fsync: 'off', synchronous_commit: 'off', full_page_writes: 'off', max_connections: '400' };

// A process of its own: however the test run ends, even by SIGKILL, the channel to it breaks and nothing is left behind.
const parentGone = once(process, 'disconnect');
const dataDir = await mkdtemp(join(tmpdir(), 'scalecommerce-test-'));
try {
  // Where the tests run as root, PostgreSQL runs as somebody who must get in here.
  await chmod(dataDir, 0o755);
  const postgres = await acquireEmbeddedPostgres({ dataDir, settings: throwAway });
  if (process.connected) process.send?.({ url: postgres.url });
  await parentGone;
  await postgres.release();
} finally {
  await rm(dataDir, { recursive: true, force: true });
}
