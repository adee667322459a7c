/** The mock's hub: a small manifest, and downloads that take as many steps as they have files. */
import { EngineError } from '../error.ts';
import type { Kept, LibraryCalls, ListedBase, ListedModule, Manifest } from '../library.ts';
import type { Host } from '../serve.ts';

/** What is kept, by name. */
export interface MockStore {
  kept: Map<string, Kept>;
  /** A name whose download fails, and with which code. */
  failing?: { name: string; code: string };
}

export const mockStore = (): MockStore => ({ kept: new Map() });

const file = (path: string, size?: number): { path: string; size?: number } => (size === undefined ? { path } : { path, size });
const base = (size: string): ListedBase => ({
  id: `google/flan-t5-${size}`,
  repository: `google/flan-t5-${size}`,
  files: ['config.json', 'tokenizer.json', 'model.safetensors'].map((path) => file(path)),
  licence: 'Apache-2.0',
});
const NAMES = ['glue_mrpc', 'glue_cola', 'anli_r1', 'imdb_reviews_plain_text', 'quarel_logic_test', 'wiki_qa_exercise', 'true_case', 'word_segment'];
const module = (name: string): ListedModule => ({
  name,
  base: 'google/flan-t5-large',
  repository: `lorahub/flan_t5_large-${name}`,
  files: [file('adapter_config.json', 400), file('adapter_model.bin', 18_900_000)],
  rule: 'reference',
  task: name,
});

export const MOCK_MANIFEST: Manifest = {
  bases: ['small', 'base', 'large'].map(base),
  modules: [...NAMES.map(module), { ...module('shout'), base: 'google/flan-t5-small', tags: ['letters'] }],
  sets: [{ name: 'seed-42', modules: NAMES.slice(0, 5), description: 'The 20 modules that the reference draws with seed 42.' }],
};

export function mockLibrary(store: MockStore, stepMs: number): Pick<Host, keyof LibraryCalls> {
  const listed = (name: string): { kind: Kept['kind']; entry: ListedBase | ListedModule } => {
    const found = MOCK_MANIFEST.bases.find((b) => b.id === name);
    const entry = found ?? MOCK_MANIFEST.modules.find((m) => m.name === name);
    if (!entry) throw new EngineError('hub_unlisted', `\`${name}\` is not in the manifest; choose one that it lists`);
    return { kind: found ? 'base' : 'module', entry };
  };
  const step = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, stepMs));
  return {
    async openLibrary({ place }) {
      return { address: place.address, manifest: MOCK_MANIFEST };
    },

    async storage() {
      return { kept: [...store.kept.values()], free: 10e9 };
    },

    async download({ names }, { report, signal }) {
      const files = names.reduce((n, name) => n + listed(name).entry.files.length, 0);
      let index = 0;
      for (const name of names) {
        const { kind, entry } = listed(name);
        for (const { path, size = 1_000_000 } of entry.files) {
          const at = { name, path, index: index++, files };
          if (store.kept.has(name)) {
            report({ ...at, state: 'kept', bytes: size });
            continue;
          }
          for (let part = 0; part < 4; part++) {
            if (signal.aborted) throw new EngineError('hub_cancelled', 'the download was cancelled; what has come is kept');
            report({ ...at, state: 'fetching', done: (size * part) / 4, total: size, per_second: 5e6, seconds_left: (size * (4 - part)) / 4 / 5e6 });
            await step();
          }
          if (store.failing?.name === name) throw new EngineError(store.failing.code, `\`${name}/${path}\` failed; try again`);
          report({ ...at, state: 'done', bytes: size, fetched: size });
        }
        const { repository, files: paths, licence } = entry;
        store.kept.set(name, {
          kind,
          name,
          repository,
          commit: '0'.repeat(40),
          ...('base' in entry ? { base: entry.base, rule: 'reference' as const } : {}),
          ...(licence === undefined ? {} : { licence }),
          files: paths.map(({ path, size = 1_000_000 }) => ({ path, size, sha256: '0'.repeat(64) })),
          bytes: paths.reduce((sum, { size = 1_000_000 }) => sum + size, 0),
          whole: true,
        });
      }
      return null;
    },

    async verify({ name }) {
      const kept = store.kept.get(name);
      if (!kept) throw new EngineError('hub_not_downloaded', `\`${name}\` has not been downloaded; download it first`);
      return kept.bytes;
    },

    async remove({ name }) {
      store.kept.delete(name);
      return null;
    },

    async removeAll() {
      store.kept.clear();
      return null;
    },
  };
}
