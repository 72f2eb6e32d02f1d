import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir, userInfo } from 'node:os';
import { dirname, join } from 'node:path';
import puppeteer, { type Browser, type Page } from 'puppeteer-core';
import { onTestFailed } from 'vitest';

/** A page with a profile of its own, and what went wrong in it. */
export type Visit = Readonly<{
  page: Page;
  /** What the page complained of: errors on its console, uncaught ones, and answers that never came. Oldest first. */
  complaints: string[];
  /** The addresses that it asked for, oldest first. */
  requested: string[];
}>;

export type Visits = Readonly<{
  /** Opens an empty page that knows nothing of the others. What it complains of is printed if the test fails. */
  open(): Promise<Visit>;
  close(): Promise<void>;
}>;

const timeoutMs = 60_000;

/** Starts a headless Chromium that needs nothing but what npm has installed. Close it when done. */
export async function openBrowser(): Promise<Visits> {
  const folder = await unpackedChromium();
  const browser = await puppeteer.launch({
    executablePath: join(folder, 'chromium'),
    headless: 'shell',
    // As root, and where user namespaces are refused, there is no other way.
    args: ['--no-sandbox', '--font-render-hinting=none'],
    env: { ...process.env, FONTCONFIG_PATH: folder },
    timeout: timeoutMs,
    protocolTimeout: timeoutMs,
  });
  return { open: () => openVisit(browser), close: () => browser.close() };
}

async function openVisit(browser: Browser): Promise<Visit> {
  const context = await browser.createBrowserContext();
  const page = await context.newPage();
  page.setDefaultTimeout(timeoutMs);
  const complaints: string[] = [];
  const requested: string[] = [];
  page.on('console', (message) => {
    if (message.type() === 'error') complaints.push(`${message.text()} (${message.location().url ?? 'no address'})`);
  });
  page.on('pageerror', (error) => complaints.push(String(error)));
  page.on('request', (request) => requested.push(request.url()));
  onTestFailed(() => {
    for (const complaint of complaints) process.stderr.write(`In the page: ${complaint}\n`);
  });
  return { page, complaints, requested };
}

/**
 * The folder with the browser, unpacked at the first use. It appears whole, under its own name, so that test files that
 * start at the same time neither wait for each other nor run a half-written program.
 */
async function unpackedChromium(): Promise<string> {
  const packageFolder = dirname(dirname(createRequire(import.meta.url).resolve('@sparticuz/chromium')));
  const { version } = JSON.parse(await readFile(join(packageFolder, 'package.json'), 'utf8')) as { version: string };
  const folder = join(tmpdir(), `scalecommerce-chromium-${version}-${userInfo().uid}`);
  if (existsSync(folder)) return folder;
  const draft = await mkdtemp(`${folder}-`);
  await unpackInto(draft);
  await writeFile(join(draft, 'fonts.conf'), fontsOf(join(folder, 'fonts')));
  await rename(draft, folder).catch(async (error: NodeJS.ErrnoException) => {
    // Somebody else was faster.
    if (error.code !== 'ENOTEMPTY' && error.code !== 'EEXIST') throw error;
    await rm(draft, { recursive: true });
  });
  return folder;
}

/** The package unpacks into the system's temporary folder and knows no other way: for as long as it asks, that is `folder`. */
async function unpackInto(folder: string): Promise<void> {
  const { default: chromium } = await import('@sparticuz/chromium');
  const before = process.env.TMPDIR;
  process.env.TMPDIR = folder;
  const unpacked = chromium.executablePath();
  if (before === undefined) delete process.env.TMPDIR;
  else process.env.TMPDIR = before;
  await unpacked;
}

function fontsOf(folder: string): string {
  return `<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig><dir>${folder}</dir><dir>/usr/share/fonts</dir><cachedir>${folder}-cache</cachedir></fontconfig>
`;
}
