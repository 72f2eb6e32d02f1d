import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { configSchema } from '../src/platform/config.ts';

test('the sample of an environment names every variable that is read, and no other', () => {
  const sample = readFileSync('.envrc.sample', 'utf8');
  const named = [...sample.matchAll(/^(?:# )?export ([A-Z_]+)=/gm)].map(([, name]) => name);
  expect(named).toEqual(Object.keys(configSchema.properties));
});
