/** What the hub's store has, looked at and changed behind the hub's back: in the file system, or in the cache. */

export const hex = async (blob) =>
  Array.from(new Uint8Array(await crypto.subtle.digest('SHA-256', await blob.arrayBuffer())), (b) => b.toString(16).padStart(2, '0')).join('');

/** The name of the record that a file's samples are compared with. */
const samplesOf = (sha256) => hex(new Blob([`chunks of ${sha256}`]));

const full = () => new DOMException('no room', 'QuotaExceededError');

/** A folder of the store. */
const folder = async (name) => (await (await navigator.storage.getDirectory()).getDirectoryHandle('lorahub')).getDirectoryHandle(name);

/** The part that is the file of this hash, for this worker alone. */
export async function partOf(sha256) {
  const named = await (await (await (await folder('files')).getFileHandle(sha256)).getFile()).text();
  return (await (await folder('parts')).getFileHandle(named.split(' ')[0])).createSyncAccessHandle();
}

const inFiles = {
  /** Changes a byte of a kept file, or its length. */
  async spoil({ sha256, at, byte, cut }) {
    const part = await partOf(sha256);
    if (cut > 0) part.truncate(part.getSize() - cut);
    else part.write(new Uint8Array([byte]), { at });
    part.close();
  },
  /** Removes what its samples are compared with. */
  async forgetSamples(sha256) {
    await (await folder('records')).removeEntry(await samplesOf(sha256));
  },
  /** From now on there is room for so many bytes more. */
  room(bytes) {
    const { write } = FileSystemSyncAccessHandle.prototype;
    FileSystemSyncAccessHandle.prototype.write = function (piece, options) {
      bytes -= piece.byteLength;
      if (bytes < 0) throw full();
      return write.call(this, piece, options);
    };
  },
  /** The names of what is stored, but for records. */
  async left() {
    const names = [];
    for (const inside of ['parts', 'files']) for await (const name of (await folder(inside)).keys()) names.push(name);
    return names.sort();
  },
};

const open = () => caches.open('lorahub');
const address = (name) => `${location.origin}/lorahub-store/${name}`;

const inCache = {
  async spoil({ sha256, at, byte, cut }) {
    const cache = await open();
    const [key] = (await (await cache.match(address(`files/${sha256}`))).text()).split(' ');
    const pieces = await cache.keys(address(`parts/${key}`), { ignoreSearch: true });
    const spans = pieces.map(({ url }) => url.split('?')[1].split('-').map(Number)).sort(([a], [b]) => a - b);
    const [start, end] = cut > 0 ? spans.at(-1) : spans.find(([start, end]) => start <= at && at < end);
    const piece = address(`parts/${key}?${start}-${end}`);
    const bytes = new Uint8Array(await (await cache.match(piece)).arrayBuffer());
    if (cut === 0) bytes[at - start] = byte;
    await cache.put(piece, new Response(bytes.subarray(0, bytes.length - cut)));
  },
  async forgetSamples(sha256) {
    await (await open()).delete(address(`records/${await samplesOf(sha256)}`));
  },
  room(bytes) {
    const { put } = Cache.prototype;
    Cache.prototype.put = async function (request, response) {
      bytes -= (await response.clone().arrayBuffer()).byteLength;
      if (bytes < 0) throw full();
      return put.call(this, request, response);
    };
  },
  async left() {
    const names = (await (await open()).keys()).map(({ url }) => url.slice(address('').length));
    return names.filter((name) => !name.startsWith('records/')).sort();
  },
};

/**
 * What the worker's address says the browser refuses, refused: `files`, as in private windows of some browsers, or
 * `caches` too. Returns the other end of the store that is left.
 */
export function refuse() {
  const refused = new URLSearchParams(location.search).getAll('without');
  const refusal = () => Promise.reject(new DOMException('refused by the test', 'SecurityError'));
  if (refused.includes('files')) StorageManager.prototype.getDirectory = refusal;
  if (refused.includes('caches')) CacheStorage.prototype.open = refusal;
  return refused.includes('files') ? inCache : inFiles;
}
