import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { cruise, type ICruiseResult, type IForbiddenRuleType } from 'dependency-cruiser';
import extractConfig from 'dependency-cruiser/config-utl/extract-depcruise-config';
import { afterEach, beforeEach, expect, test } from 'vitest';

type Import = Readonly<{ from: string; to: string; type?: boolean }>;

// One import for each rule that this rule, and no other, refuses.
const refused: Record<string, Import> = {
  'no-cycles': { from: 'src/shared/back.ts', to: 'src/shared/money.ts' },
  'imports-resolve': { from: 'src/app.ts', to: 'src/missing.ts' },
  'platform-imports-nothing-above-it': { from: 'src/platform/cache.ts', to: 'src/modules/catalog/catalog.service.ts' },
  'http-imports-nothing-above-it': { from: 'src/http/limits.ts', to: 'src/app.ts' },
  'modules-imports-nothing-above-it': { from: 'src/modules/basket/basket.service.ts', to: 'src/resources.ts' },
  'composition-imports-nothing-above-it': { from: 'src/worker.ts', to: 'src/bin/start.ts' },
  'shared-is-pure': { from: 'src/shared/ids.ts', to: 'src/platform/db.ts' },
  'one-door-per-module': { from: 'src/modules/basket/basket.service.ts', to: 'src/modules/catalog/catalog.sql.ts' },
  'one-door-and-a-window-per-module': {
    from: 'src/modules/checkout/checkout.routes.ts',
    to: 'src/modules/orders/orders.routes.ts',
  },
  'arrows-of-basket': { from: 'src/modules/basket/basket.service.ts', to: 'src/modules/orders/orders.service.ts' },
  'arrows-of-checkout': { from: 'src/modules/checkout/accept.ts', to: 'src/modules/catalog/catalog.service.ts' },
  'arrows-of-demo': { from: 'src/modules/demo/race.ts', to: 'src/modules/basket/basket.service.ts' },
  'arrows-of-notifications': {
    from: 'src/modules/notifications/cable.socket.ts',
    to: 'src/modules/basket/basket.service.ts',
  },
  'arrows-of-webhooks': {
    from: 'src/modules/webhooks/deliver.ts',
    to: 'src/modules/notifications/notifications.service.ts',
  },
  'arrows-of-the-other-modules': {
    from: 'src/modules/catalog/catalog.routes.ts',
    to: 'src/modules/basket/basket.service.ts',
  },
  'routes-do-not-see-sql': { from: 'src/modules/basket/basket.routes.ts', to: 'src/modules/basket/basket.sql.ts' },
  'services-do-not-see-http': { from: 'src/modules/basket/basket.service.ts', to: 'src/http/problem.ts', type: true },
  'sql-is-a-leaf': { from: 'src/modules/basket/basket.sql.ts', to: 'src/modules/basket/basket.service.ts' },
  'drivers-only-in-platform': { from: 'src/modules/basket/basket.sql.ts', to: 'pg' },
  'configuration-is-read-by-the-composition': { from: 'src/http/server.ts', to: 'src/platform/config.ts', type: true },
  'sources-do-not-see-tests': { from: 'src/app.ts', to: 'test/support/shop.ts' },
  'sources-use-installed-packages': { from: 'src/app.ts', to: 'vitest' },
};

const allowed: readonly Import[] = [
  { from: 'src/shared/ids.ts', to: 'node:crypto' },
  { from: 'src/platform/db.ts', to: 'pg' },
  { from: 'src/http/problem.ts', to: 'src/platform/db.ts' },
  { from: 'src/modules/basket/basket.routes.ts', to: 'src/http/problem.ts' },
  { from: 'src/modules/basket/basket.routes.ts', to: 'src/modules/basket/basket.service.ts' },
  { from: 'src/modules/basket/basket.service.ts', to: 'src/modules/catalog/catalog.service.ts' },
  { from: 'src/modules/checkout/checkout.routes.ts', to: 'src/modules/orders/orders.schema.ts' },
  { from: 'src/modules/checkout/settle.sql.ts', to: 'src/modules/orders/orders.service.ts', type: true },
  { from: 'src/resources.ts', to: 'src/platform/config.ts' },
  { from: 'src/app.ts', to: 'src/modules/basket/basket.routes.ts' },
  { from: 'src/bin/start.ts', to: 'src/app.ts' },
  { from: 'src/shared/money.test.ts', to: 'vitest' },
];

const { forbidden = [], options = {} } = await extractConfig(path.resolve('.dependency-cruiser.cjs'));
let tree: string;

beforeEach(() => {
  tree = mkdtempSync(path.join(tmpdir(), 'dependency-rules-'));
  write('package.json', JSON.stringify({ dependencies: { pg: '8.0.0' }, devDependencies: { vitest: '5.0.0' } }));
  for (const name of ['pg', 'vitest']) {
    write(`node_modules/${name}/package.json`, JSON.stringify({ name, main: 'index.js' }));
    write(`node_modules/${name}/index.js`, '');
  }
});

afterEach(() => rmSync(tree, { recursive: true }));

test('every rule has an import that it refuses', () => {
  expect(Object.keys(refused)).toEqual(forbidden.map((rule) => rule.name));
});

test.each(Object.entries(refused))('%s refuses an import', async (rule, unwanted) => {
  if (rule === 'no-cycles') write(unwanted.to, statementFor({ from: unwanted.to, to: unwanted.from }));
  else if (rule !== 'imports-resolve') writeTarget(unwanted);
  write(unwanted.from, statementFor(unwanted));
  expect(await brokenRules()).toEqual([rule]);
});

test.each(allowed)('$from may import $to', async (wanted) => {
  writeTarget(wanted);
  write(wanted.from, statementFor(wanted));
  expect(await brokenRules()).toEqual([]);
});

async function brokenRules(): Promise<string[]> {
  const rules = forbidden as IForbiddenRuleType[];
  const { output } = await cruise(['src'], {
    ...options,
    baseDir: tree,
    validate: true,
    ruleSet: { forbidden: rules },
  });
  const names = (output as ICruiseResult).summary.violations.map((violation) => violation.rule.name);
  return [...new Set(names)];
}

function statementFor({ from, to, type = false }: Import): string {
  const target = to.startsWith('src/') || to.startsWith('test/') ? path.relative(path.dirname(from), to) : to;
  const specifier = target === to || target.startsWith('.') ? target : `./${target}`;
  return type ? `import type { Thing } from '${specifier}';\nexport type Own = Thing;\n` : `import '${specifier}';\n`;
}

function writeTarget({ to }: Import): void {
  if (to.endsWith('.ts')) write(to, 'export type Thing = string;\n');
}

function write(file: string, content: string): void {
  const target = path.join(tree, file);
  mkdirSync(path.dirname(target), { recursive: true });
  writeFileSync(target, content);
}
