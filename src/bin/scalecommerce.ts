import { readFileSync } from 'node:fs';
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import { type Config, InvalidConfig, readConfig } from '../platform/config.ts';
import { reasonOf, UsageError } from './failure.ts';
import { listenForInterruption } from './interruption.ts';
import type { CancelFlags, ListFlags } from './order.ts';

type Execute = (work: () => Promise<number>) => Promise<void>;

/** A command to its end: returns the exit status. It should end soon after `signal`. */
type Work = (config: Config, signal: AbortSignal) => Promise<number>;

const usageStatus = 2;
const failureStatus = 1;
const mostUnits = 1_000_000_000;
const orderStates = ['pending', 'authorized', 'captured', 'completed', 'failed', 'cancelled', 'refunded'] as const;

process.exitCode = await main(process.argv.slice(2));

/** Runs the command line; every end has its exit status and, if it is not a good one, its line on standard error. */
async function main(args: readonly string[]): Promise<number> {
  let status = 0;
  const program = commandLine(async (work) => {
    status = await work();
  });
  try {
    if (args.length === 0) program.error('error: no command given (scalecommerce --help lists them)');
    await program.parseAsync(args, { from: 'user' });
    return status;
  } catch (error) {
    return statusOf(error);
  }
}

function commandLine(execute: Execute): Command {
  const program = new Command('scalecommerce')
    .description('A headless commerce backend for shops that sell out.')
    .exitOverride()
    .configureOutput({ outputError: (text, write) => write(oneLine(text)) });
  const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'));
  const add = (usage: string, description: string): Command =>
    versioned(program.command(usage).description(description), version);
  versioned(program, version);

  add('start', 'serve the shop: API, worker, and the database if none is configured').action(() => execute(startShop));
  add('migrate', 'bring the database to the newest schema').action(() =>
    execute(() => run(async (config) => (await import('./migrate.ts')).migrateCommand(config))),
  );
  const seed = add('seed', 'fill an empty catalogue with demonstration products')
    // Not commander's required option: where --products is misspelt, that is what has to be said.
    .option('--products <N>', 'how many products to make, up to 10 million (required)', wholeNumber(1, 10_000_000))
    .action(({ products }: { products?: number }) => {
      if (products === undefined) return seed.error("error: option '--products <N>' is missing");
      return execute(() =>
        run(async (config, signal) => (await import('./seed.ts')).seedCommand(config, { products }, signal)),
      );
    });
  add('import', 'create and change products from a file')
    .argument(
      '<FILE>',
      'NDJSON or CSV of sku, name, description, price_cents, currency, stock and perhaps max_per_order',
    )
    .option('--stock', 'also set the stock of products that exist to the figure in the file')
    .action((file: string, { stock = false }: { stock?: boolean }) =>
      execute(() =>
        run(async (config, signal) => (await import('./import.ts')).importCommand(config, file, { stock }, signal)),
      ),
    );
  add('audit', 'check the invariants of the shop, also while it sells')
    .option('--timeout-s <SECONDS>', 'how long the database may take', wholeNumber(1, 86_400), 60)
    .action((options: { timeoutS: number }) =>
      execute(() => run(async (config, signal) => (await import('./audit.ts')).auditCommand(config, options, signal))),
    );
  addStockCommands(add('stock', 'show or change the stock of a product, also while it sells'), version, execute);
  addOrderCommands(add('order', 'show, cancel or retry orders, also while the shop sells'), version, execute);
  addWebhookCommands(add('webhook', 'tell other programs of what happens to orders'), version, execute);
  add('reconcile', "compare the gateway's book with the shop's, and give back what was taken for nothing")
    .option('--hours <N>', 'how far back', wholeNumber(1, 8_760), 24)
    .action((options: { hours: number }) =>
      execute(() => run(async (config) => (await import('./reconcile.ts')).reconcileCommand(config, options))),
    );
  return program;
}

function addStockCommands(stock: Command, version: string, execute: Execute): void {
  const add = (usage: string, description: string): Command =>
    versioned(stock.command(usage).description(description), version).argument(
      '<PRODUCT>',
      'the SKU of the product, or its id',
    );
  const addChange = (kind: 'set' | 'add', description: string, least: number): Command =>
    add(kind, description)
      .argument('<N>', 'units', wholeNumber(least, mostUnits))
      .option('--by <NAME>', 'who wants it (default: the user of the operating system)', shortText)
      .option('--why <TEXT>', 'what it is for, for the book of stock movements', shortText)
      .action((product: string, units: number, flags: { by?: string; why?: string }) =>
        execute(() =>
          run(async (config) =>
            (await import('./stock.ts')).changeStockCommand(config, product, { kind, units }, flags),
          ),
        ),
      );

  addChange('set', 'so many units can be sold from now on', 0);
  addChange('add', 'so many more units can be sold; with a minus sign, fewer', -mostUnits);
  add('show', 'what is there, and where it went').action((product: string) =>
    execute(() => run(async (config) => (await import('./stock.ts')).showStockCommand(config, product))),
  );
}

function addOrderCommands(order: Command, version: string, execute: Execute): void {
  const add = (usage: string, description: string): Command =>
    versioned(order.command(usage).description(description), version);
  const addOfOne = (usage: string, description: string): Command =>
    add(usage, description).argument('<ID>', 'the id of the order, or its number');

  addOfOne('show', 'everything about an order, and what the gateway says of it').action((id: string) =>
    execute(() => run(async (config) => (await import('./order.ts')).showOrderCommand(config, id))),
  );
  add('list', 'orders, the newest first')
    .addOption(new Option('--status <STATUS>', 'only those that have come so far').choices(orderStates))
    .option('--parked', 'only those that wait for an operator')
    .option('--unanswered', 'only those that wait for an answer of the gateway')
    .option('--limit <N>', 'how many', wholeNumber(1, 10_000), 50)
    .action((flags: ListFlags) =>
      execute(() => run(async (config) => (await import('./order.ts')).listOrdersCommand(config, flags))),
    );
  addOfOne('cancel', 'give back what an order holds, or the money that was paid for it')
    .option('--restock', 'book its goods as returned: they can be sold again')
    .option('--by <NAME>', 'who wants it (default: the user of the operating system)', shortText)
    .action((id: string, flags: CancelFlags) =>
      execute(() => run(async (config) => (await import('./order.ts')).cancelOrderCommand(config, id, flags))),
    );
  addOfOne('retry', 'let the workers try a parked order again').action((id: string) =>
    execute(() => run(async (config) => (await import('./order.ts')).retryOrderCommand(config, id))),
  );
}

/** In place of commander's wording, and of a suggestion below it. */
function oneLine(text: string): string {
  return `${text
    .trim()
    .replace(/^error: command-argument value (.*) is invalid for argument '(.*)'\. It (.*)\.$/, 'error: $2 $3, not $1.')
    .replace(/^error:/, 'scalecommerce:')
    .replace(/\s*\n\s*/g, ' ')}\n`;
}

function addWebhookCommands(webhook: Command, version: string, execute: Execute): void {
  const add = (usage: string, description: string): Command =>
    versioned(webhook.command(usage).description(description), version);
  const addOfOne = (usage: string, description: string): Command =>
    add(usage, description).argument('<ID>', 'the id of the endpoint');

  add('add', 'send a signed message to a URL for every outcome from now on')
    .argument('<URL>', 'where to: https, on port 443 of a public address')
    .option('--description <TEXT>', 'what it is for, to tell it from others', shortText)
    .action((url: string, flags: { description?: string }) =>
      execute(() => run(async (config) => (await import('./webhook.ts')).addWebhookCommand(config, url, flags))),
    );
  add('list', 'the endpoints, without their secrets').action(() =>
    execute(() => run(async (config) => (await import('./webhook.ts')).listWebhooksCommand(config))),
  );
  addOfOne('remove', 'send nothing more to an endpoint').action((id: string) =>
    execute(() => run(async (config) => (await import('./webhook.ts')).removeWebhookCommand(config, id))),
  );
  addOfOne('test', 'send a signed test message to an endpoint now').action((id: string) =>
    execute(() => run(async (config) => (await import('./webhook.ts')).testWebhookCommand(config, id))),
  );
  add('dead', 'the messages that were given up').action(() =>
    execute(() => run(async (config) => (await import('./webhook.ts')).deadWebhooksCommand(config))),
  );
  const replay = add('replay', 'send messages again that were given up')
    .argument('[ID]', 'the id that `webhook dead` shows')
    .option('--all', 'all of them')
    .action((id: string | undefined, { all = false }: { all?: boolean }) => {
      if ((id === undefined) !== all) return replay.error('error: either an ID or --all is needed');
      return execute(() =>
        run(async (config) => (await import('./webhook.ts')).replayWebhooksCommand(config, id ?? 'all')),
      );
    });
}

function versioned(command: Command, version: string): Command {
  return command.version(version, '--version', 'print the version');
}

/** `start` ends by itself on a signal: it has requests to finish. */
async function startShop(): Promise<number> {
  const { start } = await import('./start.ts');
  await start(readConfig(process.env));
  return 0;
}

async function run(work: Work): Promise<number> {
  const interruption = listenForInterruption();
  try {
    return await work(readConfig(process.env), interruption.signal);
  } catch (error) {
    const status = interruption.status();
    if (status === null) throw error;
    console.error(`scalecommerce: ${reasonOf(error)}`);
    return status;
  } finally {
    interruption.stopListening();
  }
}

function statusOf(error: unknown): number {
  // Commander has written its line already, or the help or version that was asked for.
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : usageStatus;
  console.error(`scalecommerce: ${error instanceof InvalidConfig ? error.message : reasonOf(error)}`);
  return error instanceof InvalidConfig || error instanceof UsageError ? usageStatus : failureStatus;
}

function wholeNumber(least: number, most: number): (text: string) => number {
  return (text) => {
    const number = /^-?\d{1,15}$/.test(text) ? Number(text) : Number.NaN;
    if (number >= least && number <= most) return number;
    throw new InvalidArgumentError(`It must be a whole number from ${least} to ${most}.`);
  };
}

function shortText(text: string): string {
  if (text.trim() !== '' && text.length <= 200 && !/\p{Cc}/u.test(text)) return text;
  throw new InvalidArgumentError('It must have 1 to 200 characters, no control characters.');
}
