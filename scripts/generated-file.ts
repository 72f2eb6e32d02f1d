import { readFile, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';

/**
 * Writes a generated file of this repository, named from its root; or, with `--check` on the command line, fails when
 * the file is not what it would be if it were generated now.
 */
export async function writeOrCheck(path: string, content: string): Promise<void> {
  const file = fileURLToPath(new URL(`../${path}`, import.meta.url));
  if (!process.argv.includes('--check')) {
    await writeFile(file, content);
    return;
  }
  const present = await readFile(file, 'utf8').catch(() => '');
  if (present === content) return;
  console.error(`${path} is out of date: run \`npm run generate\` and commit what it writes.`);
  process.exitCode = 1;
}
