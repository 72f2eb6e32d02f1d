/**
 * How often values up to each bound were seen, each value counted once, at the first bound that is not below it; the last
 * count is of those above every bound.
 */
export type Histogram = Readonly<{ bounds: readonly number[]; counts: readonly number[]; sum: number }>;

/** Counts values by fixed, ascending bounds. */
export class HistogramCounter {
  readonly #bounds: readonly number[];
  readonly #counts: number[];
  #sum = 0;

  constructor(bounds: readonly number[]) {
    this.#bounds = bounds;
    this.#counts = Array<number>(bounds.length + 1).fill(0);
  }

  observe(value: number): void {
    const bounds = this.#bounds;
    let place = 0;
    while (place < bounds.length && value > (bounds[place] as number)) place++;
    (this.#counts[place] as number)++;
    this.#sum += value;
  }

  read(): Histogram {
    return { bounds: this.#bounds, counts: [...this.#counts], sum: this.#sum };
  }
}
