/** A hub with small models, and the finished page made for it: another manifest, and a policy that allows this hub. */
import { createHash, randomBytes } from 'node:crypto';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { start } from '../../cdn/cdn.mjs';
import { BASE, DIST, ROOT } from './browser.mjs';
import { serve } from './server.mjs';

const GOLDEN = join(ROOT, 'tests/golden/models');
const CHUNK = 64 << 10;
/** Of the file that makes one base slow to come. */
const CHUNKS = 40;
const BASE_FILES = ['config.json', 'tokenizer.json', 'model.safetensors'];
const MODULE_FILES = ['adapter_config.json', 'adapter_model.safetensors'];

export const GATED = 'golden/gated';
export const MODULES = ['qv-a', 'qv-b', 'qv-c'];
/** The same with a large file beside it. */
export const SLOW = 'golden/slow';
export const BIG = 'big.bin';

const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex');

/** The files of a golden model, for those who open them from a folder. */
export const golden = (...path) => join(GOLDEN, ...path);

/** Starts hub, CDN and the page's host. */
export async function world() {
  const folder = mkdtempSync(join(tmpdir(), 'lorahub-models-'));
  const hub = join(folder, 'hub');
  for (const id of [GATED, SLOW]) cpSync(golden('gated/base'), join(hub, id), { recursive: true });
  for (const name of MODULES) cpSync(golden('gated/modules', name), join(hub, 'golden', name), { recursive: true });
  const big = randomBytes(CHUNK * CHUNKS);
  writeFileSync(join(hub, SLOW, BIG), big);
  const chunks = Array.from({ length: CHUNKS }, (_, i) => sha256(big.subarray(i * CHUNK, (i + 1) * CHUNK)));
  const known = (repository) => (path) => {
    const bytes = readFileSync(join(hub, repository, path));
    return { path, size: bytes.length, sha256: sha256(bytes) };
  };
  const manifest = {
    version: 1,
    bases: [
      { id: GATED, repository: GATED, licence: 'CC0-1.0', files: BASE_FILES.map(known(GATED)) },
      {
        id: SLOW,
        repository: SLOW,
        files: [{ path: BIG, size: big.length, sha256: sha256(big), chunks: { bytes: CHUNK, sha256: chunks } }, ...BASE_FILES.map(known(SLOW))],
      },
    ],
    modules: MODULES.map((name) => ({
      name,
      base: GATED,
      repository: `golden/${name}`,
      files: MODULE_FILES.map(known(`golden/${name}`)),
      rule: 'reference',
      tags: name === 'qv-c' ? ['third'] : ['first', 'letters'],
    })),
    sets: [{ name: 'seed-42', modules: ['qv-b', 'qv-a'] }],
  };
  writeFileSync(join(folder, 'manifest.json'), JSON.stringify(manifest));

  const cdn = await start({ root: hub });
  const own = `<lorahub-composer hub="${cdn.origin}" manifest="/lists/manifest.json"`;
  const alter = (path, bytes) => {
    if (path !== BASE && path !== `${BASE}index.html`) return bytes;
    const page = bytes.toString('utf8').replace(/connect-src 'self'[^;]*/, `connect-src 'self' ${cdn.origin} ${cdn.cdn}`);
    return Buffer.from(page.replace('<lorahub-composer', own));
  };
  const server = await serve({ [BASE]: DIST, '/lists/': folder }, { alter });
  return {
    cdn,
    server,
    address: server.origin + BASE,
    big,
    /** Bytes of the large file that came over the network. */
    sent: () => cdn.log.filter((entry) => entry.hop === 'cdn' && entry.path.endsWith(BIG)).reduce((sum, entry) => sum + entry.sent, 0),
    async close() {
      await server.close();
      await cdn.close();
      rmSync(folder, { recursive: true });
    },
  };
}
