import { readFileSync } from 'node:fs';
import type { RequestListener } from 'node:http';
import { stripTypeScriptTypes } from 'node:module';
import { fileURLToPath } from 'node:url';
import type { Page } from 'puppeteer-core';
import type { ClientKind } from './outcome-clients.ts';

const packages = fileURLToPath(new URL('../../node_modules', import.meta.url));
const clients = readFileSync(new URL('./outcome-clients.ts', import.meta.url), 'utf8');

const imports = {
  '@rails/actioncable': '/packages/@rails/actioncable/app/assets/javascripts/actioncable.esm.js',
  '@anycable/core': '/packages/@anycable/core/index.js',
  nanoevents: '/packages/nanoevents/index.js',
};

const html = `<!doctype html>
<title>Clients of the cable</title>
<link rel="icon" href="data:,">
<script type="importmap">${JSON.stringify({ imports })}</script>
<script type="module">
  import { ConnectionMonitor } from '@rails/actioncable';
  import { openClient } from '/outcome-clients.js';
  // Seconds; as the other clients do, it is to notice soon that it was cut off.
  ConnectionMonitor.staleThreshold = 2;
  const url = location.origin.replace('http', 'ws') + '/cable';
  window.heard = {};
  window.heardAgain = {};
  window.listenWith = (kind, token, options) => {
    const client = openClient(kind, url, options);
    window.heard[kind] = client.listen(token);
    if (options.isTwice) window.heardAgain[kind] = client.listen(token);
  };
  window.isReady = true;
</script>`;

/** Serves a page with the public clients in it, and the packages that it imports, as npm has installed them. */
export const serveCablePage: RequestListener = ({ url = '' }, response) => {
  const file = /^\/packages\/([\w@/.-]+\.js)$/.exec(url)?.[1];
  const isClients = url === '/outcome-clients.js';
  if (url === '/') response.setHeader('content-type', 'text/html; charset=utf-8').end(html);
  else if (!isClients && (!file || file.includes('..'))) response.writeHead(404).end();
  else {
    const source = file ? readFileSync(`${packages}/${file}`, 'utf8') : stripTypeScriptTypes(clients);
    response.setHeader('content-type', 'text/javascript; charset=utf-8').end(source);
  }
};

/** What a client in the page was told so far; both lists as they are in {@link Listening}. */
export type Heard = Readonly<{ told: string[]; states: string[] }>;

export type PageOptions = Readonly<{
  kinds: readonly ClientKind[];
  token: string;
  /** As the clients' options of these names. */
  pingMs: number;
  historySince?: number;
  /** Whether each client subscribes a second time. */
  isTwice?: boolean;
}>;

/** What each client in a page was told, as often as it subscribed. */
export type HeardInPage = Readonly<{
  once: Readonly<Record<ClientKind, Heard>>;
  again: Readonly<Record<ClientKind, Heard>>;
}>;

/** Opens the page at `origin` and listens in it with each of `kinds`. Returns what each was told, whenever it is asked. */
export async function listenInPage(
  page: Page,
  origin: string,
  { kinds, token, ...options }: PageOptions,
): Promise<() => Promise<HeardInPage>> {
  await page.goto(`${origin}/`);
  await page.waitForFunction('window.isReady');
  for (const kind of kinds) {
    const parameters = [kind, token, options].map((value) => JSON.stringify(value));
    await page.evaluate(`listenWith(${parameters.join()})`);
  }
  return async () => JSON.parse((await page.evaluate('JSON.stringify({ once: heard, again: heardAgain })')) as string);
}
