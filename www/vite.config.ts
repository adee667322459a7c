import { defineConfig } from 'vite';
import { engine } from './build/engine.ts';
import { hubPolicy, openInDevelopment, site } from './build/site.ts';

export default defineConfig({
  // Relative, so that the site works from any sub-path.
  base: './',
  plugins: [engine(process.env['LORAHUB_ENGINE'] === 'mock'), openInDevelopment(), hubPolicy(), site()],
  server: { fs: { allow: ['.', '../pkg'] } },
  // light-dark() and oklch() go out as written: the browsers that have both are also those with WebAssembly SIMD to spare.
  build: { target: 'es2022', cssTarget: ['chrome123', 'firefox121', 'safari17.5'], assetsInlineLimit: 0, modulePreload: { polyfill: false }, rolldownOptions: { input: ['index.html', 'offline.html'] } },
});
