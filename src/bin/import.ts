import { type FileHandle, open } from 'node:fs/promises';
import { basename } from 'node:path';
import { type ImportReport, importCatalog } from '../modules/catalog/import.service.ts';
import type { Config } from '../platform/config.ts';
import type { Database } from '../platform/db.ts';
import { withDatabase } from './database.ts';
import { reasonOf, UsageError } from './failure.ts';
import { type Progress, showProgress } from './progress.ts';
import { withShop } from './shop.ts';

type ImportFlags = Readonly<{ stock: boolean }>;
type OpenFile = Readonly<{ name: string; handle: FileHandle; bytes: number }>;
type Run = { report: ImportReport; error: unknown };

/** `scalecommerce import FILE`: brings the catalogue to what the file says. */
export async function importCommand(
  config: Config,
  path: string,
  flags: ImportFlags,
  signal: AbortSignal,
): Promise<number> {
  const file = await openFile(path);
  try {
    const run = await withDatabase(config, ({ url }) =>
      withShop(config, url, (db, currency) => runImport(db, file, { currency, withStock: flags.stock, signal })),
    );
    return conclude(run, signal);
  } finally {
    await file.handle.close();
  }
}

async function openFile(path: string): Promise<OpenFile> {
  try {
    const handle = await open(path);
    const stats = await handle.stat();
    if (!stats.isDirectory()) return { name: basename(path), handle, bytes: stats.isFile() ? stats.size : 0 };
    await handle.close();
  } catch (cause) {
    throw new UsageError(`The file cannot be read: ${reasonOf(cause)}`, { cause });
  }
  throw new UsageError(`${path} is a folder, not a file`);
}

/** An import that breaks off has done part of its work: how far it came is part of the answer. */
async function runImport(
  db: Database,
  file: OpenFile,
  options: { currency: string; withStock: boolean; signal: AbortSignal },
): Promise<Run> {
  const run: Run = { report: { created: 0, changed: 0, unchanged: 0, bad: 0, lastLine: 0 }, error: null };
  const progress = showProgress({ total: file.bytes, describe: () => `up to line ${run.report.lastLine}` });
  try {
    run.report = await importCatalog(
      db,
      { name: file.name, chunks: readChunks(file.handle, progress) },
      {
        ...options,
        onBadLine: (line, lastLine, faults) => progress.note(`${placeOf(line, lastLine)}: ${faults.join('; ')}`),
        onProgress: (report) => {
          run.report = report;
        },
        onWaiting: (reason) => progress.note(`waiting: ${reason}`),
      },
    );
  } catch (error) {
    run.error = error;
  } finally {
    progress.end();
  }
  return run;
}

async function* readChunks(handle: FileHandle, progress: Progress): AsyncGenerator<Buffer> {
  let bytes = 0;
  for await (const chunk of handle.createReadStream({ autoClose: false })) {
    bytes += chunk.length;
    progress.update(bytes);
    yield chunk;
  }
}

function placeOf(line: number, lastLine: number): string {
  return line === lastLine ? `line ${line}` : `lines ${line}-${lastLine}`;
}

function conclude({ report, error }: Run, signal: AbortSignal): number {
  const { created, changed, unchanged, bad, lastLine } = report;
  console.log(`created ${created}, changed ${changed}, unchanged ${unchanged}, bad ${bad}`);
  const soFar = `Everything up to line ${lastLine} is done; run the same command again for the rest.`;
  if (signal.aborted) throw new Error(`Stopped. ${soFar}`);
  if (error) throw new Error(lastLine > 0 ? `${reasonOf(error)}. ${soFar}` : reasonOf(error), { cause: error });
  return bad > 0 ? 1 : 0;
}
