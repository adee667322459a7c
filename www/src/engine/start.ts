/**
 * Starts the compute worker from its own source text.
 *
 * A worker loaded from a URL ignores the page's Content Security Policy; one started from a Blob inherits it.
 * So the worker is one self-contained script inside the page's bundle, and what it may reach is what the page may reach.
 */
import source from 'virtual:engine-worker';

/** Trusted Types, where a browser has them: the one place that may name a script by URL. */
interface PolicyFactory {
  createPolicy(name: string, rules: { createScriptURL(url: string): string }): { createScriptURL(url: string): string };
}

const own = new Set<string>();
const policy = (globalThis as { trustedTypes?: PolicyFactory }).trustedTypes?.createPolicy('lorahub', {
  createScriptURL(url) {
    if (own.has(url)) return url;
    throw new TypeError(`${url} is not a script of this page`);
  },
});

/** Marks a script of ours as one, where the browser asks for it. */
export function trustedScript(url: string): string {
  own.add(url);
  return policy ? policy.createScriptURL(url) : url;
}

/** Starts a compute worker. */
export function startWorker(): Worker {
  const url = URL.createObjectURL(new Blob([source], { type: 'text/javascript' }));
  const worker = new Worker(trustedScript(url), { name: 'lorahub' });
  // Not earlier: some browsers read the Blob only after `new Worker` has returned.
  const release = (): void => {
    own.delete(url);
    URL.revokeObjectURL(url);
  };
  worker.addEventListener('message', release, { once: true });
  worker.addEventListener('error', release, { once: true });
  return worker;
}
