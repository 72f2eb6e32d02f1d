import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { Client } from 'pg';
import { from as copyFrom } from 'pg-copy-streams';
import type { Reader } from './db.ts';

/** A table and those of its columns that are loaded; the others take their defaults. Never text from outside. */
export type CopyTarget = Readonly<{ table: string; columns: readonly string[] }>;
type CopyRow = readonly (string | number)[];

/** One open transaction that loads rows in bulk. */
export interface Loader extends Reader {
  /** Loads `rows` by COPY and resolves when the server has taken them all. */
  copy(target: CopyTarget, rows: Iterable<CopyRow>): Promise<void>;
}

const rowsPerWrite = 500;

/** A load whose host has vanished must not hold its locks for the hours that TCP would wait. */
const beginLoad = `BEGIN;
  SET LOCAL idle_in_transaction_session_timeout = '10s';
  SET LOCAL tcp_keepalives_idle = 5;
  SET LOCAL tcp_keepalives_interval = 2;
  SET LOCAL tcp_keepalives_count = 3`;

/** Runs `work` in one transaction on a connection of its own: all that it loads is there, or, if it throws, nothing. */
export async function bulkLoad<T>(url: string, work: (loader: Loader) => Promise<T>): Promise<T> {
  const client = new Client({ connectionString: url, application_name: 'scalecommerce load' });
  // A lost connection fails the statement under way; between statements nobody else would hear of it.
  client.on('error', () => undefined);
  await client.connect();
  try {
    await client.query(beginLoad);
    const result = await work(loaderOn(client));
    const { command } = await client.query('COMMIT');
    if (command !== 'COMMIT') throw new Error(`COMMIT was answered with ${command}`);
    return result;
  } finally {
    // Ending the session also rolls back whatever was not committed.
    await client.end();
  }
}

function loaderOn(client: Client): Loader {
  return {
    query: async (statement, values = []) => (await client.query({ ...statement, values: [...values] })).rows,
    copy: (target, rows) =>
      pipeline(
        Readable.from(piecesOf(rows)),
        client.query(copyFrom(`COPY ${target.table} (${target.columns.join(', ')}) FROM STDIN`)),
      ),
  };
}

function* piecesOf(rows: Iterable<CopyRow>): Generator<string> {
  let lines: string[] = [];
  for (const row of rows) {
    lines.push(`${row.map(copyText).join('\t')}\n`);
    if (lines.length < rowsPerWrite) continue;
    yield lines.join('');
    lines = [];
  }
  if (lines.length > 0) yield lines.join('');
}

const special = /[\\\t\n\r]/g;
const escapes: Readonly<Record<string, string>> = { '\\': '\\\\', '\t': '\\t', '\n': '\\n', '\r': '\\r' };

/** A value in the text format of COPY. */
function copyText(value: string | number): string {
  return String(value).replace(special, (character) => escapes[character] ?? character);
}
