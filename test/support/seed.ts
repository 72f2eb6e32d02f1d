/** The same numbers again for the same seed: each between 0 and 1, 1 left out. */
export type Random = () => number;

/** Of this run of the tests; `FAULT_SEED` in the environment repeats one. */
export const seed = Number(process.env.FAULT_SEED ?? Math.floor(Math.random() * 2 ** 32));
process.stderr.write(`FAULT_SEED=${seed} repeats these faults\n`);

/** What one test takes its chances from: `name` gives each test, and each part of one, numbers of its own. */
export function randomOf(name: string): Random {
  let state = seed;
  for (const letter of name) state = Math.imul(state ^ letter.charCodeAt(0), 0x5bd1e995) + 1;
  return () => {
    state = (state + 0x9e3779b9) | 0;
    return mixed(state) / 2 ** 32;
  };
}

/** A whole number from `least` to `most`. */
export function between(random: Random, least: number, most: number): number {
  return least + Math.floor(random() * (most - least + 1));
}

export function oneOf<T>(random: Random, items: readonly T[]): T {
  return items[Math.floor(random() * items.length)] as T;
}

function mixed(state: number): number {
  const once = Math.imul(state ^ (state >>> 16), 0x21f0aaad);
  const twice = Math.imul(once ^ (once >>> 15), 0x735a2d97);
  return (twice ^ (twice >>> 15)) >>> 0;
}
