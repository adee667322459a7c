/**
 * What files that were picked or dropped are: bases and modules, by the folders they lie in, and what is missing.
 *
 * Only names are looked at here, and the index of a base in several files; what is inside is checked when a model is
 * opened. Nothing is uploaded: the engine reads the files where they are.
 */
import type { ModuleFiles } from '../engine/protocol.ts';

/** A file with its path below what was picked; the path of a single file is its name. */
export interface LocalFile {
  path: string;
  file: Blob;
}

export interface LocalBase {
  folder: string;
  name: string;
  /** By the names that the engine asks for. */
  files: Record<string, Blob>;
  bytes: number;
  /** What is missing, in words; empty where it can be opened. */
  missing: string[];
}

export interface LocalModule {
  folder: string;
  name: string;
  bytes: number;
  /** Absent as long as something is missing. */
  files: ModuleFiles | undefined;
  missing: string[];
}

export interface Recognised {
  bases: LocalBase[];
  modules: LocalModule[];
  /** Paths of what is neither, and is not used. */
  others: string[];
}

const INDEX = 'model.safetensors.index.json';
const SHARD = /^model-\d+-of-\d+\.safetensors$/;
const GGUF = /\.gguf$/;
const BIN = 'pytorch_model.bin';
const BASE = ['config.json', 'tokenizer.json', 'model.safetensors', INDEX, BIN];
const ofBase = (name: string): boolean => BASE.includes(name) || SHARD.test(name) || GGUF.test(name);
const isWeights = (name: string): boolean => ofBase(name) && !name.endsWith('.json');
const MODULE = ['adapter_config.json', 'adapter_model.safetensors', 'adapter_model.bin'];
/** What commonly lies beside a base's or a module's files and is not needed. */
const BESIDE = /^(README\.md|\.git.*|.*tokenizer.*|special_tokens_map\.json|added_tokens\.json|spiece\.model|generation_config\.json|pytorch_model-.*|.*\.msgpack|tf_model\.h5|training_args\.bin|optimizer\.pt|LICENSE.*)$/i;

export async function recognise(given: LocalFile[]): Promise<Recognised> {
  const folders = new Map<string, Map<string, Blob>>();
  for (const { path, file } of given) {
    const at = path.lastIndexOf('/');
    const folder = path.slice(0, Math.max(at, 0));
    const files = folders.get(folder) ?? new Map<string, Blob>();
    folders.set(folder, files.set(path.slice(at + 1), file));
  }
  const found: Recognised = { bases: [], modules: [], others: [] };
  for (const [folder, files] of folders) {
    const isModule = MODULE.some((name) => files.has(name));
    const isBase = [...files.keys()].some(ofBase);
    if (isModule) found.modules.push(moduleOf(folder, files));
    // A module saved beside a tokenizer or a configuration is no base for that.
    const weights = [...files.keys()].some((name) => name === INDEX || isWeights(name));
    if (isBase && (!isModule || weights)) found.bases.push(await baseOf(folder, files));
    for (const name of files.keys()) {
      const used = (isModule && MODULE.includes(name)) || (isBase && ofBase(name));
      if (!used && !((isModule || isBase) && BESIDE.test(name))) found.others.push(folder === '' ? name : `${folder}/${name}`);
    }
  }
  unlike(found.modules);
  return found;
}

function lastOf(folder: string, otherwise: string): string {
  return folder.slice(folder.lastIndexOf('/') + 1) || otherwise;
}

function moduleOf(folder: string, files: Map<string, Blob>): LocalModule {
  const config = files.get('adapter_config.json');
  const weights = files.get('adapter_model.safetensors') ?? files.get('adapter_model.bin');
  const missing: string[] = [];
  if (!config) missing.push('adapter_config.json');
  if (!weights) missing.push('adapter_model.safetensors or adapter_model.bin');
  const name = lastOf(folder, 'module');
  return { folder, name, bytes: weights?.size ?? 0, files: config && weights ? { name, config, weights } : undefined, missing };
}

async function baseOf(folder: string, files: Map<string, Blob>): Promise<LocalBase> {
  const missing = ['config.json', 'tokenizer.json'].filter((name) => !files.has(name));
  const index = files.get(INDEX);
  if (index) missing.push(...(await shardsOf(index)).filter((name) => !files.has(name)));
  else if ([...files.keys()].some((name) => SHARD.test(name))) missing.push(INDEX);
  else if (![...files.keys()].some(isWeights)) missing.push('model.safetensors');
  const own = [...files].filter(([name]) => ofBase(name) || (index && name.endsWith('.safetensors')));
  const bytes = weightBytes(Object.fromEntries(own));
  return { folder, name: lastOf(folder, 'base'), files: Object.fromEntries(own), bytes, missing };
}

/** Bytes of a base's weights: of the form that is read where there are several. */
export function weightBytes(files: Record<string, Blob>): number {
  const sum = (form: (name: string) => boolean): number =>
    Object.entries(files).reduce((bytes, [name, file]) => bytes + (form(name) ? file.size : 0), 0);
  return sum((name) => name.endsWith('.safetensors')) || sum((name) => GGUF.test(name)) || sum((name) => name === BIN);
}

/** The files that an index names; the index itself, in words, where it cannot be read. */
async function shardsOf(index: Blob): Promise<string[]> {
  try {
    const { weight_map: map } = JSON.parse(await index.text()) as { weight_map: Record<string, string> };
    return [...new Set(Object.values(map))].map(String);
  } catch {
    return [`a readable ${INDEX}`];
  }
}

/** Modules need names of their own: of equal ones, the later get the folder above, else a number. */
function unlike(modules: LocalModule[]): void {
  const taken = new Set<string>();
  for (const module of modules) {
    let name = module.name;
    if (taken.has(name)) {
      const above = module.folder.split('/').slice(-2).join('-');
      name = above !== '' && !taken.has(above) ? above : name;
    }
    for (let n = 2; taken.has(name); n++) name = `${module.name}-${n}`;
    taken.add(name);
    module.name = name;
    if (module.files) module.files = { ...module.files, name };
  }
}

/** The files of a picker; one for folders gives paths. */
export function fromPicker(list: FileList): LocalFile[] {
  return [...list].map((file) => ({ path: file.webkitRelativePath || file.name, file }));
}

/** The files of a drop, with those inside of folders. To be called in the event itself: what is dropped is gone after it. */
export async function fromDrop(data: DataTransfer): Promise<LocalFile[]> {
  const entries = [...data.items].filter(({ kind }) => kind === 'file').map((item) => item.webkitGetAsEntry?.() ?? item.getAsFile());
  const found: LocalFile[] = [];
  const walk = async (entry: FileSystemEntry): Promise<void> => {
    if (entry.isFile) {
      const file = await new Promise<File>((resolve, reject) => (entry as FileSystemFileEntry).file(resolve, reject));
      found.push({ path: entry.fullPath.replace(/^\//, ''), file });
    } else if (found.length <= MOST_FILES) {
      const reader = (entry as FileSystemDirectoryEntry).createReader();
      // A reader gives a hundred at a time, and none when it is done.
      for (;;) {
        const batch = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject));
        if (batch.length === 0) break;
        for (const inner of batch) await walk(inner);
      }
    }
  };
  for (const entry of entries) {
    if (entry instanceof File) found.push({ path: entry.name, file: entry });
    else if (entry) await walk(entry);
  }
  return found;
}

/** Someone who drops a whole disk is not kept waiting. */
const MOST_FILES = 5000;
