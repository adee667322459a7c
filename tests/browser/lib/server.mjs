/**
 * A static host that keeps a record of everything that reaches it, and a forward proxy for everything else.
 *
 * Given to a browser as its proxy it is the oracle of what left the machine's page: page, workers, service workers,
 * beacons and navigations all pass it, whatever the browser's own tools report. It answers every foreign host with an
 * open 204, so that a leak is never stopped by accident.
 */
import { createServer } from 'node:http';
import { readFile, stat } from 'node:fs/promises';
import { extname, join, normalize, sep } from 'node:path';

/** What makes a page cross-origin isolated, so that its threads may share memory. */
export const ISOLATED = { 'cross-origin-opener-policy': 'same-origin', 'cross-origin-embedder-policy': 'require-corp' };

const TYPES = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.mjs': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.json': 'application/json',
  '.wasm': 'application/wasm',
  '.svg': 'image/svg+xml',
  '.woff2': 'font/woff2',
  '.md': 'text/plain; charset=utf-8',
  '.txt': 'text/plain; charset=utf-8',
};

/**
 * Serves folders, by path prefix, on a free port of the loopback interface.
 *
 * @param {Record<string, string>} mounts path prefix (with both slashes) to folder
 * @param {{ headers?: Record<string, string>, alter?: (path: string, bytes: Buffer) => Buffer | number }} [options]
 *   `headers` on every file (none but the type by default, as on a plain static host); `alter` may change a file's
 *   bytes or answer with a bare status instead
 */
export async function serve(mounts, { headers = {}, alter } = {}) {
  /** @type {{ method: string, url: string, headers: string, body: string, foreign: boolean }[]} */
  const requests = [];
  let host = '';

  const server = createServer(async (request, response) => {
    const absolute = request.url?.startsWith('/') ? `http://${request.headers.host}${request.url}` : (request.url ?? '');
    const url = new URL(absolute);
    const foreign = url.host !== host;
    const entry = { method: request.method ?? '', url: absolute, headers: JSON.stringify(request.rawHeaders), body: '', foreign };
    requests.push(entry);
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    entry.body = Buffer.concat(chunks).toString('latin1');
    if (foreign) {
      response.writeHead(204, { 'access-control-allow-origin': '*', 'access-control-allow-headers': '*' }).end();
      return;
    }
    const found = await find(mounts, url.pathname);
    const altered = found && alter ? alter(url.pathname, found.bytes) : found?.bytes;
    if (!found || altered === undefined) {
      response.writeHead(404, { 'content-type': 'text/plain' }).end('not found');
    } else if (typeof altered === 'number') {
      response.writeHead(altered).end();
    } else {
      response.writeHead(200, { 'content-type': found.type, 'content-length': altered.length, ...headers });
      response.end(request.method === 'HEAD' ? undefined : altered);
    }
  });
  // HTTPS and WebSockets can't be read, but that somebody tried is what counts.
  server.on('connect', (request, socket) => {
    requests.push({ method: 'CONNECT', url: request.url ?? '', headers: JSON.stringify(request.rawHeaders), body: '', foreign: true });
    socket.on('error', () => {});
    socket.end('HTTP/1.1 502 Bad Gateway\r\n\r\n');
  });
  server.on('upgrade', (request, socket) => {
    requests.push({ method: 'UPGRADE', url: new URL(request.url ?? '/', `http://${request.headers.host}`).href, headers: JSON.stringify(request.rawHeaders), body: '', foreign: true });
    socket.destroy();
  });

  await new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, '127.0.0.1', resolve);
  });
  const { port } = /** @type {import('node:net').AddressInfo} */ (server.address());
  host = `localhost:${port}`;
  return {
    /** `http://localhost:PORT`: a secure context. */
    origin: `http://${host}`,
    /** For `launch({ proxy })`; loopback addresses pass it too. */
    proxy: { server: `http://127.0.0.1:${port}`, bypass: '<-loopback>' },
    requests,
    close: () =>
      new Promise((resolve) => {
        server.close(resolve);
        server.closeAllConnections();
      }),
  };
}

async function find(mounts, pathname) {
  let decoded;
  try {
    decoded = decodeURIComponent(pathname);
  } catch {
    return undefined;
  }
  const prefix = Object.keys(mounts)
    .filter((p) => decoded.startsWith(p))
    .sort((a, b) => b.length - a.length)[0];
  if (prefix === undefined) return undefined;
  const relative = normalize(decoded.slice(prefix.length));
  if (relative === '..' || relative.startsWith(`..${sep}`)) return undefined;
  let path = join(mounts[prefix], relative);
  try {
    if ((await stat(path)).isDirectory()) path = join(path, 'index.html');
    return { bytes: await readFile(path), type: TYPES[extname(path)] ?? 'application/octet-stream' };
  } catch {
    return undefined;
  }
}
