import { type SeedOutcome, seedCatalog } from '../modules/catalog/seed.service.ts';
import type { Config } from '../platform/config.ts';
import { withDatabase } from './database.ts';
import { showProgress } from './progress.ts';
import { withShop } from './shop.ts';

const refusals: Readonly<Record<Exclude<SeedOutcome, 'seeded'>, string>> = {
  not_empty: 'The catalogue is not empty; seed only ever fills an empty one. Nothing was changed.',
  busy: 'Another seed or import is adding products at this moment. Nothing was changed.',
};

/** `scalecommerce seed --products N`: fills an empty catalogue with demonstration products. */
export function seedCommand(config: Config, options: { products: number }, signal: AbortSignal): Promise<number> {
  return withDatabase(config, async ({ url, directUrl }) => {
    await withShop(config, url, async () => undefined);
    const outcome = await seedWithProgress(directUrl, options.products, signal);
    if (outcome !== 'seeded') throw new Error(refusals[outcome]);
    console.log(`Seeded ${options.products} products.`);
    return 0;
  });
}

/** Seeds an empty catalogue and shows how far it is. Rejects once `signal` is aborted; then nothing was seeded. */
export async function seedWithProgress(url: string, products: number, signal: AbortSignal): Promise<SeedOutcome> {
  const progress = showProgress({ total: products, describe: (done) => `${done} of ${products} products` });
  try {
    return await seedCatalog({ url, products, signal, onProgress: progress.update });
  } catch (error) {
    if (signal.aborted) throw new Error('Stopped before the end; nothing was seeded.', { cause: error });
    throw error;
  } finally {
    progress.end();
  }
}
