import { execFileSync } from 'node:child_process';
import { cpSync, lstatSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { findBinaries, repairSymlinks } from './binaries.ts';

const root = mkdtempSync(join(tmpdir(), 'scalecommerce-binaries-'));
afterAll(() => rmSync(root, { recursive: true }));

test('programs run from a package whose install script was not allowed to run', () => {
  const original = dirname(dirname(dirname(findBinaries().postgres)));
  const copy = join(root, 'package');
  cpSync(original, copy, { recursive: true, filter: (path) => !lstatSync(path).isSymbolicLink() });
  repairSymlinks(copy);
  repairSymlinks(copy);
  expect(readdirSync(join(copy, 'native', 'lib')).sort()).toEqual(readdirSync(join(original, 'native', 'lib')).sort());
  expect(execFileSync(join(copy, 'native', 'bin', 'postgres'), ['-V'], { encoding: 'utf8' })).toContain('PostgreSQL');
});

test('a symlink that cannot be made is named, with the way out', () => {
  mkdirSync(join(root, 'native'));
  const links = [{ source: 'native/lib/libpq.so.5.18', target: 'native/lib/libpq.so.5' }];
  writeFileSync(join(root, 'native', 'pg-symlinks.json'), JSON.stringify(links));
  expect(() => repairSymlinks(root)).toThrow(/lacks the symlink .*libpq\.so\.5, .*npm rebuild.*DATABASE_URL/);
});
