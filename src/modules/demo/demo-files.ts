import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';

/** A file of the page: where it is served, and what it is. */
export type DemoFile = Readonly<{ url: string; type: string; bytes: Buffer; etag: string }>;

const folder = new URL('page/', import.meta.url);

const files = [
  ['/demo', 'demo.html', 'text/html; charset=utf-8'],
  ['/demo/demo.css', 'demo.css', 'text/css; charset=utf-8'],
  ['/demo/demo.js', 'demo.js', 'text/javascript; charset=utf-8'],
  ['/demo/shopper.js', 'shopper.js', 'text/javascript; charset=utf-8'],
  ['/demo/checkout.js', 'checkout.js', 'text/javascript; charset=utf-8'],
  ['/demo/drop.js', 'drop.js', 'text/javascript; charset=utf-8'],
  ['/demo/drop-view.js', 'drop-view.js', 'text/javascript; charset=utf-8'],
  ['/demo/cable.js', 'cable.js', 'text/javascript; charset=utf-8'],
  ['/demo/page.js', 'page.js', 'text/javascript; charset=utf-8'],
  ['/demo/icon.svg', 'icon.svg', 'image/svg+xml'],
] as const;

/** All that the page consists of, read once. */
export function readDemoFiles(): Promise<DemoFile[]> {
  return Promise.all(
    files.map(async ([url, name, type]) => {
      const bytes = await readFile(new URL(name, folder));
      const etag = `"${createHash('sha256').update(bytes).digest('base64url').slice(0, 27)}"`;
      return { url, type, bytes, etag };
    }),
  );
}
