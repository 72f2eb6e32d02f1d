import { defineConfig } from 'vitest/config';

/** `npm run soak` sets for how long, and repeats a seed. */
export default defineConfig({
  test: {
    include: ['test/soak/*.soak.ts'],
    pool: 'forks',
    testTimeout: 2 ** 31 - 1,
  },
});
