/** The finished page on a static host, and a Chromium to visit it: what most files of tests start with. */
import { after, before } from 'node:test';
import { BASE, DIST, launch, open } from './browser.mjs';
import { serve } from './server.mjs';

/**
 * Serves the page and starts the browser for the tests of the file that calls this.
 *
 * @param {Record<string, string>} [headers] on every file
 */
export function finishedPage(headers) {
  const its = {
    /** The page's address. */
    address: '',
    /** @type {import('playwright-core').Browser} */
    browser: undefined,
    /** A fresh page, not yet anywhere. @param {import('playwright-core').BrowserContextOptions} [options] */
    open: (options) => open(its.browser, options),
  };
  let server;
  before(async () => {
    server = await serve({ [BASE]: DIST }, { headers });
    its.address = server.origin + BASE;
    its.browser = await launch();
  });
  after(async () => {
    await its.browser?.close();
    await server?.close();
  });
  return its;
}
