/**
 * A stock Firefox, driven over Marionette, its own remote protocol: JSON with its length in front, over TCP.
 *
 * Playwright can't drive one, and this needs neither a driver program nor a package.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** How an element is written in the protocol. */
const ELEMENT = 'element-6066-11e4-a52e-4f735466cecf';
const START_MS = 60_000;

/** No first-run pages, no traffic of its own, downloads without a question, and the page's errors on standard error. */
const preferences = (downloads) => ({
  'app.update.enabled': false,
  'browser.aboutwelcome.enabled': false,
  'browser.dom.window.dump.enabled': true,
  'browser.download.dir': downloads,
  'browser.download.folderList': 2,
  'browser.download.always_ask_before_handling_new_types': false,
  // Its panel would take the focus from the page.
  'browser.download.alwaysOpenPanel': false,
  'browser.safebrowsing.downloads.enabled': false,
  'browser.safebrowsing.malware.enabled': false,
  'browser.safebrowsing.phishing.enabled': false,
  'browser.shell.checkDefaultBrowser': false,
  'browser.startup.homepage_override.mstone': 'ignore',
  'browser.startup.page': 0,
  'datareporting.policy.dataSubmissionEnabled': false,
  'devtools.console.stdout.content': true,
  'marionette.port': 0,
  'network.captive-portal-service.enabled': false,
  'network.connectivity-service.enabled': false,
  'toolkit.telemetry.reportingpolicy.firstRun': false,
});

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Waits for what `look` returns to be anything but `undefined`. */
async function eventually(look, milliseconds, what) {
  const deadline = performance.now() + milliseconds;
  for (;;) {
    const found = await look();
    if (found !== undefined) return found;
    if (performance.now() > deadline) throw new Error(`${what} after ${milliseconds} ms`);
    await sleep(100);
  }
}

/** Starts Firefox without a window; `own` are preferences of the test's. */
export async function launchFirefox(own = {}) {
  const executable = process.env.LORAHUB_FIREFOX ?? ['/usr/bin/firefox', '/usr/bin/firefox-esr'].find(existsSync);
  assert.ok(executable, 'no Firefox was found; install firefox-esr, or set LORAHUB_FIREFOX');
  const profile = mkdtempSync(join(tmpdir(), 'lorahub-firefox-'));
  const downloads = mkdtempSync(join(tmpdir(), 'lorahub-downloads-'));
  const lines = Object.entries({ ...preferences(downloads), ...own }).map(([k, v]) => `user_pref(${JSON.stringify(k)}, ${JSON.stringify(v)});`);
  writeFileSync(join(profile, 'user.js'), lines.join('\n'));
  const child = spawn(executable, ['--headless', '--marionette', '--no-remote', '--profile', profile], { stdio: ['ignore', 'pipe', 'pipe'] });
  let said = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (data) => (said += data));
  const ended = new Promise((resolve) => child.once('exit', resolve));
  const close = async () => {
    child.kill();
    await ended;
    for (const folder of [profile, downloads]) rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
  };
  try {
    const portFile = join(profile, 'MarionetteActivePort');
    const written = () => (existsSync(portFile) && readFileSync(portFile, 'utf8')) || undefined;
    const port = Number(await eventually(written, START_MS, 'Firefox gave no port for its remote protocol'));
    const send = await marionette(port);
    await send('WebDriver:NewSession', { capabilities: {} });
    return { driver: driver(send), send, close, downloads, log: () => said };
  } catch (error) {
    await close();
    throw error;
  }
}

/** Connects; the result sends a command and resolves with its answer. */
async function marionette(port) {
  const socket = connect(port, '127.0.0.1');
  const waiting = new Map();
  let received = Buffer.alloc(0);
  let id = 0;
  let greeted;
  const greeting = new Promise((resolve, reject) => {
    greeted = resolve;
    socket.once('error', reject);
  });
  socket.on('close', () => {
    for (const { reject } of waiting.values()) reject(new Error('Firefox closed the connection'));
  });
  socket.on('data', (data) => {
    received = Buffer.concat([received, data]);
    for (;;) {
      const colon = received.indexOf(':');
      const length = Number(received.toString('latin1', 0, Math.max(0, colon)));
      if (colon < 0 || received.length < colon + 1 + length) return;
      const message = JSON.parse(received.toString('utf8', colon + 1, colon + 1 + length));
      received = received.subarray(colon + 1 + length);
      if (!Array.isArray(message)) {
        greeted();
        continue;
      }
      const [, of, error, result] = message;
      const { resolve, reject } = waiting.get(of);
      waiting.delete(of);
      if (error) reject(new Error(`${error.error}: ${error.message}`));
      else resolve(result);
    }
  });
  await greeting;
  return (command, parameters) =>
    new Promise((resolve, reject) => {
      waiting.set(++id, { resolve, reject });
      const text = JSON.stringify([0, id, command, parameters]);
      socket.write(`${Buffer.byteLength(text)}:${text}`);
    });
}

/** The driver that `journey.mjs` asks for; clicks and keys are the browser's own. */
function driver(send) {
  const evaluate = async (f, argument) => {
    const script = `return (${f})(arguments[0])`;
    const { value } = await send('WebDriver:ExecuteScript', { script, args: [argument ?? null], sandbox: null });
    return value;
  };
  const element = async (id) => {
    const found = await evaluate((id) => document.querySelector('lorahub-composer').shadowRoot.querySelector(`[data-testid="${id}"]`), id);
    assert.ok(found, `there is no ${id} on the page`);
    return found[ELEMENT];
  };
  return {
    evaluate,
    click: async (id) => {
      // A button that has just appeared takes no click for a moment; a browser's own driver would wait as well.
      const clicked = async () => {
        try {
          await send('WebDriver:ElementClick', { id: await element(id) });
          return true;
        } catch (error) {
          if (error.message.startsWith('element not interactable')) return undefined;
          throw error;
        }
      };
      await eventually(clicked, 5_000, `${id} took no click`);
    },
    fill: async (id, text) => {
      const field = await element(id);
      await send('WebDriver:ElementClear', { id: field });
      await send('WebDriver:ElementSendKeys', { id: field, text });
    },
    waitFor: async (f, argument, milliseconds) => {
      await eventually(async () => ((await evaluate(f, argument)) ? true : undefined), milliseconds, 'still waiting for the page');
    },
  };
}

/** Waits until the folder holds a finished download whose name ends so, and returns its bytes. */
export function downloadedFile(folder, ending) {
  const look = () => {
    const names = readdirSync(folder);
    const name = names.find((n) => n.endsWith(ending));
    return name && !names.some((n) => n.endsWith('.part')) ? readFileSync(join(folder, name)) : undefined;
  };
  return eventually(look, 30_000, `no download *${ending}`);
}
