import type { Histogram } from './histogram.ts';

/** What makes one series of a family another than the next: never an id, a token or a path, of which there is no end. */
type Labels = Readonly<Record<string, string>>;

/** One metric with all its series, as Prometheus reads them. */
export type Family = Readonly<{ name: string; help: string }> &
  (
    | Readonly<{ type: 'counter' | 'gauge'; series: ReadonlyArray<readonly [labels: Labels, value: number]> }>
    | Readonly<{ type: 'histogram'; series: ReadonlyArray<readonly [labels: Labels, value: Histogram]> }>
  );

/** Families in Prometheus' text format, version 0.0.4. */
export function textOf(families: readonly Family[]): string {
  return families.map(familyText).join('');
}

function familyText(family: Family): string {
  const lines = [`# HELP ${family.name} ${family.help}`, `# TYPE ${family.name} ${family.type}`, ...seriesOf(family)];
  return lines.map((line) => `${line}\n`).join('');
}

function seriesOf(family: Family): string[] {
  return family.type === 'histogram'
    ? family.series.flatMap(([labels, histogram]) => histogramText(family.name, labels, histogram))
    : family.series.map(([labels, value]) => `${family.name}${labelText(labels)} ${value}`);
}

/** Prometheus wants each bucket to hold those below it, too. */
function histogramText(name: string, labels: Labels, { bounds, counts, sum }: Histogram): string[] {
  let below = 0;
  const buckets = counts.map((count, place) => {
    below += count;
    const le = place < bounds.length ? String(bounds[place]) : '+Inf';
    return `${name}_bucket${labelText({ ...labels, le })} ${below}`;
  });
  return [...buckets, `${name}_sum${labelText(labels)} ${sum}`, `${name}_count${labelText(labels)} ${below}`];
}

function labelText(labels: Labels): string {
  const pairs = Object.entries(labels).map(([name, value]) => `${name}="${escaped(value)}"`);
  return pairs.length === 0 ? '' : `{${pairs.join(',')}}`;
}

function escaped(value: string): string {
  return value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');
}
