import { configSchema, expectationOf } from '../src/platform/config.ts';
import { writeOrCheck } from './generated-file.ts';

type Described = { description?: string; default?: unknown };

const rows = Object.entries(configSchema.properties).map(([name, schema]) => {
  const { description = '', default: byDefault } = schema as Described;
  const shown = byDefault === undefined || byDefault === '' ? 'unset' : `\`${byDefault}\``;
  return `| \`${name}\` | ${shown} | ${expectationOf(schema)} | ${description} |`;
});

const page = `# Configuration

Everything is configured through environment variables. They are read and checked once, at the start; every mistake is
reported at once, and nothing is started then. An empty variable counts as unset. This page is generated from
\`src/platform/config.ts\` by \`npm run generate\`.

| variable | default | may be | what it does |
|---|---|---|---|
${rows.join('\n')}
`;

await writeOrCheck('docs/configuration.md', page);
