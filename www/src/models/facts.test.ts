import { describe, expect, it } from 'vitest';
import { MOCK_MANIFEST } from '../engine/mock/library.ts';
import type { Kept, ListedBase } from '../engine/library.ts';
import { baseSize, findModules, formatFor, memoryFor, planOf, setsOf, tagsOf, total } from './facts.ts';
import { hostsOf, PUBLIC_HUB } from './hub.ts';

const LARGE = 'google/flan-t5-large';
const kept = (kind: Kept['kind'], name: string, bytes: number, whole = true): Kept => ({
  kind,
  name,
  repository: name,
  commit: '0'.repeat(40),
  files: [],
  bytes,
  whole,
});
const base = MOCK_MANIFEST.bases.find(({ id }) => id === LARGE) as ListedBase;

describe('what is known before a download', () => {
  it('is exact from the manifest or from what is stored, about right for the public bases, and else unknown', () => {
    expect(baseSize(base)).toEqual({ bytes: 3.1e9, about: true });
    expect(baseSize({ ...base, files: [{ path: 'a', size: 1 }, { path: 'b', size: 2 }] })).toEqual({ bytes: 3, about: false });
    expect(baseSize(base, kept('base', LARGE, 7))).toEqual({ bytes: 7, about: false });
    expect(baseSize({ ...base, id: 'someone/else' })).toBeUndefined();
  });

  it('adds up, and does not guess', () => {
    expect(total([])).toEqual({ bytes: 0, about: false });
    expect(total([{ bytes: 1, about: false }, { bytes: 2, about: true }])).toEqual({ bytes: 3, about: true });
    expect(total([{ bytes: 1, about: false }, undefined])).toBeUndefined();
  });

  it('counts the memory of the base as it is held, and that of the modules as they are', () => {
    expect(memoryFor({ bytes: 400, about: false }, { bytes: 10, about: false }, 'f32')).toEqual({ bytes: 410, about: true });
    expect(memoryFor({ bytes: 400, about: false }, undefined, 'q8_0')).toEqual({ bytes: 106.25, about: true });
    expect(memoryFor(undefined, undefined, 'f32')).toBeUndefined();
    expect([formatFor({ bytes: 990e6, about: true }), formatFor({ bytes: 3.1e9, about: true }), formatFor(undefined)]).toEqual(['f32', 'q8_0', 'f32']);
  });
});

describe('planOf', () => {
  const choice = { base: LARGE, modules: ['glue_mrpc', 'shout', 'glue_cola'], weights: 'f32' as const };

  it('takes modules of the base alone, in the order chosen, and what is stored is not fetched', () => {
    const all = planOf(MOCK_MANIFEST, [], choice);
    expect(all?.missing).toEqual([LARGE, 'glue_mrpc', 'glue_cola']);
    expect(all?.download).toEqual({ bytes: 3.1e9 + 2 * 18_900_400, about: true });
    const some = planOf(MOCK_MANIFEST, [kept('base', LARGE, 3e9), kept('module', 'glue_cola', 19e6, false)], choice);
    expect(some?.missing).toEqual(['glue_mrpc', 'glue_cola']);
    expect(some?.download).toEqual({ bytes: 2 * 18_900_400, about: false });
  });

  it('has nothing to fetch where all is stored, and none for an unknown base', () => {
    const there = [kept('base', LARGE, 3e9), kept('module', 'glue_mrpc', 1), kept('module', 'glue_cola', 1)];
    expect(planOf(MOCK_MANIFEST, there, choice)).toMatchObject({ missing: [], download: { bytes: 0 } });
    expect(planOf(MOCK_MANIFEST, [], { ...choice, base: 'nobody/nothing' })).toBeUndefined();
  });
});

describe('the modules of a base', () => {
  const names = (search: string, of = LARGE): string[] => findModules(MOCK_MANIFEST, of, search).map(({ name }) => name);

  it('are found by words of their names and tags, in any order', () => {
    expect(names('')).toHaveLength(8);
    expect(names('COLA glue')).toEqual(['glue_cola']);
    expect(names('glue_')).toEqual(['glue_cola', 'glue_mrpc']);
    expect(names('letters', 'google/flan-t5-small')).toEqual(['shout']);
    expect(names('shout')).toEqual([]);
    expect(tagsOf(MOCK_MANIFEST, 'google/flan-t5-small')).toEqual(['letters']);
  });

  it('come in sets only where the base can take the whole set', () => {
    expect(setsOf(MOCK_MANIFEST, LARGE).map(({ name }) => name)).toEqual(['seed-42']);
    expect(setsOf(MOCK_MANIFEST, 'google/flan-t5-small')).toEqual([]);
  });
});

it('names the hosts of a download', () => {
  expect(hostsOf(PUBLIC_HUB)).toEqual({ first: 'huggingface.co', more: 'and hosts under hf.co, from which it sends large files' });
  expect(hostsOf('https://mirror.example:8443').first).toBe('mirror.example:8443');
});
