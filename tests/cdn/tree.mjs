/**
 * The repositories of a folder, as a hub tells of them: commits, files, sizes and hashes.
 *
 * `ROOT/owner/name/` holds the files of every commit of `owner/name`, unless `ROOT/owner/name@COMMIT/` is there too.
 */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';

/** Files that the hub keeps outside git, on the CDN; the others it serves itself. */
const LARGE = /\.(?:bin|safetensors|gguf|model)$/u;
const LARGE_BYTES = 10 << 20;
const PART = /^(?!\.+$)[\w.-]+$/u;

/** @param {string} text */
const sha1 = (text) => createHash('sha1').update(text).digest('hex');

/**
 * @typedef {object} Found
 * @property {string} path on this machine
 * @property {number} size
 * @property {boolean} large whether it lies on the CDN
 * @property {string} sha256
 * @property {string} blob its name in git
 */

/** @param {string} root */
export function openTree(root) {
  /** What `main` is, where it was moved: `owner/name` to a commit. @type {Record<string, string>} */
  const moved = {};
  /** Commits that `main` has been, of each repository. @type {Map<string, Set<string>>} */
  const known = new Map();
  /** Hashes by path, with what they depend on. @type {Map<string, { stamp: string, hashes: Promise<{ sha256: string, blob: string }> }>} */
  const hashed = new Map();

  /** @param {string} repository */
  function main(repository) {
    const commit = moved[repository] ?? sha1(`first commit of ${repository}`);
    const commits = known.get(repository) ?? new Set([sha1(`first commit of ${repository}`)]);
    known.set(repository, commits.add(commit));
    return commit;
  }

  /** The commit of a branch or commit; undefined if there is none. @param {string} repository @param {string} revision */
  async function commit(repository, revision) {
    if (!repository.split('/').every((part) => PART.test(part)) || !(await isFolder(join(root, repository)))) return undefined;
    const now = main(repository);
    if (revision === 'main') return now;
    return known.get(repository)?.has(revision) ? revision : undefined;
  }

  /** @param {string} repository @param {string} at */
  async function folder(repository, at) {
    const own = join(root, `${repository}@${at}`);
    return (await isFolder(own)) ? own : join(root, repository);
  }

  /** @param {string} repository @param {string} at @param {string} path @returns {Promise<Found | undefined>} */
  async function file(repository, at, path) {
    if (!path.split('/').every((part) => PART.test(part))) return undefined;
    const place = join(await folder(repository, at), path);
    const found = await stat(place).catch(() => undefined);
    if (!found?.isFile()) return undefined;
    const stamp = `${found.size} ${found.mtimeMs}`;
    let entry = hashed.get(place);
    if (entry?.stamp !== stamp) {
      entry = { stamp, hashes: hash(place, found.size) };
      hashed.set(place, entry);
    }
    return { path: place, size: found.size, large: LARGE.test(path) || found.size > LARGE_BYTES, ...(await entry.hashes) };
  }

  /** The hub's list of a commit's files. @param {string} repository @param {string} at */
  async function list(repository, at) {
    const entries = [];
    const top = await folder(repository, at);
    for (const entry of await readdir(top, { recursive: true, withFileTypes: true })) {
      const path = join(entry.parentPath, entry.name).slice(top.length + 1).replaceAll('\\', '/');
      if (entry.isDirectory()) {
        entries.push({ type: 'directory', oid: sha1(path), size: 0, path });
        continue;
      }
      const found = await file(repository, at, path);
      if (!found) continue;
      const { size, sha256, blob, large } = found;
      const lfs = large ? { lfs: { oid: sha256, size, pointerSize: 134 } } : {};
      entries.push({ type: 'file', oid: blob, size, path, ...lfs });
    }
    return entries.sort((a, b) => (a.path < b.path ? -1 : 1));
  }

  return { moved, commit, file, list };
}

/** @param {string} path */
async function isFolder(path) {
  return (await stat(path).catch(() => undefined))?.isDirectory() ?? false;
}

/** @param {string} path @param {number} size */
async function hash(path, size) {
  const sha256 = createHash('sha256');
  const blob = createHash('sha1').update(`blob ${size}\0`);
  for await (const piece of createReadStream(path, { highWaterMark: 1 << 20 })) {
    sha256.update(piece);
    blob.update(piece);
  }
  return { sha256: sha256.digest('hex'), blob: blob.digest('hex') };
}
