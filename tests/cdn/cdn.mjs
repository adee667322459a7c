/**
 * A hub and its CDN on this machine: what a model hub answers, and the faults that its users meet.
 *
 * - `GET /{owner}/{name}/resolve/{commit or main}/{path}`: for large files 302 to a signed address on the CDN's port that
 *   expires, for small ones 307 to an address of the hub itself; `X-Repo-Commit`, `X-Linked-Size`, `X-Linked-ETag`.
 * - `GET /api/models/{owner}/{name}/revision/{commit or main}` and `.../tree/{commit or main}?recursive=true`.
 * - The CDN: single ranges (206, 416), `ETag` (not the file's hash), `Content-Range`, 403 for an address that is no
 *   longer good. It refuses preflights, as the real one has been seen to do.
 * - CORS on both hops: the hub echoes the origin and shows its list of headers, the CDN shows all of them to everyone.
 *
 * As a command: `node tests/cdn/cdn.mjs --root DIR [--port N] [--faults JSON]` prints one line of JSON with its
 * addresses; `POST /_faults` takes a list of faults (see `faults.mjs`) in place of the old one, `POST /_commits` what
 * `main` is to be (`{"owner/name": "COMMIT"}`), `GET /_log` gives the requests, `DELETE /_log` forgets them.
 */
import { createHash, createHmac, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { realpathSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

import { checked, met, send } from './faults.mjs';
import { openTree } from './tree.mjs';

const HUB_SHOWS =
  'X-Repo-Commit,X-Request-Id,X-Error-Code,X-Error-Message,X-Total-Count,ETag,Link,Accept-Ranges,Content-Range,X-Linked-Size,X-Linked-ETag,X-Xet-Hash';

/**
 * @typedef {object} Entry a request
 * @property {'hub' | 'cdn' | 'api'} hop
 * @property {string} method
 * @property {string} path `owner/name/file`, or `owner/name` for the API
 * @property {string} url
 * @property {string} commit
 * @property {string | null} range the request's `Range`
 * @property {string | null} origin
 * @property {string[]} headers names of the request's headers
 * @property {number} status 0 where there was no answer
 * @property {number} sent bytes of the body
 * @property {string[]} faults what it met
 */

/**
 * Serves the repositories under `root`.
 *
 * @param {{ root: string, port?: number, faults?: import('./faults.mjs').Fault[], expires?: number }} options `expires`:
 *   seconds that a redirect's address is good for
 */
export async function start({ root, port = 0, faults: given = [], expires = 3600 }) {
  const tree = openTree(root);
  const faults = [...checked(given)];
  /** @type {Entry[]} */
  const log = [];
  const secret = randomBytes(16);
  let cdnOrigin = '';

  /** @param {string} path @param {number} until */
  const sign = (path, until) => createHmac('sha256', secret).update(`${path} ${until}`).digest('hex');

  /** @param {Entry['hop']} hop @param {import('node:http').IncomingMessage} request @param {string} path @param {string} commit */
  function note(hop, request, path, commit) {
    /** @type {Entry} */
    const entry = {
      hop,
      method: request.method ?? '',
      path,
      url: request.url ?? '',
      commit,
      range: request.headers.range ?? null,
      origin: request.headers.origin ?? null,
      headers: Object.keys(request.headers),
      status: 0,
      sent: 0,
      faults: [],
    };
    log.push(entry);
    return entry;
  }

  /**
   * A status without a file. Returns whether a fault asked for it.
   *
   * @param {import('node:http').ServerResponse} response
   * @param {Entry} entry
   * @param {ReturnType<typeof met>} fault
   * @param {Record<string, string>} headers
   */
  function failed(response, entry, fault, headers) {
    entry.faults = Object.keys(fault);
    if (fault.refuse) {
      response.destroy();
      return true;
    }
    if (!fault.status) return false;
    const { status = 500, retryAfter } = fault.status;
    const after = retryAfter === undefined ? {} : { 'retry-after': String(retryAfter) };
    bare(response, entry, status, { ...headers, ...after });
    return true;
  }

  /** @param {import('node:http').ServerResponse} response @param {Entry} entry @param {number} status @param {Record<string, string>} headers */
  function bare(response, entry, status, headers) {
    entry.status = status;
    const text = `status ${status}\n`;
    response.writeHead(status, { 'content-type': 'text/plain', 'content-length': text.length, ...headers }).end(text);
  }

  /**
   * A file or a range of it.
   *
   * @param {import('node:http').IncomingMessage} request
   * @param {import('node:http').ServerResponse} response
   * @param {Entry} entry
   * @param {import('./tree.mjs').Found} file
   * @param {Record<string, string>} headers
   * @param {ReturnType<typeof met>} [decided] faults already looked up
   */
  async function serveFile(request, response, entry, file, headers, decided) {
    let range = rangeOf(request.headers.range, file.size);
    const fault = decided ?? met(faults, 'cdn', entry.path, range === 'none' || range === 'wrong' ? { start: 0, end: file.size } : range);
    if (failed(response, entry, fault, headers)) return;
    const all = { ...headers, 'accept-ranges': 'bytes', 'content-type': 'application/octet-stream' };
    if (fault.hidden) delete all['access-control-expose-headers'];
    if (fault['no-ranges']) range = 'none';
    if (range === 'wrong') {
      bare(response, entry, 416, { ...all, 'content-range': `bytes */${file.size}` });
      return;
    }
    entry.status = range === 'none' ? 200 : 206;
    let bytes = range === 'none' ? { start: 0, end: file.size } : range;
    if (fault['wrong-range'] && range !== 'none') {
      // The same number of bytes, from one further on or before.
      const shift = bytes.end < file.size ? 1 : -Math.min(1, bytes.start);
      bytes = { start: bytes.start + shift, end: bytes.end + shift };
    }
    const length = Math.min(bytes.end - bytes.start, fault.truncate ? (fault.truncate.at ?? 0) : Infinity);
    const part = entry.status === 206 ? { 'content-range': `bytes ${bytes.start}-${bytes.end - 1}/${file.size}` } : {};
    response.writeHead(entry.status, { ...all, ...part, 'content-length': length });
    if (request.method === 'HEAD') response.end();
    else await send(response, file.path, bytes, fault, entry);
  }

  const hub = createServer(async (request, response) => {
    const url = new URL(request.url ?? '/', 'http://hub');
    if (url.pathname.startsWith('/_')) {
      await control(request, response, url.pathname);
      return;
    }
    const origin = request.headers.origin;
    const shown = origin ? { 'access-control-allow-origin': origin, 'access-control-expose-headers': HUB_SHOWS, vary: 'Origin' } : {};
    if (request.method === 'OPTIONS') {
      note('hub', request, url.pathname, '').status = 204;
      response.writeHead(204, { ...shown, 'access-control-allow-methods': 'GET,HEAD', 'access-control-allow-headers': 'range' }).end();
      return;
    }
    const api = /^\/api\/models\/([^/]+\/[^/]+)\/(revision|tree)\/([^/]+)$/u.exec(url.pathname);
    const resolved = /^(\/api\/resolve-cache\/models)?\/([^/]+\/[^/]+)(?:\/resolve)?\/([^/]+)\/(.+)$/u.exec(url.pathname);
    if (api) {
      const [, repository, what, revision] = api;
      const commit = await tree.commit(repository, revision);
      const entry = note('api', request, repository, commit ?? '');
      if (failed(response, entry, met(faults, 'api', repository), shown)) return;
      if (!commit) {
        bare(response, entry, 404, { ...shown, 'x-error-code': 'RevisionNotFound' });
        return;
      }
      const files = await tree.list(repository, commit);
      const siblings = files.filter((file) => file.type === 'file').map((file) => ({ rfilename: file.path }));
      const json = JSON.stringify(what === 'tree' ? files : { id: repository, sha: commit, siblings });
      entry.status = 200;
      entry.sent = Buffer.byteLength(json);
      response.writeHead(200, { 'content-type': 'application/json', 'content-length': entry.sent, ...shown }).end(json);
    } else if (resolved && (resolved[1] || url.pathname.includes('/resolve/'))) {
      const [, cached, repository, revision, path] = resolved;
      const commit = await tree.commit(repository, revision);
      const file = commit && (await tree.file(repository, commit, path));
      const entry = note('hub', request, `${repository}/${path}`, commit ?? '');
      if (!commit || !file) {
        bare(response, entry, 404, { ...shown, 'x-error-code': commit ? 'EntryNotFound' : 'RevisionNotFound' });
        return;
      }
      const told = { ...shown, 'x-repo-commit': commit, etag: `"${file.blob}"` };
      if (cached) {
        await serveFile(request, response, entry, file, told);
        return;
      }
      const fault = met(faults, 'hub', entry.path);
      if (failed(response, entry, fault, shown)) return;
      const at = `/${repository}/${commit}/${path}`;
      const until = Math.floor(Date.now() / 1000) + (fault.expired ? -60 : expires);
      const location = file.large
        ? `${cdnOrigin}${at}?Expires=${until}&Signature=${sign(at, until)}`
        : `/api/resolve-cache/models${at}`;
      const linked = file.large ? { 'x-linked-size': String(file.size), 'x-linked-etag': `"${file.sha256}"`, 'x-xet-hash': xet(file) } : {};
      bare(response, entry, file.large ? 302 : 307, { ...told, ...linked, location, 'cache-control': 'no-store', 'accept-ranges': 'bytes' });
    } else {
      bare(response, note('hub', request, url.pathname, ''), 404, shown);
    }
  });

  const cdn = createServer(async (request, response) => {
    const url = new URL(request.url ?? '/', 'http://cdn');
    const [, repository, commit, path] = /^\/([^/]+\/[^/]+)\/([^/]+)\/(.+)$/u.exec(url.pathname) ?? [];
    const entry = note('cdn', request, `${repository}/${path}`, commit ?? '');
    const shown = { 'access-control-allow-origin': '*', 'access-control-expose-headers': '*' };
    if (request.method === 'OPTIONS') {
      bare(response, entry, 403, {});
      return;
    }
    const until = Number(url.searchParams.get('Expires'));
    const good = until > Date.now() / 1000 && url.searchParams.get('Signature') === sign(url.pathname, until);
    const file = repository && path ? await tree.file(repository, commit, path) : undefined;
    if (!good || !file) bare(response, entry, good ? 404 : 403, shown);
    else await serveFile(request, response, entry, file, { ...shown, etag: `"${xet(file)}"`, 'cache-control': 'max-age=31536000' });
  });

  /** @param {import('node:http').IncomingMessage} request @param {import('node:http').ServerResponse} response @param {string} path */
  async function control(request, response, path) {
    const pieces = [];
    for await (const piece of request) pieces.push(piece);
    const headers = { 'content-type': 'application/json', 'access-control-allow-origin': '*' };
    const task = `${request.method} ${path}`;
    try {
      if (task === 'GET /_log') {
        response.writeHead(200, headers).end(JSON.stringify(log));
        return;
      }
      if (task === 'DELETE /_log') log.length = 0;
      else if (task === 'POST /_faults') faults.splice(0, faults.length, ...checked(JSON.parse(Buffer.concat(pieces).toString())));
      else if (task === 'POST /_commits') Object.assign(tree.moved, JSON.parse(Buffer.concat(pieces).toString()));
      else throw new TypeError(`there is no ${task}`);
      response.writeHead(200, headers).end('{}');
    } catch (error) {
      response.writeHead(400, headers).end(JSON.stringify({ error: String(error) }));
    }
  }

  for (const [server, at] of /** @type {const} */ ([[hub, port], [cdn, 0]])) {
    server.keepAliveTimeout = 60_000;
    server.listen(at, '127.0.0.1');
    await once(server, 'listening');
  }
  /** @param {import('node:http').Server} server */
  const address = (server) => `http://127.0.0.1:${/** @type {import('node:net').AddressInfo} */ (server.address()).port}`;
  cdnOrigin = address(cdn);

  return {
    /** The hub's address. */
    origin: address(hub),
    /** The CDN's. */
    cdn: cdnOrigin,
    /** The faults to come; change the list in place. */
    faults,
    /** The requests so far. */
    log,
    /** What `main` is, where it is not the first commit: change it in place. */
    commits: tree.moved,
    async close() {
      for (const server of [hub, cdn]) {
        server.closeAllConnections();
        server.close();
        await once(server, 'close');
      }
    },
  };
}

/** The CDN's name of a content, which is not its SHA-256. @param {import('./tree.mjs').Found} file */
function xet(file) {
  return createHash('sha256').update(`xet ${file.sha256}`).digest('hex');
}

/**
 * The bytes of a single range; `none` without one, `wrong` for several, or behind the file's end.
 *
 * @param {string | undefined} header
 * @param {number} size
 * @returns {{ start: number, end: number } | 'none' | 'wrong'}
 */
function rangeOf(header, size) {
  if (header === undefined) return 'none';
  const [, first, last] = /^bytes=(\d+)-(\d*)$/u.exec(header) ?? [];
  if (first === undefined || last === undefined) return 'wrong';
  const start = Number(first);
  const end = Math.min(size, last === '' ? size : Number(last) + 1);
  return start < end ? { start, end } : 'wrong';
}

if (process.argv[1] && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  const { values } = parseArgs({
    options: { root: { type: 'string' }, port: { type: 'string', default: '0' }, faults: { type: 'string', default: '[]' } },
  });
  if (!values.root) {
    console.error('usage: node tests/cdn/cdn.mjs --root DIR [--port N] [--faults JSON]');
    process.exit(2);
  }
  const { origin, cdn } = await start({ root: values.root, port: Number(values.port), faults: JSON.parse(values.faults) });
  console.log(JSON.stringify({ origin, cdn }));
}
