/** Getting at the page's compute worker, which starts from a Blob, from inside: to make it fail as a test needs. */

/** The channel on which a test speaks to the code it put into the worker. */
const CHANNEL = 'test';

/**
 * Puts a script before the worker's own, in every worker that the page starts. `order(name)` then calls what the script
 * gave `globalThis.orders` under that name.
 *
 * @param {import('playwright-core').Page} page not yet navigated
 * @param {string} script
 */
export async function insideWorker(page, script) {
  const prelude = `globalThis.orders = {};
    new BroadcastChannel('${CHANNEL}').onmessage = ({ data }) => globalThis.orders[data]?.();
    ${script};\n`;
  await page.addInitScript((prelude) => {
    globalThis.Blob = class extends Blob {
      constructor(parts, options) {
        super(options?.type === 'text/javascript' ? [prelude, ...parts] : parts, options);
      }
    };
  }, prelude);
  const channel = ([name, order]) => new BroadcastChannel(name).postMessage(order);
  return { order: (order) => page.evaluate(channel, [CHANNEL, order]) };
}
