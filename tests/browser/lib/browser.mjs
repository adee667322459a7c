/** Starting Chromium, and opening pages that fail a test by what they log. */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';

const here = dirname(fileURLToPath(import.meta.url));
export const ROOT = join(here, '../../..');
/** The finished page; the variable is for trying the tests on another build. */
export const DIST = process.env.LORAHUB_DIST ?? join(ROOT, 'www/dist');
/** Screenshots and other evidence; not in git. */
export const OUT = join(here, '../out');

/** Where the tests put the page: a sub-path, as on a documentation host. */
export const BASE = '/docs/demo/';

/**
 * Features that would talk to their maker by themselves (autofill asks a server about every form), and those that
 * playwright switches off for its own reasons: Chromium heeds the last list only, so ours must hold both.
 */
const WITHOUT = [
  'AimEnabled',
  'AutofillServerCommunication',
  'AvoidUnnecessaryBeforeUnloadCheckSync',
  'DestroyProfileOnBrowserClose',
  'HttpsFirstBalancedModeAutoEnable',
  'HttpsUpgrades',
  'MediaRouter',
  'NetworkTimeServiceQuerying',
  'OptimizationHints',
  'PaintHolding',
  'PreconnectToSearch',
  'Translate',
];

/**
 * No sandbox, since CI runs as root. WebGPU on SwiftShader, so that its absence is never what a test sees. No traffic
 * of the browser's own, so that the recording server's record is the page's.
 */
const FLAGS = [
  '--no-sandbox',
  '--enable-unsafe-webgpu',
  '--use-webgpu-adapter=swiftshader',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  `--disable-features=${WITHOUT.join(',')}`,
];

function how(flags) {
  const named = process.env.LORAHUB_CHROMIUM;
  const executablePath = named ?? ['/usr/bin/chromium', '/usr/bin/google-chrome'].find(existsSync);
  return { ...(executablePath ? { executablePath } : {}), args: [...FLAGS, ...flags] };
}

/** @param {import('playwright-core').LaunchOptions & { flags?: string[] }} [options] `flags` come on top of ours */
export function launch({ flags = [], ...options } = {}) {
  return chromium.launch({ ...how(flags), ...options });
}

/** A browser that keeps its storage on disk, in this folder; the others keep it in memory, which has little room. */
export const launchOnDisk = (folder) => chromium.launchPersistentContext(folder, how([]));

/**
 * A fresh page whose console errors, exceptions and crashes are collected.
 *
 * @param {import('playwright-core').Browser} browser
 * @param {import('playwright-core').BrowserContextOptions} [options]
 */
export async function open(browser, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  const page = await context.newPage();
  /** @type {string[]} */
  const problems = [];
  page.on('console', (message) => {
    if (message.type() === 'error') problems.push(`console: ${message.text()} (${message.location().url})`);
  });
  page.on('pageerror', (error) => problems.push(`exception: ${error.stack ?? error.message}`));
  page.on('crash', () => problems.push('the page crashed'));
  return {
    context,
    page,
    /** Fails unless nothing was logged as an error and nothing was thrown. */
    expectQuiet: () => assert.deepEqual(problems, []),
    problems,
  };
}

/** Where a screenshot of this name goes. */
export function screenshot(name) {
  mkdirSync(OUT, { recursive: true });
  return join(OUT, `${name}.png`);
}

/** Waits until the service worker has stored the page and answers for it. */
export async function kept(page) {
  const answered = () => navigator.serviceWorker.controller?.state === 'activated';
  await page.waitForFunction(answered, undefined, { timeout: 60_000 });
}

/** Presses a button that downloads, and returns the file's bytes. */
export async function downloaded(page, id) {
  const [file] = await Promise.all([page.waitForEvent('download', { timeout: 30_000 }), page.getByTestId(id).click()]);
  return readFile(await file.path());
}
