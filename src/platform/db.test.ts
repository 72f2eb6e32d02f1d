import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { expectSoon } from '../../test/support/expect-soon.ts';
import { createTestDatabase, onServer, type TestDatabase } from '../../test/support/postgres.ts';
import { openTcpProxy, type TcpProxy, type TcpProxyOptions } from '../../test/support/tcp-proxy.ts';
import { Unavailable } from '../shared/refusal.ts';
import { CommitUnknown, type Database, type DatabaseOptions, openDatabase, sql, sqlStateOf, type Tx } from './db.ts';

const insertNote = sql('test.insert_note', 'INSERT INTO notes (id) VALUES ($1)');
const insertComment = sql('test.insert_comment', 'INSERT INTO comments (note_id, id) VALUES ($1, $2)');
const readNotes = sql('test.read_notes', 'SELECT id FROM notes ORDER BY id');
const readCount = sql('test.read_count', 'SELECT count FROM counter');
const addToCount = sql('test.add_to_count', 'UPDATE counter SET count = count + $1');
const lockCount = sql('test.lock_count', 'SELECT count FROM counter FOR NO KEY UPDATE');
const rest = sql('test.rest', 'SELECT pg_sleep($1)');
const askPid = sql('test.ask_pid', 'SELECT pg_backend_pid() AS pid');
const fail = sql('test.fail', 'SELECT fail_with($1)');
const readSetting = sql('test.read_setting', 'SELECT current_setting($1) AS value');
const repeatTexts = sql('test.repeat_texts', 'SELECT $1::text[] AS items');

let testDatabase: TestDatabase;
let db: Database;
const opened: Array<{ close(): Promise<void> }> = [];
const backgroundErrors: Error[] = [];

beforeAll(async () => {
  testDatabase = await createTestDatabase();
  await psql(`
    CREATE TABLE notes (id integer PRIMARY KEY);
    CREATE TABLE comments (note_id integer REFERENCES notes (id), id integer PRIMARY KEY DEFERRABLE INITIALLY DEFERRED);
    CREATE TABLE counter (count integer NOT NULL);
    CREATE FUNCTION fail_with(code text) RETURNS void LANGUAGE plpgsql AS
      $$ BEGIN RAISE EXCEPTION 'told to fail' USING ERRCODE = code; END $$;`);
});
afterAll(() => testDatabase.drop());

beforeEach(async () => {
  await psql('TRUNCATE notes, comments, counter; INSERT INTO counter VALUES (0)');
  backgroundErrors.length = 0;
  db = open();
});
afterEach(async () => {
  for (const each of opened.splice(0)) await each.close();
});

describe('a transaction', () => {
  it('writes nothing before COMMIT, then everything', async () => {
    const result = await db.transaction(async (tx) => {
      tx.defer(insertNote, [1]);
      expect(await tx.query(readNotes)).toEqual([]);
      tx.defer(insertNote, [2]);
      return 'done';
    });
    expect([result, await notes()]).toEqual(['done', [1, 2]]);
  });

  it('writes nothing when its work throws, and throws the same', async () => {
    const whim = new Error('changed my mind');
    await expect(
      db.transaction(async (tx) => {
        await tx.query(insertNote, [1]);
        tx.defer(insertNote, [2]);
        throw whim;
      }),
    ).rejects.toBe(whim);
    expect(await notes()).toEqual([]);
  });

  it('writes nothing when a deferred write fails, and throws the first error of all', async () => {
    const failure = await thrownBy((tx) => {
      for (const id of [1, 2, 2, 3]) tx.defer(insertNote, [id]);
      tx.defer(fail, ['22012']);
    });
    expect([sqlStateOf(failure), await notes()]).toEqual(['23505', []]);
  });

  it('throws the first error also when the statements behind it were sent without waiting', async () => {
    const failure = await thrownBy(async (tx) => {
      const nested = async (): Promise<unknown> => Promise.all([tx.query(fail, ['22012'])]);
      const deeper = async (): Promise<unknown> => Promise.all([nested()]);
      const all = Promise.all([deeper(), tx.query(readNotes)]);
      await new Promise((resolve) => setImmediate(resolve));
      // Both answers are there when this process looks again, and it hears of them in one breath.
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 100);
      await all;
    });
    expect(sqlStateOf(failure)).toBe('22012');
  });

  it('writes nothing when a value cannot be taken as what it should be', async () => {
    const failure = await thrownBy((tx) => {
      tx.defer(insertNote, [1]);
      tx.defer(insertNote, ['one']);
    });
    expect([sqlStateOf(failure), await notes()]).toEqual(['22P02', []]);
  });

  it('fails when COMMIT itself finds a broken rule', async () => {
    const failure = await thrownBy((tx) => {
      tx.defer(insertNote, [1]);
      for (const id of [7, 7]) tx.defer(insertComment, [1, id]);
    });
    expect([sqlStateOf(failure), await notes()]).toEqual(['23505', []]);
  });

  it('fails when COMMIT is answered with ROLLBACK, since a failed statement was overlooked', async () => {
    const failure = await thrownBy(async (tx) => {
      await tx.query(insertNote, [1]);
      await tx.query(fail, ['22012']).catch(() => undefined);
    });
    expect(failure).toMatchObject({ message: 'COMMIT was answered with ROLLBACK' });
    expect(await notes()).toEqual([]);
  });

  it('leaves its connection fit for the next one', async () => {
    db = open({ connections: 1 });
    await thrownBy((tx) => tx.defer(fail, ['22012']));
    await thrownBy((tx) => void tx.query(fail, ['22012']).catch(() => undefined));
    await db.transaction(async (tx) => tx.defer(insertNote, [1]));
    expect(await notes()).toEqual([1]);
  });

  it('keeps a connection of its own: what it has not committed nobody else reads', async () => {
    await db.transaction(async (tx) => {
      await tx.query(insertNote, [1]);
      expect(await notes()).toEqual([]);
    });
    expect(await notes()).toEqual([1]);
  });

  it('is refused where only reading is allowed', async () => {
    const reader = open({ readOnly: true });
    const attempt = reader.transaction(async (tx) => tx.defer(insertNote, [1]));
    await expect(attempt).rejects.toMatchObject({ code: '25006' });
  });
});

describe('a transaction that the server broke up', () => {
  it('runs again, whole, after a serialization failure', async () => {
    const beginRepeatable = sql('test.repeatable', 'SET TRANSACTION ISOLATION LEVEL REPEATABLE READ');
    const seen: unknown[] = [];
    await db.transaction(async (tx) => {
      await tx.query(beginRepeatable);
      seen.push((await tx.query<{ count: number }>(readCount))[0]?.count);
      if (seen.length === 1) await psql('UPDATE counter SET count = 10');
      tx.defer(addToCount, [1]);
    });
    expect([seen, await count()]).toEqual([[0, 10], 11]);
  });

  it.each(['40001', '40P01'])('runs again after %s, when it read and when it wrote', async (code) => {
    let tries = 0;
    await db.transaction(async (tx) => {
      tries++;
      tx.defer(addToCount, [1]);
      if (tries === 1) await tx.query(fail, [code]);
      if (tries === 2) tx.defer(fail, [code]);
    });
    expect([tries, await count()]).toEqual([3, 1]);
  });

  it('is given up after some tries as something to come back for', async () => {
    let tries = 0;
    const failure = await thrownBy((tx) => {
      tries++;
      tx.defer(fail, ['40P01']);
    });
    expect(failure).toBeInstanceOf(Unavailable);
    expect(tries).toBe(5);
  });

  it('does not run again after any other error', async () => {
    let tries = 0;
    const failure = await thrownBy((tx) => {
      tries++;
      tx.defer(fail, ['23505']);
    });
    expect([sqlStateOf(failure), tries]).toEqual(['23505', 1]);
  });
});

describe('a transaction that the server did not open', () => {
  it('does not go on without having been opened', async () => {
    const proxy = await openProxy({ spoil: 'BEGIN' });
    const behind = open({ url: proxy.url, connections: 1 });
    const failure = await behind
      .transaction(async (tx) => {
        await tx.query(lockCount);
        await tx.query(insertNote, [1]);
        tx.defer(insertNote, [2]);
      })
      .catch((error: Error) => error);
    expect([sqlStateOf(failure), await notes()]).toEqual(['42601', []]);
    await behind.transaction(async (tx) => tx.defer(insertNote, [3]));
    expect(await notes()).toEqual([3]);
  });

  it('writes nothing without having been opened, also when it only writes', async () => {
    const proxy = await openProxy({ spoil: 'BEGIN' });
    const behind = open({ url: proxy.url });
    const failure = await behind.transaction(async (tx) => tx.defer(insertNote, [1])).catch((error: Error) => error);
    expect([sqlStateOf(failure), await notes()]).toEqual(['42601', []]);
  });
});

describe('a lock that is held', () => {
  it('is waited for 1 s, then the transaction is unavailable and its connection fit for use', async () => {
    db = open({ connections: 1 });
    await onServer(testDatabase.url, async (holder) => {
      await holder.query('BEGIN');
      await holder.query(lockCount.text);
      expect(await thrownBy(async (tx) => void (await tx.query(lockCount)))).toBeInstanceOf(Unavailable);
      expect(await thrownBy((tx) => tx.defer(addToCount, [1]))).toBeInstanceOf(Unavailable);
      await holder.query('ROLLBACK');
    });
    await db.transaction(async (tx) => tx.defer(addToCount, [1]));
    expect(await count()).toBe(1);
  });
});

describe('a lost connection', () => {
  it('during COMMIT leaves the outcome unknown, whether it took effect or not', async () => {
    for (const arrives of [true, false]) {
      const proxy = await openProxy({ cutAtCommit: arrives ? 'after' : 'before' });
      const behind = open({ url: proxy.url });
      const failure = await behind.transaction(async (tx) => tx.defer(insertNote, [1])).catch((error: Error) => error);
      expect(failure).toBeInstanceOf(CommitUnknown);
      expect(failure).not.toBeInstanceOf(Unavailable);
      await untilNobodyWorks();
      expect(await notes()).toEqual(arrives ? [1] : []);
      await psql('TRUNCATE notes, comments');
    }
  });

  it('before COMMIT was sent is unavailable, and nothing was written', async () => {
    const proxy = await openProxy();
    const behind = open({ url: proxy.url });
    const failure = await behind
      .transaction(async (tx) => {
        await tx.query(insertNote, [1]);
        proxy.cut();
        await tx.query(readNotes);
      })
      .catch((error: Error) => error);
    expect(failure).toBeInstanceOf(Unavailable);
    await untilNobodyWorks();
    expect(await notes()).toEqual([]);
  });

  it('between two statements is unavailable, also when there is nothing left to do but COMMIT', async () => {
    for (const next of ['read', 'write', 'commit']) {
      const failure = await thrownBy(async (tx) => {
        await tx.query(insertNote, [1]);
        await terminate(await pidOf(tx));
        if (next === 'read') await tx.query(readNotes);
        if (next === 'write') tx.defer(insertNote, [2]);
      });
      expect([next, failure]).toEqual([next, expect.any(Unavailable)]);
    }
    expect(await notes()).toEqual([]);
  });

  it('that has fallen silent is given up, and the next request gets another', async () => {
    const proxy = await openProxy();
    const behind = open({ url: proxy.url, connections: 1, answerTimeoutMs: 1_500 });
    await behind.query(readNotes);
    proxy.fallSilent();
    await expect(behind.query(readNotes)).rejects.toBeInstanceOf(Unavailable);
    // The proxy may still be closing what belongs to the lost one.
    await expectSoon(() => behind.transaction((tx) => tx.query(readNotes)).catch(() => null)).toEqual([]);
  });

  it('that falls silent at COMMIT leaves the outcome unknown', async () => {
    const proxy = await openProxy();
    const behind = open({ url: proxy.url, connections: 1, answerTimeoutMs: 1_500 });
    const attempt = behind.transaction(async (tx) => {
      await tx.query(insertNote, [1]);
      proxy.fallSilent();
    });
    await expect(attempt).rejects.toBeInstanceOf(CommitUnknown);
  });

  it('in the very moment in which it was made is unavailable', async () => {
    const dying = createServer((socket) => {
      socket
        .once('data', () => socket.end(Buffer.concat([authenticated, ready, told57P01])))
        .on('error', () => undefined);
    }).listen(0, '127.0.0.1');
    await once(dying, 'listening');
    opened.push({ close: async () => void dying.close() });
    const { port } = dying.address() as AddressInfo;
    const behind = open({ url: `postgres://shop@127.0.0.1:${port}/shop` });
    await expect(behind.query(readNotes)).rejects.toBeInstanceOf(Unavailable);
  });

  it('in the middle of a statement is unavailable', async () => {
    let pid = 0;
    const reading = thrownBy(async (tx) => {
      pid = await pidOf(tx);
      await tx.query(rest, [30]);
    });
    await untilItRests(() => pid);
    await terminate(pid);
    expect(await reading).toBeInstanceOf(Unavailable);
  });

  it.each(['pg_terminate_backend', 'pg_cancel_backend'])(
    'by %s in a deferred write is unavailable: COMMIT was not reached',
    async (stop) => {
      let pid = 0;
      const writing = thrownBy(async (tx) => {
        pid = await pidOf(tx);
        tx.defer(insertNote, [1]);
        tx.defer(rest, [30]);
        tx.defer(insertNote, [2]);
      });
      await untilItRests(() => pid);
      await psql(`SELECT ${stop}(${pid})`);
      expect(await writing).toBeInstanceOf(Unavailable);
      expect(await notes()).toEqual([]);
    },
  );

  it('is told of when nobody used it, without what belongs to the connection', async () => {
    await terminate(await db.transaction(pidOf));
    await expectSoon(() => backgroundErrors.length).toBe(1);
    expect(backgroundErrors[0]).toBeInstanceOf(Unavailable);
    const cause = backgroundErrors[0]?.cause;
    expect(sqlStateOf(cause)).toBe('57P01');
    expect(cause).not.toHaveProperty('client');
  });

  it('costs the pool nothing: after all its backends were terminated it serves as many as before', async () => {
    const together = async (): Promise<number[]> => {
      // Opened before: a transaction that waits for another's connection stands idle, and is ended after 1 s.
      await Promise.all(Array.from({ length: 4 }, () => db.query(rest, [0.05])));
      const pids: number[] = [];
      const allBusy = Promise.withResolvers<void>();
      const transactions = Array.from({ length: 4 }, () =>
        db.transaction(async (tx) => {
          pids.push(await pidOf(tx));
          if (pids.length === 4) allBusy.resolve();
          await allBusy.promise;
        }),
      );
      await Promise.all(transactions);
      return pids;
    };
    const before = await together();
    for (const pid of before) await terminate(pid);
    await expectSoon(() => backgroundErrors.length).toBe(4);
    const after = await together();
    expect(new Set([...before, ...after]).size).toBe(8);
  });
});

describe('closing', () => {
  const openSockets = (): number => process.getActiveResourcesInfo().filter((name) => name === 'TCPSocketWrap').length;

  it('leaves no connection behind, also where the network swallows everything', async () => {
    const proxy = await openProxy();
    const behind = openDatabase({ ...optionsOf(proxy.url), connections: 1 });
    await behind.query(readNotes);
    const before = openSockets();
    proxy.swallow();
    await behind.close();
    // Both halves of the proxy stay.
    await expectSoon(openSockets).toBe(before - 1);
  });
});

describe('a server that has lost its office to another', () => {
  const becomeReadOnly = sql('test.become_read_only', 'SET default_transaction_read_only = on');
  const writes: ReadonlyArray<[what: string, write: () => Promise<unknown>]> = [
    ['a single write', () => db.query(insertNote, [1])],
    ['a transaction that writes', () => db.transaction((tx) => tx.query(insertNote, [1]))],
    ['a transaction that locks', () => db.transaction((tx) => tx.query(lockCount))],
    ['a transaction that defers its writes', () => db.transaction(async (tx) => tx.defer(insertNote, [1]))],
  ];

  it.each(writes)('makes %s unavailable, and the next goes to its successor', async (_, write) => {
    db = open({ connections: 1 });
    await db.query(becomeReadOnly);
    const failure: unknown = await write().catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(Unavailable);
    expect(sqlStateOf((failure as Error).cause)).toBe('25006');
    await write();
  });
});

describe('a process that stalls inside a transaction', () => {
  it('loses it, and its locks, after 1 s', async () => {
    const failure = await thrownBy(async (tx) => {
      const pid = await pidOf(tx);
      await tx.query(lockCount);
      tx.defer(addToCount, [1]);
      // Waits for the lock of a transaction that does nothing.
      await onServer(testDatabase.url, (other) => other.query('UPDATE counter SET count = count + 100'));
      await untilGone(pid);
    });
    expect(failure).toBeInstanceOf(Unavailable);
    expect(await count()).toBe(100);
  });

  it('does not commit afterwards, even if it never learnt of its loss', async () => {
    const failure = await thrownBy(async (tx) => {
      await tx.query(lockCount);
      tx.defer(addToCount, [1]);
      // Nothing is read meanwhile, as in a process that is stopped.
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 4_000);
    });
    expect([Unavailable, CommitUnknown]).toContain(failure?.constructor);
    expect(await count()).toBe(0);
  });
});

describe('the limits', () => {
  it('are set on every connection', async () => {
    const limit = async (name: string): Promise<unknown> =>
      (await db.query<{ value: string }>(readSetting, [name]))[0]?.value;
    expect(await limit('lock_timeout')).toBe('1s');
    expect(await limit('statement_timeout')).toBe('5s');
    expect(await limit('idle_in_transaction_session_timeout')).toBe('1s');
    expect(await limit('application_name')).toBe('scalecommerce database test');
  });

  it('turn away who would wait behind a full line, at once', async () => {
    db = open({ connections: 1, waiting: 2 });
    const held = Promise.withResolvers<void>();
    const isHeld = Promise.withResolvers<void>();
    const holder = db.transaction(async (tx) => {
      await tx.query(readNotes);
      isHeld.resolve();
      await held.promise;
    });
    await isHeld.promise;
    const waiting = [db.query(readNotes), db.query(readNotes)];
    await expect(db.query(readNotes)).rejects.toThrow(Unavailable);
    await expect(db.transaction((tx) => tx.query(readNotes))).rejects.toThrow(Unavailable);
    held.resolve();
    await holder;
    expect(await Promise.all(waiting)).toEqual([[], []]);
  });

  it('hold for a database that is not there', async () => {
    // Nobody listens on port 1.
    const behind = open({ url: 'postgres://shop@127.0.0.1:1/shop' });
    await expect(behind.query(readNotes)).rejects.toThrow(Unavailable);
  });
});

describe('plans', () => {
  const lookUp = sql(
    'test.look_up',
    'SELECT l.id FROM unnest($1::integer[]) AS wanted (id) JOIN leaves l ON l.id = wanted.id',
  );
  const countKept = sql(
    'test.count_kept_plans',
    `SELECT generic_plans::integer AS kept FROM pg_prepared_statements WHERE name = 'test.look_up'`,
  );
  const countScans = sql(
    'test.count_scans',
    `SELECT seq_scan::integer AS whole, idx_scan::integer AS by_index FROM pg_stat_xact_user_tables WHERE relname = 'leaves'`,
  );

  // The planner knows how little there is, and would read all of it.
  beforeEach(() =>
    psql(
      'CREATE TABLE leaves (id integer PRIMARY KEY) WITH (autovacuum_enabled = off); INSERT INTO leaves VALUES (1); ANALYZE leaves',
    ),
  );
  afterEach(() => psql('DROP TABLE leaves'));

  async function lookUpOften(on: Database): Promise<number> {
    for (let times = 0; times < 10; times++) await on.query(lookUp, [[1, 2, 3]]);
    return ((await on.query<{ kept: number }>(countKept))[0] as { kept: number }).kept;
  }

  it('made once are kept, and look up by index in a table that was nearly empty then', async () => {
    const once = open({ connections: 1, plans: 'once' });
    expect(await lookUpOften(once)).toBeGreaterThan(0);
    await psql('INSERT INTO leaves SELECT generate_series(2, 50000)');
    const scans = await once.transaction(async (tx) => {
      expect(await tx.query(lookUp, [[1, 2, 3]])).toHaveLength(3);
      return tx.query(countScans);
    });
    expect(scans).toEqual([{ whole: 0, by_index: expect.any(Number) }]);
  });

  it('are made each time otherwise', async () => {
    expect(await lookUpOften(open({ connections: 1 }))).toBe(0);
  });
});

describe('an array', () => {
  it('arrives as it was sent', async () => {
    const items = [
      '',
      'plain',
      '"',
      '\\',
      '\\"',
      'a,b',
      '{}',
      '{"x"}',
      'NULL',
      'null',
      null,
      ' ',
      "'",
      'é\n\t',
      '\u{1F600}',
    ];
    expect(await db.query(repeatTexts, [items])).toEqual([{ items }]);
    expect(await db.query(repeatTexts, [[]])).toEqual([{ items: [] }]);
  });

  it('arrives as numbers, truth values and ids too', async () => {
    const repeat = sql(
      'test.repeat_arrays',
      'SELECT $1::integer[] AS integers, $2::bigint AS large, $3::boolean[] AS truths, $4::uuid[] AS ids',
    );
    const id = '01960000-0000-7000-8000-000000000000';
    expect(await db.query(repeat, [[1, -2, null], 9_007_199_254_740_991, [true, false], [id]])).toEqual([
      { integers: [1, -2, null], large: 9_007_199_254_740_991, truths: [true, false], ids: [id] },
    ]);
  });
});

function open(options: Partial<DatabaseOptions> = {}): Database {
  const database = openDatabase({ ...optionsOf(testDatabase.url), ...options });
  opened.push(database);
  return database;
}

function optionsOf(url: string): DatabaseOptions {
  const onError = (error: Error): void => void backgroundErrors.push(error);
  return { url, name: 'database test', connections: 4, waiting: 10, onError };
}

/** What a server says: a letter, the length of the rest, the rest. */
function message(type: string, body: string): Buffer {
  const head = Buffer.from(`${type}    `);
  head.writeUInt32BE(4 + body.length, 1);
  return Buffer.concat([head, Buffer.from(body)]);
}

const authenticated = message('R', '\0\0\0\0');
const ready = message('Z', 'I');
const told57P01 = message('E', 'SFATAL\0VFATAL\0C57P01\0Mterminating connection\0\0');

/** Past the code under test. */
function psql(text: string): Promise<{ rows: Array<Record<string, unknown>> }> {
  return onServer(testDatabase.url, (client) => client.query(text));
}

async function notes(): Promise<unknown[]> {
  return (await psql(readNotes.text)).rows.map((row) => row.id);
}

async function count(): Promise<unknown> {
  return (await psql(readCount.text)).rows[0]?.count;
}

async function thrownBy(work: (tx: Tx) => void | Promise<void>): Promise<Error | null> {
  return db
    .transaction(async (tx) => work(tx))
    .then(
      () => null,
      (error: Error) => error,
    );
}

async function pidOf(tx: Tx): Promise<number> {
  return Number((await tx.query<{ pid: number }>(askPid))[0]?.pid);
}

async function terminate(pid: number): Promise<void> {
  await psql(`SELECT pg_terminate_backend(${pid})`);
  await untilGone(pid);
}

function untilGone(pid: number): Promise<void> {
  return untilNone(`pid = ${pid}`);
}

/** Until the backends behind a cut connection have found out. */
function untilNobodyWorks(): Promise<void> {
  return untilNone(`application_name = 'scalecommerce database test' AND state <> 'idle'`);
}

async function untilNone(which: string): Promise<void> {
  const query = `SELECT count(*)::integer AS count FROM pg_stat_activity WHERE datname = current_database() AND ${which}`;
  await expectSoon(async () => (await psql(query)).rows[0]?.count).toBe(0);
}

async function untilItRests(pid: () => number): Promise<void> {
  const isResting = async (): Promise<boolean> =>
    (await psql(`SELECT FROM pg_stat_activity WHERE pid = ${pid()} AND wait_event = 'PgSleep'`)).rows.length > 0;
  await expectSoon(isResting).toBe(true);
}

/** A proxy to the database of this test. */
async function openProxy(options: TcpProxyOptions = {}): Promise<TcpProxy> {
  const proxy = await openTcpProxy(testDatabase.url, options);
  opened.unshift(proxy);
  return proxy;
}
