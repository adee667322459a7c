/** The worker, bundled into one classic script (vite.config.ts). */
declare module 'virtual:engine-worker' {
  const source: string;
  export default source;
}

/** Where the WebAssembly module lies. */
declare module 'virtual:engine-wasm' {
  const url: string;
  export default url;
}
