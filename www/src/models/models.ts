/**
 * What the page knows of models besides the one that is open, and what a visitor can do with them, without any view:
 * choose and download from a hub, open files, see and delete what is kept.
 *
 * The library starts when its part of the page is first shown. Nothing asks a hub for anything but `download`.
 */
import { EngineError } from '../engine/error.ts';
import type { Library } from '../engine/library-client.ts';
import type { DownloadProgress, Kept, ListedModule, Manifest, Storage } from '../engine/library.ts';
import type { WeightFormat } from '../engine/protocol.ts';
import type { Remembered } from '../remembered.ts';
import type { Downloadable, ModelChoice } from '../state.ts';
import { baseSize, configOf, findModules, formatFor, planOf, type Plan, type Size } from './facts.ts';
import { recognise, type LocalFile, type Recognised } from './local.ts';

export const TABS = ['hub', 'files', 'stored'] as const;
export type Tab = (typeof TABS)[number];

/** A download under way. */
export interface Download {
  names: string[];
  /** Names that are there. */
  done: Set<string>;
  progress: DownloadProgress | undefined;
}

/** What a reading of all bytes of a kept base or module has come to. */
export type Verdict = 'running' | 'right' | 'wrong';

/** What is needed of the rest of the page. */
export interface Surroundings {
  library(onCrash: (error: EngineError) => void): Promise<Library>;
  use(model: ModelChoice): Promise<boolean>;
  /** Seconds that an evaluation of a model takes on the device in use; absent where it cannot be measured now. */
  secondsFor(config: string): Promise<number> | undefined;
  /** The model that is open. */
  model(): ModelChoice;
  fail(thrown: unknown): void;
  changed(): void;
}

export class Models {
  shown = false;
  tab: Tab = 'hub';
  library: Library | undefined;
  starting = false;
  storage: Storage | undefined;

  base: string | undefined;
  /** In the order in which they will stand. */
  modules: string[] = [];
  weights: WeightFormat = 'f32';
  search = '';
  /** Whether only those of the modules are listed that are chosen. */
  onlyChosen = false;
  /** Seconds that an evaluation of the chosen base would take here; absent until it is measured, and where it cannot be. */
  seconds: number | undefined;
  download: Download | undefined;
  /** What became of the last download, where it is not open and no card says it. */
  note: string | undefined;

  files: LocalFile[] = [];
  recognised: Recognised | undefined;
  /** For the base among them. */
  filesWeights: WeightFormat = 'f32';

  readonly verdicts = new Map<string, Verdict>();
  /** The question whether to delete everything is being asked. */
  asking = false;

  readonly #around: Surroundings;
  readonly #remembered: Remembered;
  #downloading: AbortController | undefined;

  constructor(around: Surroundings, remembered: Remembered) {
    this.#around = around;
    this.#remembered = remembered;
  }

  // ── the panel ──

  async show(tab: Tab = this.tab): Promise<void> {
    this.shown = true;
    this.tab = tab;
    this.asking = false;
    this.#around.changed();
    if (!this.library && !this.starting) await this.#start();
    else await this.refresh();
    // The device may be another one than at the last time.
    void this.#measure();
  }

  hide(): void {
    this.shown = false;
    this.asking = false;
    this.#around.changed();
  }

  close(): void {
    this.#downloading?.abort();
    this.library?.close();
    this.library = undefined;
  }

  async #start(): Promise<void> {
    this.starting = true;
    this.#around.changed();
    try {
      this.library = await this.#around.library((error) => {
        this.library = undefined;
        this.#around.fail(new EngineError('library_crashed', 'the worker that keeps the models stopped unexpectedly; open the list again', error));
      });
      const last = this.#remembered.download;
      const first = this.manifest?.bases[0]?.id;
      if (this.base === undefined) {
        this.choose(last?.base ?? first ?? '');
        if (last) this.#choose(last);
      }
      await this.refresh();
    } catch (thrown) {
      this.#around.fail(thrown);
    } finally {
      this.starting = false;
      this.#around.changed();
    }
  }

  /** Looks again at what is kept. */
  async refresh(): Promise<void> {
    try {
      this.storage = await this.library?.storage();
    } catch (thrown) {
      this.#around.fail(thrown);
    }
    this.#around.changed();
  }

  // ── from a hub ──

  get manifest(): Manifest | undefined {
    return this.library?.manifest;
  }

  get plan(): Plan | undefined {
    return this.manifest && this.base !== undefined ? planOf(this.manifest, this.storage?.kept ?? [], this.#chosen(this.base)) : undefined;
  }

  /** The modules of the chosen base that fit the search. */
  get found(): ListedModule[] {
    const found = this.manifest && this.base !== undefined ? findModules(this.manifest, this.base, this.search) : [];
    return this.onlyChosen ? found.filter(({ name }) => this.modules.includes(name)) : found;
  }

  keptOf(kind: Kept['kind'], name: string): Kept | undefined {
    return this.storage?.kept.find((kept) => kept.kind === kind && kept.name === name && kept.whole);
  }

  /** Whether this is what a download was broken off at. */
  get unfinished(): boolean {
    const last = this.#remembered.download;
    return last !== undefined && last.base === this.base && !this.download;
  }

  /** A download that was broken off at an earlier visit or in this one. */
  get waiting(): Downloadable | undefined {
    return this.download ? undefined : this.#remembered.download;
  }

  choose(base: string): void {
    if (this.base === base) return;
    this.base = base;
    this.modules = [];
    this.search = '';
    this.onlyChosen = false;
    this.note = undefined;
    const listed = this.manifest?.bases.find(({ id }) => id === base);
    this.weights = listed ? formatFor(baseSize(listed)) : 'f32';
    this.#around.changed();
    // At the start the panel measures by itself, once all is there.
    if (!this.starting) void this.#measure();
  }

  async #measure(): Promise<void> {
    this.seconds = undefined;
    const { base, shown } = this;
    const config = shown && base !== undefined ? configOf(base) : undefined;
    if (config === undefined) return;
    try {
      const seconds = await this.#around.secondsFor(config);
      if (this.base !== base) return;
      this.seconds = seconds;
    } catch {
      // It stays unknown; whatever is wrong shows when the model is opened.
    }
    this.#around.changed();
  }

  #choose({ modules, weights }: Downloadable): void {
    const known = new Set(this.manifest?.modules.filter((m) => m.base === this.base).map(({ name }) => name));
    this.modules = modules.filter((name) => known.has(name));
    this.weights = weights;
  }

  hold(weights: WeightFormat): void {
    this.weights = weights;
    this.#around.changed();
  }

  holdFiles(weights: WeightFormat): void {
    this.filesWeights = weights;
    this.#around.changed();
  }

  find(search: string): void {
    this.search = search;
    this.onlyChosen = false;
    this.#around.changed();
  }

  toggle(module: string): void {
    this.modules = this.modules.includes(module) ? this.modules.filter((name) => name !== module) : [...this.modules, module];
    this.#around.changed();
  }

  showOnly(chosen: boolean): void {
    this.onlyChosen = chosen;
    if (chosen) this.search = '';
    this.#around.changed();
  }

  /** Takes these modules and no others. */
  take(modules: string[]): void {
    this.modules = [...modules];
    if (modules.length === 0) this.onlyChosen = false;
    this.#around.changed();
  }

  #chosen(base: string): Downloadable {
    return { base, modules: this.modules, weights: this.weights };
  }

  /** Downloads what is missing of the choice, and opens it. This is the consent. */
  async fetchAndOpen(): Promise<void> {
    const { library, plan, base } = this;
    if (!library || !plan || base === undefined || this.download) return;
    const chosen = this.#chosen(base);
    if (plan.missing.length > 0 && !(await this.#fetch(library, chosen))) return;
    await this.#open({ kind: 'kept', ...chosen, extra: [] });
  }

  async #fetch(library: Library, chosen: Downloadable): Promise<boolean> {
    const names = [chosen.base, ...chosen.modules];
    const download: Download = { names, done: new Set(), progress: undefined };
    const downloading = new AbortController();
    this.#downloading = downloading;
    this.download = download;
    this.note = undefined;
    this.#remembered.downloading(chosen);
    this.#around.changed();
    try {
      await library.download(names, downloading.signal, (progress) => {
        // Files come in order, so what stands before this one's base or module is there.
        for (const name of names.slice(0, names.indexOf(progress.name))) download.done.add(name);
        download.progress = progress;
        this.#around.changed();
      });
      this.#remembered.downloading(undefined);
      return true;
    } catch (thrown) {
      const { code } = EngineError.wrap(thrown);
      if (downloading.signal.aborted) this.note = 'Cancelled. What has come is kept, and a download goes on from there.';
      else if (code !== 'closed' && code !== 'engine_crashed') this.#around.fail(thrown);
      return false;
    } finally {
      this.download = undefined;
      await this.refresh();
    }
  }

  cancel(): void {
    this.#downloading?.abort();
  }

  async #open(model: ModelChoice): Promise<void> {
    this.hide();
    if (await this.#around.use(model)) return;
    // A search that runs is not ended for this; after a failure there is a card.
    this.note = 'It was not opened. What was downloaded is kept.';
    this.#around.changed();
  }

  // ── files of the visitor's ──

  async add(files: LocalFile[]): Promise<void> {
    const byPath = new Map([...this.files, ...files].map((file) => [file.path, file]));
    await this.#recognise([...byPath.values()]);
  }

  /** Takes a recognised folder, or a file that is none, off the list. */
  async drop(gone: { folder: string } | { path: string }): Promise<void> {
    const folderOf = (path: string): string => path.slice(0, Math.max(path.lastIndexOf('/'), 0));
    await this.#recognise(this.files.filter(({ path }) => ('path' in gone ? path !== gone.path : folderOf(path) !== gone.folder)));
  }

  async #recognise(files: LocalFile[]): Promise<void> {
    this.files = files;
    const recognised = await recognise(files);
    if (this.files !== files) return;
    const before = this.recognised?.bases[0]?.folder;
    this.recognised = files.length > 0 ? recognised : undefined;
    const [base] = recognised.bases;
    if (base && base.folder !== before) this.filesWeights = formatFor(sizeOf(base));
    this.#around.changed();
  }

  /** Why what was dropped cannot be opened; empty where it can. */
  get obstacle(): string {
    const { bases = [], modules = [] } = this.recognised ?? {};
    if (bases.length > 1) return 'There are two bases; remove one.';
    if ([...bases, ...modules].some(({ missing }) => missing.length > 0)) return 'Something is missing; add it, or remove what it belongs to.';
    return bases.length + modules.length === 0 ? 'None of this is a base or a module.' : '';
  }

  /** Opens the base that was dropped with its modules; modules alone join the model that is open. */
  async openFiles(): Promise<void> {
    const { recognised } = this;
    if (!recognised || this.obstacle !== '') return;
    const added = recognised.modules.flatMap(({ files }) => files ?? []);
    const [base] = recognised.bases;
    const open = this.#around.model();
    const model: ModelChoice = base
      ? { kind: 'files', name: base.name, files: base.files, weights: this.filesWeights, extra: added }
      : { ...open, extra: [...open.extra.filter(({ name }) => !added.some((a) => a.name === name)), ...added] };
    this.hide();
    if (!(await this.#around.use(model))) return;
    await this.#recognise([]);
  }

  // ── what is kept ──

  /** Opens a base that is kept with its modules that are. */
  async openKept(base: string): Promise<void> {
    const modules = (this.storage?.kept ?? []).filter((kept) => kept.kind === 'module' && kept.base === base && kept.whole);
    const weights = this.base === base ? this.weights : formatFor(sizeOf(this.keptOf('base', base)));
    await this.#open({ kind: 'kept', base, modules: modules.map(({ name }) => name), weights, extra: [] });
  }

  /** Reads everything of a name again. */
  async verify(name: string): Promise<void> {
    this.verdicts.set(name, 'running');
    this.#around.changed();
    try {
      await this.library?.verify(name);
      this.verdicts.set(name, 'right');
    } catch (thrown) {
      this.verdicts.set(name, 'wrong');
      this.#around.fail(thrown);
    }
    this.#around.changed();
  }

  async remove(name: string): Promise<void> {
    await this.#change((library) => library.remove(name));
  }

  ask(asking: boolean): void {
    this.asking = asking;
    this.#around.changed();
  }

  /** Everything, finished or not. */
  async removeAll(): Promise<void> {
    this.asking = false;
    this.#remembered.downloading(undefined);
    await this.#change((library) => library.removeAll());
  }

  async #change(change: (library: Library) => Promise<void>): Promise<void> {
    if (!this.library || this.download) return;
    try {
      await change(this.library);
    } catch (thrown) {
      this.#around.fail(thrown);
    }
    this.verdicts.clear();
    await this.refresh();
  }
}

const sizeOf = (of: { bytes: number } | undefined): Size | undefined => of && { bytes: of.bytes, about: false };
