/**
 * Vite plugins for the finished site: the demo family beside the page, the service worker with the list of files it
 * keeps, and the Content Security Policy: the hub's hosts in a built page, and none of it in development (Vite's own client
 * would not pass it).
 */
import { createHash } from 'node:crypto';
import { cpSync, existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join, relative, resolve, sep } from 'node:path';
import type { Plugin } from 'vite';

export function openInDevelopment(): Plugin {
  return {
    name: 'lorahub:open-in-development',
    apply: 'serve',
    transformIndexHtml: (html) => html.replace(/<meta\s+http-equiv="Content-Security-Policy"[^>]*>/, ''),
  };
}

/** The public hub, and where it sends a browser for large files. */
const PUBLIC_HUB = 'https://huggingface.co';
const PUBLIC_CDN = 'https://*.hf.co';

/** Lets the page's policy allow the hub that it is built for (`VITE_LORAHUB_HUB`), and nothing else beside its own host. */
export function hubPolicy(): Plugin {
  let hub = PUBLIC_HUB;
  return {
    name: 'lorahub:hub-policy',
    apply: 'build',
    configResolved(config) {
      const named: unknown = config.env['VITE_LORAHUB_HUB'];
      if (typeof named === 'string' && named !== '') hub = new URL(named).origin;
    },
    transformIndexHtml(html, { filename }) {
      if (!filename.endsWith('index.html')) return html;
      const own = "connect-src 'self';";
      if (html.split(own).length !== 2) throw new Error(`index.html must say ${own} once`);
      return html.replace(own, `connect-src 'self' ${hub}${hub === PUBLIC_HUB ? ` ${PUBLIC_CDN}` : ''};`);
    },
  };
}

export function site(): Plugin {
  let root = '';
  let dist = '';
  return {
    name: 'lorahub:site',
    apply: 'build',
    configResolved(config) {
      root = config.root;
      dist = resolve(config.root, config.build.outDir);
    },
    closeBundle() {
      const models = join(root, 'models');
      if (existsSync(models)) cpSync(models, join(dist, 'models'), { recursive: true });
      const files = walk(dist)
        .map((file) => relative(dist, file).split(sep).join('/'))
        .filter((file) => file !== 'sw.js')
        .sort();
      const hash = createHash('sha256');
      for (const file of files) hash.update(file).update('\0').update(readFileSync(join(dist, file)));
      const source = readFileSync(join(root, 'src/sw.js'), 'utf8');
      const fill = { __VERSION__: hash.digest('hex').slice(0, 16), __FILES__: ['./', ...files] };
      let text = source;
      for (const [name, value] of Object.entries(fill)) {
        if (text.split(name).length !== 2) throw new Error(`src/sw.js must name ${name} once`);
        text = text.replace(name, () => JSON.stringify(value));
      }
      writeFileSync(join(dist, 'sw.js'), text);
    },
  };
}

function walk(folder: string): string[] {
  return readdirSync(folder).flatMap((name) => {
    const path = join(folder, name);
    return statSync(path).isDirectory() ? walk(path) : [path];
  });
}
