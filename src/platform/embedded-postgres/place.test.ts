import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { clusterFailure, failure, openPlace, type Place } from './place.ts';

let place: Place;

beforeEach(() => {
  place = openPlace(mkdtempSync(join(tmpdir(), 'scalecommerce-place-')));
});
afterEach(() => rmSync(place.dataDir, { recursive: true }));

it('names no log before there is one', () => {
  expect(failure(place, 'initdb failed', new Error('No space left')).message).toBe(
    `initdb failed: No space left\n  folder: ${place.dataDir}`,
  );
});

it('leaves the log of the server out where the cluster is what is wrong', () => {
  writeFileSync(place.log, 'database system is ready\n');
  expect(clusterFailure(place, 'Made by PostgreSQL 17').message).toBe(
    `Made by PostgreSQL 17\n  folder: ${place.dataDir}`,
  );
});

it('names the log, and quotes the end of what it says', () => {
  writeFileSync(place.log, '');
  const named = `PostgreSQL did not start\n  folder: ${place.dataDir}\n  log: ${place.log}`;
  expect(failure(place, 'PostgreSQL did not start').message).toBe(named);
  writeFileSync(place.log, Array.from({ length: 12 }, (_, index) => `line ${index}\n`).join(''));
  const quoted = Array.from({ length: 10 }, (_, index) => `    line ${index + 2}`).join('\n');
  expect(failure(place, 'PostgreSQL did not start').message).toBe(`${named}\n  its last lines:\n${quoted}`);
});
