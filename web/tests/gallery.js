// @ts-check
/** Serves `web/` with `standin.js` in place of `chive.js`, for looking at the page: `node web/tests/gallery.js [port]`. */
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { extname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
/** @type {Record<string, string>} */
const TYPES = { '.html': 'text/html; charset=utf-8', '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml', '.webmanifest': 'application/manifest+json' };

const server = createServer(async (request, response) => {
  const path = normalize(new URL(request.url ?? '/', 'http://localhost').pathname);
  const name = path === '/' ? 'index.html' : path === '/chive.js' ? 'tests/standin.js' : path;
  try {
    let body = await readFile(join(root, name));
    // It lies one folder deeper than what it stands in for.
    if (path === '/chive.js') body = Buffer.from(String(body).replaceAll("'../", "'./"));
    const csp = String(await readFile(join(root, 'csp.txt'))).trim();
    response.writeHead(200, { 'Content-Type': TYPES[extname(name)] ?? 'application/octet-stream', 'Content-Security-Policy': csp });
    response.end(body);
  } catch {
    response.writeHead(404).end();
  }
});
server.listen(Number(process.argv[2] ?? 0), '127.0.0.1', () => {
  const { port } = /** @type {import('node:net').AddressInfo} */ (server.address());
  console.log(`http://127.0.0.1:${port}/?scene=mesh`);
});
