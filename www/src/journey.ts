/**
 * What the page knows and what a visitor can do, without any view: the views read it and call it.
 *
 * One task at a time: pick, edit, adapt, check on held-out rows, ask, take away. Every failure becomes a `Problem`
 * and leaves everything else as it was.
 */
import { bare, Drafts } from './drafts.ts';
import type { Engine, OpenOptions } from './engine/client.ts';
import { EngineError } from './engine/error.ts';
import type { Pausable } from './engine/line.ts';
import type {
  Adapted,
  AdaptSettings,
  DeviceChoice,
  DeviceReport,
  Estimate,
  FamilyInfo,
  LoadProgress,
  Shot,
} from './engine/protocol.ts';
import { Estimates } from './estimates.ts';
import { splitRemedy } from './format.ts';
import { Question } from './question.ts';
import { Remembered } from './remembered.ts';
import { parseRows, withoutShots } from './rows.ts';
import { BUDGETS, DEMO, OWN, OWN_TASK, baseOf, candidatesOf, nameOf, tooMuch } from './state.ts';
import type { Attempt, Check, Draft, ModelChoice, Problem, Run } from './state.ts';
import { faultIn } from './validate.ts';

/** How long a cancelled worker has to hand over what it has before another takes its place. */
const PATIENCE_MS = 1000;

type Opener = (model: ModelChoice, options: Pick<OpenOptions, 'wish' | 'onProgress' | 'onCrash' | 'onMoved'>, signal: AbortSignal) => Promise<Engine>;

export class Journey {
  engine: Engine | undefined;
  /** The model that is open or on its way. */
  model: ModelChoice = DEMO;
  /** What became of another model than the one that is open. */
  modelNote: string | undefined;
  /** Known from a model's first start on, whatever becomes of the engine. */
  family: FamilyInfo | undefined;
  loading: LoadProgress | undefined;
  draft: Draft | undefined;
  settings: AdaptSettings = { budget: BUDGETS.usual, seed: 0, objective: 'normalised' };
  run: Run | undefined;
  check: Check | undefined;
  problems: Problem[] = [];
  /** The device that the model is on its way to. */
  moving: DeviceChoice | undefined;
  /** That the device has changed by itself, and why. */
  deviceNote: string | undefined;

  readonly #open: Opener;
  readonly #changed: () => void;
  readonly #remembered: Remembered;
  readonly #drafts = new Drafts();
  readonly #estimates: Estimates;
  readonly #question: Question;
  #nextProblem = 1;
  #uses = 0;
  #opening: AbortController | undefined;
  #started: Promise<void> = Promise.resolve();
  #running: AbortController | undefined;
  /** The last search with all that follows from it. */
  #settled: Promise<void> = Promise.resolve();
  #overdue: ReturnType<typeof setTimeout> | undefined;
  #pausable: Pausable | undefined;
  #checking: AbortController | undefined;

  /** `changed` is called after every change of what the views read. */
  constructor(open: Opener, changed: () => void, remembered = new Remembered()) {
    this.#open = open;
    this.#changed = changed;
    this.#remembered = remembered;
    this.#question = new Question(changed, (thrown) => this.#fail(thrown));
    this.#estimates = new Estimates(
      () => ({ shots: this.#shots(), settings: this.settings, measure: this.engine?.estimate.bind(this.engine) }),
      () => this.busy,
      changed,
    );
  }

  /** The first start of a visit: the model that was open at the last one, if it is still there. */
  async begin(): Promise<void> {
    const { last } = this.#remembered;
    if (!last) return this.start();
    const { unfinished, ...model } = last;
    if (unfinished) {
      // It may have been too large for this device: not again by itself.
      this.modelNote = `${model.base} did not finish opening the last time, so the demo is open. It is still under Another model.`;
      this.#remembered.open(undefined);
      return this.start();
    }
    this.#remembered.open({ ...last, unfinished: true });
    await this.use({ kind: 'kept', ...model, extra: [] });
  }

  /** Starts the worker and loads the model; again after a crash. */
  async start(): Promise<void> {
    const thrown = await this.#startNow();
    if (thrown !== undefined) this.#fail(thrown, 'restart');
  }

  /** Opens another model, or this one with more modules; where that fails, the one before is opened again. */
  async use(model: ModelChoice): Promise<boolean> {
    if (this.busy || this.moving) return false;
    const use = ++this.#uses;
    const before = this.model;
    const openBefore = this.family !== undefined;
    this.#leave(model);
    this.modelNote = undefined;
    let thrown = await this.#startNow();
    if (use !== this.#uses) return false;
    if (thrown === undefined) return true;
    const { code } = EngineError.wrap(thrown);
    const gone = code === 'hub_not_downloaded' || code === 'hub_not_kept';
    if (model.kind === 'demo') {
      this.#fail(thrown, 'restart');
      return false;
    }
    if (gone && !openBefore) this.modelNote = `${nameOf(model)} is no longer stored in this browser, so the demo is open.`;
    else this.#fail(code === 'engine_crashed' ? tooMuch(model, thrown) : thrown);
    this.#remembered.open(undefined);
    this.#leave(openBefore ? before : DEMO);
    thrown = await this.#startNow();
    if (thrown !== undefined && use === this.#uses) this.#fail(thrown, 'restart');
    return false;
  }

  /** Drops what belongs to the model that is open. What was written for it stays, if the base does. */
  #leave(next: ModelChoice): void {
    this.#checking?.abort();
    this.#question.stop();
    this.engine?.close();
    this.engine = undefined;
    this.family = undefined;
    this.run = undefined;
    this.check = undefined;
    this.#question.forget();
    this.deviceNote = undefined;
    this.#estimates.forget();
    if (baseOf(next) !== baseOf(this.model)) {
      this.draft = undefined;
      this.#drafts.forBase(next.kind === 'demo' ? 2 : 1);
      const { rule: _, ...settings } = this.settings;
      this.settings = settings;
    }
    this.model = next;
  }

  #startNow(): Promise<unknown> {
    const starting = this.#start();
    this.#started = starting.then(() => undefined);
    return starting;
  }

  /** Resolves with what was thrown. */
  async #start(): Promise<unknown> {
    this.#opening?.abort();
    const opening = new AbortController();
    this.#opening = opening;
    this.engine = undefined;
    this.loading = { stage: 'engine', loaded: 0, total: 0 };
    this.problems = this.problems.filter((p) => p.action !== 'restart');
    this.#changed();
    try {
      this.engine = await this.#open(
        this.model,
        {
          wish: this.#remembered.wish,
          onProgress: (progress) => {
            this.loading = progress;
            this.#changed();
          },
          onCrash: (error) => {
            // While it is being opened, whoever opens it gets the same error.
            if (this.engine) this.#fail(error);
            this.engine = undefined;
          },
          onMoved: (device) => {
            this.deviceNote = this.busy ? `${device.detail} The search went on from its last step; nothing is lost.` : device.detail;
            this.#estimates.soon();
            this.#changed();
          },
        },
        opening.signal,
      );
    } catch (thrown) {
      return opening.signal.aborted ? undefined : thrown;
    } finally {
      if (this.#opening === opening) this.loading = undefined;
    }
    this.family = this.engine.family;
    this.#remembered.keep(this.#remembered.wish.device, this.engine.tuning);
    if (this.model.kind === 'kept') this.#remembered.open({ base: this.model.base, modules: this.model.modules, weights: this.model.weights });
    else this.#remembered.open(undefined);
    if (!this.draft) this.pick(this.family.tasks[0]?.id ?? OWN);
    else this.#estimates.soon();
    await this.#conclude();
    this.#changed();
    return undefined;
  }

  close(): void {
    this.#opening?.abort();
    this.engine?.close();
    this.engine = undefined;
  }

  /** The last question and its answers. */
  get attempt(): Attempt | undefined {
    return this.#question.attempt;
  }

  get estimate(): Estimate | undefined {
    return this.#estimates.current;
  }

  get busy(): boolean {
    return this.run?.status === 'running' || this.run?.status === 'paused';
  }

  /** What computes; unknown until something does. */
  get device(): DeviceReport | undefined {
    return this.engine?.device;
  }

  /** Moves the model to another device, and remembers the choice once it has worked. */
  async setDevice(choice: DeviceChoice): Promise<void> {
    const { engine } = this;
    if (!engine || this.busy || this.moving) return;
    this.moving = choice;
    this.#changed();
    try {
      await engine.setDevice({ ...this.#remembered.wish, device: choice });
      this.#remembered.keep(choice, engine.tuning);
      this.deviceNote = undefined;
      this.#estimates.soon();
    } catch (thrown) {
      this.#fail(thrown);
    } finally {
      this.moving = undefined;
      this.#changed();
    }
  }

  /** Whether examples or settings are no longer those of the run that is shown. */
  get stale(): boolean {
    const run = this.run;
    if (!run || !this.draft) return false;
    return JSON.stringify([run.shots, run.settings]) !== JSON.stringify([this.#shots(), this.settings]);
  }

  /** What the weights' bars show: the best so far, else nothing. */
  get weights(): number[] {
    const found = this.run?.outcome?.weights ?? this.run?.progress?.best.weights;
    return found ?? (this.family?.modules ?? []).map(() => 0);
  }

  /** The held-out rows that share no input with the examples. */
  get heldOutRows(): Shot[] {
    return this.draft ? withoutShots(this.draft.test, this.draft.shots) : [];
  }

  // ── the task ──

  pick(id: string): void {
    if (this.busy) return;
    const task = this.family?.tasks.find((t) => t.id === id) ?? OWN_TASK;
    const draft = this.#drafts.of(task);
    if (this.draft === draft) return;
    this.draft = draft;
    this.#checking?.abort();
    this.run = undefined;
    this.check = undefined;
    this.#question.forget();
    this.#estimates.soon();
    this.#changed();
  }

  editShot(key: number, change: Partial<Shot>): void {
    const shot = this.draft?.shots.find((s) => s.key === key);
    if (!shot) return;
    Object.assign(shot, change);
    this.#estimates.soon();
    this.#changed();
  }

  addShot(shot: Shot = { input: '', output: '' }): number {
    const row = this.#drafts.row(shot);
    this.draft?.shots.push(row);
    this.#estimates.soon();
    this.#changed();
    return row.key;
  }

  removeShot(key: number): void {
    if (!this.draft) return;
    this.draft.shots = this.draft.shots.filter((s) => s.key !== key);
    this.#estimates.soon();
    this.#changed();
  }

  /** The task's own examples and held-out rows again. */
  restore(): void {
    if (!this.draft || this.busy) return;
    this.draft = this.#drafts.fresh(this.draft.task);
    this.#estimates.soon();
    this.#changed();
  }

  get edited(): boolean {
    return this.draft !== undefined && this.#drafts.edited(this.draft);
  }

  /** Adds pasted rows to the examples, or makes them the held-out rows. Returns how many, 0 after a problem. */
  paste(text: string, into: 'shots' | 'test'): number {
    const draft = this.draft;
    if (!draft) return 0;
    try {
      const rows = parseRows(text);
      if (into === 'test') draft.test = rows;
      else {
        draft.shots = draft.shots.filter((s) => s.input.trim() !== '' || s.output.trim() !== '');
        for (const row of rows) this.addShot(row);
      }
      this.#estimates.soon();
      this.#changed();
      return rows.length;
    } catch (thrown) {
      this.#fail(thrown);
      return 0;
    }
  }

  configure(change: Partial<AdaptSettings>): void {
    this.settings = { ...this.settings, ...change };
    this.#estimates.soon();
    this.#changed();
  }

  // ── the search ──

  async adapt(): Promise<void> {
    const { draft } = this;
    if (!draft || this.busy || this.moving || !(this.engine || this.loading)) return;
    const shots = this.#shots();
    const fault = faultIn(draft.shots, this.settings);
    if (fault) {
      this.#fail(fault);
      return;
    }
    this.run = {
      status: 'running',
      shots,
      settings: this.settings,
      points: [],
      progress: undefined,
      outcome: undefined,
      record: undefined,
    };
    await this.#search(this.run);
  }

  /** Whether a search that was cancelled or cut off can go on as if nothing had happened. */
  get canGoOn(): boolean {
    const { run } = this;
    const ended = run?.status === 'cancelled' || run?.status === 'failed';
    return ended && run.progress !== undefined && !this.stale && !this.moving;
  }

  /** Goes on with such a search, from its last generation. */
  async goOn(): Promise<void> {
    const { run } = this;
    if (!run || !this.canGoOn) return;
    run.status = 'running';
    if (!this.engine && !this.loading) void this.start();
    await this.#search(run);
  }

  /** Begins a run, or goes on with it from its last progress. */
  async #search(run: Run): Promise<void> {
    this.#checking?.abort();
    this.#question.stop();
    this.check = undefined;
    this.deviceNote = undefined;
    const running = new AbortController();
    this.#running = running;
    this.#changed();
    // One that was cancelled a moment ago may still be handing over what it has.
    const before = Promise.all([this.#settled, this.#started]);
    this.#settled = before.then(() => this.#searchNow(run, running.signal));
    await this.#settled;
    if (run.status === 'done' && this.run === run && !running.signal.aborted) await this.checkHeldOut();
  }

  async #searchNow(run: Run, signal: AbortSignal): Promise<void> {
    const { engine } = this;
    const use = this.#uses;
    try {
      if (!engine) throw new EngineError('closed', 'the engine is not running; start it again');
      run.outcome = undefined;
      const found = await engine.adapt({ shots: run.shots }, run.settings, {
        signal,
        resume: run.progress?.checkpoint,
        onStart: (pausable) => (this.#pausable = pausable),
        onProgress: (progress) => {
          run.progress = progress;
          run.points = [...run.points, ...progress.points];
          this.#changed();
        },
      });
      keep(run, found);
      // Gone on with meanwhile, it is no more cancelled than done.
      if (this.#running?.signal === signal) run.status = found.outcome.stopReason === 'cancelled' ? 'cancelled' : 'done';
    } catch (thrown) {
      const { code } = EngineError.wrap(thrown);
      if (!signal.aborted) {
        run.status = 'failed';
        this.#fail(thrown);
        await this.#conclude();
      } else if (code === 'closed' && this.loading && use === this.#uses) {
        await this.start();
      } else if (code !== 'nothing_evaluated') {
        // Cancelled before the first generation, there is no best to keep, and nothing went wrong.
        this.#fail(thrown);
        await this.#conclude();
      }
    } finally {
      clearTimeout(this.#overdue);
      this.#pausable = undefined;
      this.#estimates.settle();
      this.#changed();
    }
  }

  /** Makes the outcome of a search that ended without one, from its last generation. Evaluates nothing. */
  async #conclude(): Promise<void> {
    const { engine, run } = this;
    if (!engine || !run?.progress || run.outcome || this.busy) return;
    const resume = run.progress.checkpoint;
    try {
      keep(run, await engine.adapt({ shots: run.shots }, run.settings, { resume, signal: AbortSignal.abort() }));
    } catch (thrown) {
      this.#fail(thrown);
    }
  }

  pause(): void {
    if (this.run?.status !== 'running') return;
    this.#pausable?.pause();
    this.run.status = 'paused';
    this.#changed();
  }

  resume(): void {
    if (this.run?.status !== 'paused') return;
    this.#pausable?.resume();
    this.run.status = 'running';
    this.#changed();
  }

  /** Ends the search at once and keeps the best of the last generation, whether the worker answers or not. */
  cancel(): void {
    if (!this.busy || !this.run) return;
    this.run.status = 'cancelled';
    this.#running?.abort();
    clearTimeout(this.#overdue);
    this.#overdue = setTimeout(() => this.#endWorker(), PATIENCE_MS);
    this.#changed();
  }

  /** Ends a worker that does not answer; the search that waits for it then starts another. */
  #endWorker(): void {
    const { engine } = this;
    if (!engine || !this.#pausable) return;
    this.engine = undefined;
    this.loading = { stage: 'engine', loaded: 0, total: 0 };
    engine.close();
    this.#changed();
  }

  // ── held-out rows ──

  async checkHeldOut(): Promise<void> {
    const engine = await this.#alive();
    const { run } = this;
    const rows = this.heldOutRows;
    if (!engine || !run?.outcome || rows.length === 0 || this.check?.status === 'running') return;
    const check: Check = { status: 'running', total: rows.length, progress: undefined, result: undefined };
    this.check = check;
    const checking = new AbortController();
    this.#checking = checking;
    this.#changed();
    try {
      check.result = await engine.evaluate(rows, candidatesOf(run.outcome), {
        rule: run.outcome.rule,
        signal: checking.signal,
        onProgress: (progress) => {
          check.progress = progress;
          this.#changed();
        },
      });
      check.status = 'done';
      // Stopped before any row was finished: as if it had not begun.
      if (check.result.n === 0 && this.check === check) this.check = undefined;
    } catch (thrown) {
      check.status = 'failed';
      this.#fail(thrown);
    } finally {
      this.#changed();
    }
  }

  /** Ends the check; the rows done stay. */
  stopCheck(): void {
    this.#checking?.abort();
  }

  // ── own input ──

  async ask(input: string): Promise<void> {
    const { engine } = this;
    if (!engine || input.trim() === '') return;
    await this.#question.ask(engine, input, this.run?.outcome);
  }

  /** Where a text leaves a vocabulary of words; never a problem, for it only marks. */
  async unknownSpans(text: string): Promise<[number, number][]> {
    if (this.family?.words.length === 0) return [];
    try {
      return (await this.engine?.unknownSpans(text)) ?? [];
    } catch {
      return [];
    }
  }

  // ── taking it away ──

  async exportModule(): Promise<{ name: string; bytes: Uint8Array<ArrayBuffer> } | undefined> {
    const outcome = this.run?.outcome;
    const engine = await this.#alive();
    if (!engine || !outcome) return undefined;
    try {
      const { name, zip } = await engine.exportModule(outcome.weights, { rule: outcome.rule, seed: outcome.seed });
      return { name, bytes: zip };
    } catch (thrown) {
      this.#fail(thrown);
      return undefined;
    }
  }

  /** The record of the run that is shown, as the file's text. */
  runRecord(): string | undefined {
    const record = this.run?.record;
    return record && `${JSON.stringify(record, null, 2)}\n`;
  }

  // ── problems ──

  dismiss(id: number): void {
    this.problems = this.problems.filter((p) => p.id !== id);
    this.#changed();
  }

  /** Shows a failure of the page itself, such as a refused clipboard. */
  report(thrown: unknown): void {
    this.#fail(thrown);
  }

  #fail(thrown: unknown, action?: 'restart'): void {
    const error = EngineError.wrap(thrown);
    if (error.code === 'aborted' || error.code === 'closed') return;
    // One crash fails every call under way with the same error: one card is enough.
    if (!this.problems.some((p) => p.code === error.code && splitRemedy(error.message).what === p.what)) {
      const offer = action ?? (error.code === 'engine_crashed' ? 'restart' : undefined);
      this.problems = [...this.problems, { id: this.#nextProblem++, code: error.code, ...splitRemedy(error.message), action: offer }];
    }
    this.#changed();
  }

  // ── inside ──

  /** The engine; where it has died, another. */
  async #alive(): Promise<Engine | undefined> {
    if (this.loading) await this.#started;
    else if (!this.engine) await this.start();
    return this.engine;
  }

  #shots(): Shot[] {
    return (this.draft?.shots ?? []).map(bare).filter((s) => s.input.trim() !== '' && s.output.trim() !== '');
  }
}

function keep(run: Run, { outcome, record }: Adapted): void {
  run.outcome = outcome;
  run.record = record;
}
