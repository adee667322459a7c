import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { readFamily } from './family.ts';
import type { LoadProgress } from './protocol.ts';

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
const utf8 = (text: string): Uint8Array => new TextEncoder().encode(text);
const json = (value: unknown): Uint8Array => utf8(JSON.stringify(value));

const shot = { input: 'a', output: 'b' };
const FAMILY = {
  schema: 1,
  name: 'tiny',
  rule: 'exact',
  license: 'CC0-1.0',
  base: 'base',
  modules: [{ name: 'm', path: 'modules/m', title: 'M', description: 'does m', kind: 'words' }],
  tasks: ['tasks/t.json'],
};
const TASK = { id: 't', title: 'T', kind: 'k', summary: 's', shots: [shot], test: [shot], examples: ['a'] };

function site(changes: Record<string, Uint8Array | null> = {}, unlisted: string[] = []) {
  const files = new Map<string, Uint8Array>(
    Object.entries({
      'family.json': json(FAMILY),
      'README.md': utf8('# card'),
      'tasks/t.json': json(TASK),
      'base/config.json': utf8('{}'),
      'base/tokenizer.json': utf8('{}'),
      'base/model.safetensors': new Uint8Array(1000),
      'modules/m/adapter_config.json': utf8('{}'),
      'modules/m/adapter_model.safetensors': new Uint8Array(10),
    }),
  );
  for (const [path, bytes] of Object.entries(changes)) if (bytes) files.set(path, bytes);
  const sums = [...files].filter(([p]) => !unlisted.includes(p)).map(([p, bytes]) => `${sha256(bytes)}  ${p}`);
  files.set('SHA256SUMS', utf8(`${sums.join('\n')}\n`));
  for (const [path, bytes] of Object.entries(changes)) if (!bytes) files.delete(path);
  return files;
}

function read(files: Map<string, Uint8Array>, options: { signal?: AbortSignal; damage?: string; breakOff?: string } = {}) {
  const reports: LoadProgress[] = [];
  const fake = (address: string): Promise<Response> => {
    options.signal?.throwIfAborted();
    const path = address.slice('https://x/sub/models/'.length);
    const bytes = files.get(path);
    if (!bytes) return Promise.resolve(new Response('no', { status: 404 }));
    if (options.breakOff === path) {
      let pulls = 0;
      const stream = new ReadableStream(
        {
          pull(controller) {
            if (pulls++ > 0) controller.error(new TypeError('network'));
            else controller.enqueue(new Uint8Array(3));
          },
        },
        { highWaterMark: 0 },
      );
      return Promise.resolve(new Response(stream));
    }
    const sent = options.damage === path ? bytes.map((b) => b ^ 1) : bytes;
    return Promise.resolve(new Response(sent as BodyInit, { headers: { 'content-length': String(bytes.length) } }));
  };
  const family = readFamily({
    url: 'https://x/sub/models/',
    sha256,
    report: (r) => reports.push(r),
    signal: options.signal ?? new AbortController().signal,
    fetch: fake as typeof fetch,
  });
  return { family, reports };
}

describe('readFamily', () => {
  it('reads every file it names, and counts every byte', async () => {
    const files = site();
    const { family, reports } = read(files);
    const { modules, tasks, base, card } = await family;
    expect(modules[0]).toMatchObject({ name: 'm', title: 'M', kind: 'words' });
    expect(modules[0]?.weights).toHaveLength(10);
    expect(tasks).toEqual([{ ...TASK, rules: [] }]);
    expect(base.weights).toHaveLength(1000);
    expect(card).toBe('# card');
    const bytes = [...files.values()].reduce((n, f) => n + f.length, 0);
    expect(reports.at(-1)).toEqual({ stage: 'modules', loaded: bytes, total: bytes });
    expect([...new Set(reports.map((r) => r.stage))]).toEqual(['family', 'base', 'modules']);
  });

  it.each([
    ['a missing file', site({ 'base/config.json': null }), {}, 'download', '`base/config.json`: the server answered 404'],
    ['a file that is not listed', site({}, ['tasks/t.json']), {}, 'family', '`tasks/t.json` is not listed in SHA256SUMS'],
    ['a damaged file', site(), { damage: 'modules/m/adapter_model.safetensors' }, 'family_corrupt', '`modules/m/adapter_model.safetensors` has SHA-256'],
    ['a broken download', site(), { breakOff: 'base/tokenizer.json' }, 'download', '`base/tokenizer.json` broke off after 3 bytes'],
    ['what is not JSON', site({ 'family.json': utf8('{') }), {}, 'family', '`family.json` is not JSON'],
    ['what is not text', site({ 'family.json': new Uint8Array([0xff, 0xfe]) }), {}, 'family', '`family.json` is not UTF-8 text'],
    ['a list in place of an object', site({ 'family.json': json([]) }), {}, 'family', '`family.json`: its content is not an object'],
    ['a later schema', site({ 'family.json': json({ ...FAMILY, schema: 2 }) }), {}, 'family', 'has schema 2, expected 1'],
    ['an unknown rule', site({ 'family.json': json({ ...FAMILY, rule: 'sum' }) }), {}, 'family', '`rule` is `sum`'],
    ['a module without a path', site({ 'family.json': json({ ...FAMILY, modules: [{ name: 'm' }] }) }), {}, 'family', '`family.json, modules[0]`: `path` is not text'],
    ['a task without rows', site({ 'tasks/t.json': json({ ...TASK, test: 5 }) }), {}, 'family', '`tasks/t.json`: `test` is not a list'],
    ['a shot without an output', site({ 'tasks/t.json': json({ ...TASK, shots: [{ input: 'a' }] }) }), {}, 'family', '`tasks/t.json, shots[0]`: `output` is not text'],
  ])('names %s', async (_what, files, options, code, message) => {
    await expect(read(files, options).family).rejects.toMatchObject({ code, message: expect.stringContaining(message) });
  });

  it('ends when it is aborted', async () => {
    await expect(read(site(), { signal: AbortSignal.abort() }).family).rejects.toMatchObject({ code: 'aborted' });
  });
});
