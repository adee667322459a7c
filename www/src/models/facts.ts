/** What is known of a model before it is downloaded: size, memory, and from whom it would come. */
import type { Kept, ListedBase, ListedModule, Manifest } from '../engine/library.ts';
import type { WeightFormat } from '../engine/protocol.ts';

/** Bytes, and whether they are only about right. */
export interface Size {
  bytes: number;
  about: boolean;
}

/** Of a number in a matrix, with the scales of its block. */
export const BYTES_PER_WEIGHT: Record<WeightFormat, number> = { f32: 4, f16: 2, q8_0: 34 / 32, 'q8_0-integer': 34 / 32, q4_0: 18 / 32 };

export const FORMATS: Record<WeightFormat, string> = {
  f32: 'as they are (f32)',
  f16: 'rounded to f16: half',
  q8_0: 'in 8 bits (q8_0): a quarter',
  'q8_0-integer': 'in 8 bits, multiplied in integers on the CPU: a quarter, and faster',
  q4_0: 'in 4 bits (q4_0): a seventh, and coarser',
};

/** For the public bases, whose manifest gives no sizes: their published weights, in f32. */
const KNOWN_BASES: Record<string, number> = {
  'google/flan-t5-small': 308e6,
  'google/flan-t5-base': 990e6,
  'google/flan-t5-large': 3.1e9,
};
/** Their widths, as their published `config.json` has them: enough to measure how long they would take. */
const KNOWN_SHAPES: Record<string, { d_model: number; d_ff: number; num_heads: number; num_layers: number }> = {
  'google/flan-t5-small': { d_model: 512, d_ff: 1024, num_heads: 6, num_layers: 8 },
  'google/flan-t5-base': { d_model: 768, d_ff: 2048, num_heads: 12, num_layers: 12 },
  'google/flan-t5-large': { d_model: 1024, d_ff: 2816, num_heads: 16, num_layers: 24 },
};

/** A `config.json` of a public base that has not been downloaded. */
export function configOf(base: string): string | undefined {
  const shape = KNOWN_SHAPES[base];
  const common = { model_type: 't5', vocab_size: 32128, d_kv: 64, feed_forward_proj: 'gated-gelu', tie_word_embeddings: false, decoder_start_token_id: 0 };
  return shape && JSON.stringify({ ...common, ...shape });
}

/** The public modules: rank 16 on the queries and values of all 72 attentions, in f32. */
const KNOWN_MODULES: Record<string, number> = { 'google/flan-t5-large': 72 * 2 * 2 * 16 * 1024 * 4 };

function listedSize({ files }: { files: { size?: number }[] }): number | undefined {
  return files.reduce<number | undefined>((sum, { size }) => (sum === undefined || size === undefined ? undefined : sum + size), 0);
}

function sizeOf(listed: ListedBase | ListedModule, kept: Kept | undefined, known: number | undefined): Size | undefined {
  const exact = kept?.bytes ?? listedSize(listed);
  if (exact !== undefined) return { bytes: exact, about: false };
  return known === undefined ? undefined : { bytes: known, about: true };
}

export const baseSize = (base: ListedBase, kept?: Kept): Size | undefined => sizeOf(base, kept, KNOWN_BASES[base.id]);
export const moduleSize = (module: ListedModule, kept?: Kept): Size | undefined => sizeOf(module, kept, KNOWN_MODULES[module.base]);

/** The sum; unknown as soon as one is. */
export function total(sizes: (Size | undefined)[]): Size | undefined {
  return sizes.reduce<Size | undefined>(
    (sum, size) => sum && size && { bytes: sum.bytes + size.bytes, about: sum.about || size.about },
    { bytes: 0, about: false },
  );
}

/** Memory for a base whose file has this size in f32, and for modules, which are held in f32. */
export function memoryFor(base: Size | undefined, modules: Size | undefined, format: WeightFormat): Size | undefined {
  return base && { bytes: base.bytes * (BYTES_PER_WEIGHT[format] / 4) + (modules?.bytes ?? 0), about: true };
}

/** What a WebAssembly memory can grow to; a tab often gets less. */
export const MOST_MEMORY = 4 * 2 ** 30;

/** The format that a base of this size is first offered in: as it is, unless that is most of what there can be. */
export const formatFor = (base: Size | undefined): WeightFormat => (base && base.bytes > MOST_MEMORY / 2 ? 'q8_0' : 'f32');

/** What a choice means: names to fetch and names that are there. */
export interface Plan {
  base: ListedBase;
  modules: ListedModule[];
  /** In the order in which they are downloaded. */
  missing: string[];
  /** Of what is missing. */
  download: Size | undefined;
  memory: Size | undefined;
}

export function planOf(manifest: Manifest, kept: Kept[], choice: { base: string; modules: string[]; weights: WeightFormat }): Plan | undefined {
  const base = manifest.bases.find(({ id }) => id === choice.base);
  if (!base) return undefined;
  const of = (kind: Kept['kind'], name: string): Kept | undefined => kept.find((k) => k.kind === kind && k.name === name && k.whole);
  const modules = choice.modules.flatMap((name) => manifest.modules.find((m) => m.name === name && m.base === base.id) ?? []);
  const keptBase = of('base', base.id);
  const missing = modules.filter(({ name }) => !of('module', name));
  const fetched = [...(keptBase ? [] : [baseSize(base)]), ...missing.map((m) => moduleSize(m))];
  return {
    base,
    modules,
    missing: [...(keptBase ? [] : [base.id]), ...missing.map(({ name }) => name)],
    download: total(fetched),
    memory: memoryFor(baseSize(base, keptBase), total(modules.map((m) => moduleSize(m, of('module', m.name)))), choice.weights),
  };
}

/** The modules of a base that fit a search, by name: every word of it is somewhere in the name, the task, the tags or the description. */
export function findModules(manifest: Manifest, base: string, search: string): ListedModule[] {
  const words = search.toLowerCase().split(/[\s_]+/).filter((word) => word !== '');
  const fits = (module: ListedModule): boolean => {
    if (module.base !== base) return false;
    const text = [module.name, module.task, ...(module.tags ?? []), module.description].join(' ').replaceAll('_', ' ').toLowerCase();
    return words.every((word) => text.includes(word));
  };
  return manifest.modules.filter(fits).sort((a, b) => a.name.localeCompare(b.name));
}

/** The tags of a base's modules, the most common first. */
export function tagsOf(manifest: Manifest, base: string): string[] {
  const counts = new Map<string, number>();
  for (const module of manifest.modules) {
    if (module.base === base) for (const tag of module.tags ?? []) counts.set(tag, (counts.get(tag) ?? 0) + 1);
  }
  return [...counts].sort((a, b) => b[1] - a[1] || a[0].localeCompare(b[0])).map(([tag]) => tag);
}

/** The manifest's sets that a base can take as a whole. */
export function setsOf(manifest: Manifest, base: string): NonNullable<Manifest['sets']> {
  const names = new Set(manifest.modules.filter((m) => m.base === base).map(({ name }) => name));
  return (manifest.sets ?? []).filter(({ modules }) => modules.length > 0 && modules.every((name) => names.has(name)));
}
