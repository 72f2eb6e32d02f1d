/** How far a long command has got, on standard error. */
export type Progress = Readonly<{
  update: (done: number) => void;
  /** Writes a line of its own, clear of the bar. */
  note: (line: string) => void;
  end: () => void;
}>;

export type ProgressOptions = Readonly<{
  /** 0: not known. */
  total: number;
  /** What has been done, in words. */
  describe: (done: number) => string;
}>;

const barWidth = 30;
const redrawEveryMs = 100;
const lineEveryMs = 5_000;
const clearLine = '\r\u001b[K';

/** A bar on a terminal; elsewhere, in a log, a line now and then. */
export function showProgress(
  options: ProgressOptions,
  stream: Pick<NodeJS.WriteStream, 'isTTY' | 'write'> = process.stderr,
): Progress {
  const everyMs = stream.isTTY ? redrawEveryMs : lineEveryMs;
  let shownAtMs = stream.isTTY ? Number.NEGATIVE_INFINITY : performance.now();
  let bar = '';
  const draw = (text: string): void => {
    bar = text;
    stream.write(`${clearLine}${bar}`);
  };
  return {
    update: (done) => {
      if (performance.now() - shownAtMs < everyMs) return;
      shownAtMs = performance.now();
      const line = lineFor(done, options, stream.isTTY);
      if (stream.isTTY) draw(line);
      else stream.write(`${line}\n`);
    },
    note: (line) => {
      stream.write(bar === '' ? `${line}\n` : `${clearLine}${line}\n${bar}`);
    },
    end: () => {
      if (bar !== '') draw('');
    },
  };
}

function lineFor(done: number, options: ProgressOptions, withBar: boolean): string {
  if (options.total <= 0) return options.describe(done);
  const share = Math.min(1, done / options.total);
  const filled = Math.round(share * barWidth);
  const bar = withBar ? `[${'#'.repeat(filled)}${'-'.repeat(barWidth - filled)}] ` : '';
  return `${bar}${String(Math.floor(share * 100)).padStart(3)} %  ${options.describe(done)}`;
}
