/**
 * Reading a family: `family.json`, then every file it names, each checked against `SHA256SUMS` before it is used.
 * The bytes count as progress. What is malformed is one error that names the file.
 */
import { EngineError } from './error.ts';
import type { LoadProgress, ModuleInfo, Rule, Shot, TaskInfo } from './protocol.ts';

/** `family.json`, schema 1. */
interface FamilyFile {
  name: string;
  rule: Rule;
  license: string;
  base: string;
  modules: { name: string; path: string; title: string; description: string; kind: string }[];
  tasks: string[];
}

export interface FamilyFiles {
  name: string;
  rule: Rule;
  license: string;
  card: string;
  base: { id: string; config: Uint8Array; tokenizer: Uint8Array; weights: Uint8Array };
  modules: (Omit<ModuleInfo, 'sha256'> & { config: Uint8Array; weights: Uint8Array })[];
  tasks: TaskInfo[];
}

export interface ReadOptions {
  /** With a slash at the end. */
  url: string;
  sha256: (bytes: Uint8Array) => string;
  report: (progress: LoadProgress) => void;
  signal: AbortSignal;
  /** Called with the base's `config.json` before anything large is fetched. */
  onConfig?: (config: Uint8Array) => void;
  fetch?: typeof fetch;
}

export async function readFamily(options: ReadOptions): Promise<FamilyFiles> {
  const files = new Files(options);
  const list = await files.get('SHA256SUMS', 'family');
  const sums = readSums(decode(list, 'SHA256SUMS'));
  const checked = async (path: string, stage: LoadProgress['stage']): Promise<Uint8Array> => {
    const expected = sums.get(path);
    if (expected === undefined) {
      throw new EngineError('family', `\`${path}\` is not listed in SHA256SUMS; the family is incomplete, publish it again`);
    }
    const bytes = await files.get(path, stage);
    const found = options.sha256(bytes);
    if (found !== expected) {
      throw new EngineError(
        'family_corrupt',
        `\`${path}\` has SHA-256 ${found.slice(0, 12)}…, expected ${expected.slice(0, 12)}…; reload the page to fetch it again`,
      );
    }
    return bytes;
  };

  const family = familyFile(await checked('family.json', 'family'));
  const config = await checked(`${family.base}/config.json`, 'base');
  options.onConfig?.(config);
  const tasks: TaskInfo[] = [];
  for (const path of family.tasks) tasks.push(taskFile(await checked(path, 'family'), path));
  const card = decode(await checked('README.md', 'family'), 'README.md');
  const base = {
    id: `${family.name}/${family.base}`,
    config,
    tokenizer: await checked(`${family.base}/tokenizer.json`, 'base'),
    weights: await checked(`${family.base}/model.safetensors`, 'base'),
  };
  // A few at a time: many small files, each a round trip.
  const modules: FamilyFiles['modules'] = [];
  const queue = [...family.modules.entries()];
  const worker = async (): Promise<void> => {
    for (let next = queue.shift(); next; next = queue.shift()) {
      const [index, { path, ...about }] = next;
      modules[index] = {
        ...about,
        config: await checked(`${path}/adapter_config.json`, 'modules'),
        weights: await checked(`${path}/adapter_model.safetensors`, 'modules'),
      };
    }
  };
  await Promise.all(Array.from({ length: 6 }, worker));
  return { name: family.name, rule: family.rule, license: family.license, card, base, modules, tasks };
}

/** Fetches with progress over everything fetched so far. */
class Files {
  readonly #options: ReadOptions;
  #loaded = 0;
  #total = 0;

  constructor(options: ReadOptions) {
    this.#options = options;
  }

  async get(path: string, stage: LoadProgress['stage']): Promise<Uint8Array> {
    const { url, signal, report } = this.#options;
    const address = new URL(path, url).href;
    let response: Response;
    try {
      response = await (this.#options.fetch ?? fetch)(address, { signal });
    } catch (thrown) {
      if (signal.aborted) throw new EngineError('aborted', 'loading was cancelled');
      throw new EngineError('download', `\`${path}\` could not be fetched; check the connection and try again`, thrown);
    }
    if (!response.ok) {
      throw new EngineError('download', `\`${path}\`: the server answered ${response.status}; check that the whole site was published`);
    }
    // A hint only: with compression the header counts other bytes than arrive.
    const announced = Number(response.headers.get('content-length') ?? 0);
    this.#total += announced;
    const chunks: Uint8Array[] = [];
    let length = 0;
    try {
      const reader = response.body?.getReader();
      for (let part = await reader?.read(); part && !part.done; part = await reader?.read()) {
        chunks.push(part.value);
        length += part.value.length;
        this.#loaded += part.value.length;
        report({ stage, loaded: this.#loaded, total: Math.max(this.#total, this.#loaded) });
      }
    } catch (thrown) {
      if (signal.aborted) throw new EngineError('aborted', 'loading was cancelled');
      throw new EngineError('download', `\`${path}\` broke off after ${length} bytes; check the connection and try again`, thrown);
    }
    this.#total += length - announced;
    const bytes = new Uint8Array(length);
    let at = 0;
    for (const chunk of chunks) {
      bytes.set(chunk, at);
      at += chunk.length;
    }
    return bytes;
  }
}

function readSums(text: string): Map<string, string> {
  const sums = new Map<string, string>();
  for (const line of text.split('\n')) {
    const found = /^([0-9a-f]{64})\s+\*?(?:\.\/)?(.+)$/.exec(line.trim());
    if (found?.[1] && found[2]) sums.set(found[2], found[1]);
  }
  return sums;
}

function decode(bytes: Uint8Array, path: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new EngineError('family', `\`${path}\` is not UTF-8 text; publish the family again`, cause);
  }
}

function parse(bytes: Uint8Array, path: string): unknown {
  try {
    return JSON.parse(decode(bytes, path));
  } catch (cause) {
    if (cause instanceof EngineError) throw cause;
    throw new EngineError('family', `\`${path}\` is not JSON; publish the family again`, cause);
  }
}

/** Reads the fields of one object, with errors that name file and field. */
class Reader {
  readonly #path: string;
  readonly #object: Record<string, unknown>;

  constructor(path: string, value: unknown) {
    this.#path = path;
    if (typeof value !== 'object' || value === null || Array.isArray(value)) throw this.#wrong('its content', 'an object');
    this.#object = value as Record<string, unknown>;
  }

  #wrong(what: string, expected: string): EngineError {
    return new EngineError('family', `\`${this.#path}\`: ${what} is not ${expected}; publish the family again`);
  }

  text(field: string): string {
    const value = this.#object[field];
    if (typeof value !== 'string') throw this.#wrong(`\`${field}\``, 'text');
    return value;
  }

  number(field: string): number {
    const value = this.#object[field];
    if (typeof value !== 'number') throw this.#wrong(`\`${field}\``, 'a number');
    return value;
  }

  list<T>(field: string, item: (value: unknown, path: string) => T): T[] {
    const value = this.#object[field];
    if (!Array.isArray(value)) throw this.#wrong(`\`${field}\``, 'a list');
    return value.map((v, i) => item(v, `${this.#path}, ${field}[${i}]`));
  }

  has(field: string): boolean {
    return field in this.#object;
  }
}

const asText = (value: unknown, path: string): string => {
  if (typeof value !== 'string') throw new EngineError('family', `\`${path}\` is not text; publish the family again`);
  return value;
};
const asShot = (value: unknown, path: string): Shot => {
  const shot = new Reader(path, value);
  return { input: shot.text('input'), output: shot.text('output') };
};

function familyFile(bytes: Uint8Array): FamilyFile {
  const path = 'family.json';
  const file = new Reader(path, parse(bytes, path));
  const schema = file.number('schema');
  if (schema !== 1) {
    throw new EngineError('family', `\`${path}\` has schema ${schema}, expected 1; use the page that came with the family`);
  }
  const rule = file.text('rule');
  if (rule !== 'exact' && rule !== 'reference') {
    throw new EngineError('family', `\`${path}\`: \`rule\` is \`${rule}\`, expected exact or reference; publish the family again`);
  }
  const modules = file.list('modules', (value, where) => {
    const module = new Reader(where, value);
    return {
      name: module.text('name'),
      path: module.text('path'),
      title: module.text('title'),
      description: module.text('description'),
      kind: module.text('kind'),
    };
  });
  return {
    name: file.text('name'),
    rule,
    license: file.text('license'),
    base: file.text('base'),
    modules,
    tasks: file.list('tasks', asText),
  };
}

function taskFile(bytes: Uint8Array, path: string): TaskInfo {
  const file = new Reader(path, parse(bytes, path));
  return {
    id: file.text('id'),
    title: file.text('title'),
    kind: file.text('kind'),
    summary: file.text('summary'),
    rules: file.has('rules') ? file.list('rules', asText) : [],
    shots: file.list('shots', asShot),
    test: file.list('test', asShot),
    examples: file.has('examples') ? file.list('examples', asText) : [],
  };
}
