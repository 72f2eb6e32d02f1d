/** One line of the table. The best figure of several runs would be luck: `measured` comes from medians. */
export type Figure = Readonly<{
  name: string;
  /** Absent where there is nothing to reach. */
  goal?: Readonly<{ atLeast: number } | { below: number }>;
  measured: number;
  unit: '' | '/s' | 'ms' | 'KB';
  /** The absolute figures beside a ratio. */
  beside: string;
}>;

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const [low, high] = [sorted[Math.ceil(sorted.length / 2) - 1], sorted[middle]];
  return ((low ?? Number.NaN) + (high ?? Number.NaN)) / 2;
}

/** The row of a figure in the table that people read. */
export function rowOf({ name, goal, measured, unit, beside }: Figure): Record<string, string> {
  return {
    figure: name,
    goal: goal ? goalText(goal, unit) : '',
    measured: numberText(measured, unit),
    met: goal ? (isMet(goal, measured) ? 'yes' : 'no') : '',
    beside,
  };
}

export function isMet(goal: NonNullable<Figure['goal']>, measured: number): boolean {
  return 'atLeast' in goal ? measured >= goal.atLeast : measured < goal.below;
}

function goalText(goal: NonNullable<Figure['goal']>, unit: Figure['unit']): string {
  return 'atLeast' in goal ? `at least ${numberText(goal.atLeast, unit)}` : `under ${numberText(goal.below, unit)}`;
}

function numberText(value: number, unit: Figure['unit']): string {
  const text = unit === '' ? value.toFixed(2) : Math.round(value).toLocaleString('en');
  return unit === 'ms' || unit === 'KB' ? `${text} ${unit}` : `${text}${unit}`;
}
