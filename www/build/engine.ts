/**
 * Vite plugin: the compute worker as text, and the address of its WebAssembly.
 *
 * `virtual:engine-worker` is the worker bundled into one classic script, so that the page can start it from a Blob;
 * `virtual:engine-wasm` is the URL it is told to load. With LORAHUB_ENGINE=mock both are the stand-in for design work.
 */
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { build, type Plugin } from 'vite';

const WORKER = 'virtual:engine-worker';
const WASM = 'virtual:engine-wasm';
const root = resolve(import.meta.dirname, '..');
const pkg = resolve(root, '../pkg');

export function engine(mock: boolean): Plugin {
  const entry = resolve(root, mock ? 'src/engine/mock/worker.ts' : 'src/engine/worker.ts');
  return {
    name: 'lorahub:engine',
    buildStart() {
      if (!mock && !existsSync(resolve(pkg, 'lorahub_web_bg.wasm'))) {
        this.error('pkg/ has no WebAssembly yet; run `cargo xtask build`, or set LORAHUB_ENGINE=mock to design without it');
      }
    },
    resolveId(id) {
      return id === WORKER || id === WASM ? `\0${id}` : undefined;
    },
    async load(id) {
      if (id === `\0${WASM}`) {
        return mock ? `export default '';` : `export { default } from ${JSON.stringify(`${pkg}/lorahub_web_bg.wasm?url`)};`;
      }
      if (id !== `\0${WORKER}`) return undefined;
      const { code, modules } = await bundle(entry);
      for (const file of modules) this.addWatchFile(file);
      return `export default ${JSON.stringify(code)};`;
    },
    // The text of a worker is not a module of its own, so a change to it reloads the page.
    handleHotUpdate({ file, server }) {
      if (file.startsWith(resolve(root, 'src/engine')) || file.startsWith(pkg)) server.hot.send({ type: 'full-reload' });
    },
  };
}

async function bundle(entry: string): Promise<{ code: string; modules: string[] }> {
  const modules: string[] = [];
  const result = await build({
    configFile: false,
    root,
    logLevel: 'warn',
    build: {
      write: false,
      target: 'es2022',
      rolldownOptions: { input: entry, output: { format: 'iife', codeSplitting: false } },
    },
    plugins: [
      {
        name: 'lorahub:worker',
        enforce: 'pre',
        transform(code, id) {
          modules.push(id);
          if (!id.endsWith('/lorahub_web.js')) return undefined;
          // The glue may name a default address beside itself; a Blob has no such place, and the page names it anyway.
          const own = code.replace(/new URL\('[^']*_bg\.wasm', import\.meta\.url\)/, 'undefined');
          if (own.includes('import.meta')) {
            this.error('the bindings ask for their own address in a new way; adapt build/engine.ts');
          }
          return { code: own, map: null };
        },
      },
    ],
  });
  const outputs = (Array.isArray(result) ? result : [result]).flatMap((r) => ('output' in r ? r.output : []));
  const [script, ...more] = outputs;
  if (script?.type !== 'chunk' || more.length > 0) throw new Error('the worker must be one script');
  return { code: script.code, modules };
}
