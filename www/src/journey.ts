/**
 * What the page knows and what a visitor can do, without any view: the views read it and call it.
 *
 * One task at a time: pick, edit, adapt, check on held-out rows, ask, take away. Every failure becomes a `Problem`
 * and leaves everything else as it was.
 */
import type { Engine, OpenOptions, Pausable } from './engine/client.ts';
import { EngineError } from './engine/error.ts';
import type {
  Adapted,
  AdaptSettings,
  DeviceChoice,
  DeviceReport,
  Estimate,
  FamilyInfo,
  LoadProgress,
  Shot,
  TaskInfo,
} from './engine/protocol.ts';
import { splitRemedy } from './format.ts';
import { Remembered } from './remembered.ts';
import { parseRows, withoutShots } from './rows.ts';
import { BUDGETS, OWN, OWN_TASK, type Answer, type Attempt, type CandidateName, type Check, type Draft, type Problem, type Run } from './state.ts';
import { faultIn } from './validate.ts';

/** How long a cancelled worker has to hand over what it has before another takes its place. */
const PATIENCE_MS = 1000;

type Opener = (options: Pick<OpenOptions, 'wish' | 'onProgress' | 'onCrash' | 'onMoved'>, signal: AbortSignal) => Promise<Engine>;

export class Journey {
  engine: Engine | undefined;
  /** Known from the first start on, whatever becomes of the engine. */
  family: FamilyInfo | undefined;
  loading: LoadProgress | undefined;
  draft: Draft | undefined;
  settings: AdaptSettings = { budget: BUDGETS.usual, seed: 0, objective: 'normalised' };
  estimate: Estimate | undefined;
  run: Run | undefined;
  check: Check | undefined;
  attempt: Attempt | undefined;
  problems: Problem[] = [];
  /** The device that the model is on its way to. */
  moving: DeviceChoice | undefined;
  /** That the device has changed by itself, and why. */
  deviceNote: string | undefined;

  readonly #open: Opener;
  readonly #changed: () => void;
  readonly #remembered: Remembered;
  readonly #drafts = new Map<string, Draft>();
  #nextKey = 1;
  #opening: AbortController | undefined;
  #started: Promise<void> = Promise.resolve();
  #running: AbortController | undefined;
  /** The last search with all that follows from it. */
  #settled: Promise<void> = Promise.resolve();
  #overdue: ReturnType<typeof setTimeout> | undefined;
  #pausable: Pausable | undefined;
  #checking: AbortController | undefined;
  #asking: AbortController | undefined;
  #estimating = 0;
  /** One was due in mid-search. */
  #estimateOwed = false;
  #estimateTimer: ReturnType<typeof setTimeout> | undefined;

  /** `changed` is called after every change of what the views read. */
  constructor(open: Opener, changed: () => void, remembered = new Remembered()) {
    this.#open = open;
    this.#changed = changed;
    this.#remembered = remembered;
  }

  /** Starts the worker and loads the family; again after a crash. */
  start(): Promise<void> {
    this.#started = this.#start();
    return this.#started;
  }

  async #start(): Promise<void> {
    this.#opening?.abort();
    const opening = new AbortController();
    this.#opening = opening;
    this.engine = undefined;
    this.loading = { stage: 'engine', loaded: 0, total: 0 };
    this.problems = this.problems.filter((p) => p.action !== 'restart');
    this.#changed();
    try {
      this.engine = await this.#open(
        {
          wish: this.#remembered.wish,
          onProgress: (progress) => {
            this.loading = progress;
            this.#changed();
          },
          onCrash: (error) => {
            this.engine = undefined;
            this.#fail(error);
          },
          onMoved: (device) => {
            this.deviceNote = this.busy ? `${device.detail} The search went on from its last step; nothing is lost.` : device.detail;
            this.#estimateSoon();
            this.#changed();
          },
        },
        opening.signal,
      );
    } catch (thrown) {
      if (!opening.signal.aborted) this.#fail(thrown, 'restart');
      return;
    } finally {
      if (this.#opening === opening) this.loading = undefined;
    }
    this.family = this.engine.family;
    this.#remembered.keep(this.#remembered.wish.device, this.engine.tuning);
    const first = this.family.tasks[0];
    if (!this.draft) this.pick(first?.id ?? OWN);
    else this.#estimateSoon();
    await this.#conclude();
    this.#changed();
  }

  close(): void {
    this.#opening?.abort();
    this.engine?.close();
    this.engine = undefined;
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
      this.#estimateSoon();
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
    const draft = this.#drafts.get(task.id) ?? this.#newDraft(task);
    this.#drafts.set(task.id, draft);
    if (this.draft === draft) return;
    this.draft = draft;
    this.#checking?.abort();
    this.run = undefined;
    this.check = undefined;
    this.attempt = undefined;
    this.#estimateSoon();
    this.#changed();
  }

  editShot(key: number, change: Partial<Shot>): void {
    const shot = this.draft?.shots.find((s) => s.key === key);
    if (!shot) return;
    Object.assign(shot, change);
    this.#estimateSoon();
    this.#changed();
  }

  addShot(shot: Shot = { input: '', output: '' }): number {
    const key = this.#nextKey++;
    this.draft?.shots.push({ ...shot, key });
    this.#estimateSoon();
    this.#changed();
    return key;
  }

  removeShot(key: number): void {
    if (!this.draft) return;
    this.draft.shots = this.draft.shots.filter((s) => s.key !== key);
    this.#estimateSoon();
    this.#changed();
  }

  /** The task's own examples and held-out rows again. */
  restore(): void {
    if (!this.draft || this.busy) return;
    this.draft = this.#newDraft(this.draft.task);
    this.#drafts.set(this.draft.task.id, this.draft);
    this.#estimateSoon();
    this.#changed();
  }

  get edited(): boolean {
    const draft = this.draft;
    if (!draft) return false;
    const fresh = draft.own ? [{ input: '', output: '' }, { input: '', output: '' }] : draft.task.shots;
    return JSON.stringify(draft.shots.map(bare)) !== JSON.stringify(fresh.map(bare)) || draft.test !== draft.task.test;
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
      this.#estimateSoon();
      this.#changed();
      return rows.length;
    } catch (thrown) {
      this.#fail(thrown);
      return 0;
    }
  }

  configure(change: Partial<AdaptSettings>): void {
    this.settings = { ...this.settings, ...change };
    this.#estimateSoon();
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
    this.#asking?.abort();
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
      } else if (code === 'closed' && this.loading) {
        await this.start();
      } else if (code !== 'nothing_evaluated') {
        // Cancelled before the first generation, there is no best to keep, and nothing went wrong.
        this.#fail(thrown);
        await this.#conclude();
      }
    } finally {
      clearTimeout(this.#overdue);
      this.#pausable = undefined;
      if (this.#estimateOwed) this.#estimateSoon();
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

  /** What can be compared now: name to weights. */
  candidates(): Partial<Record<CandidateName, number[]>> {
    const outcome = this.run?.outcome;
    if (!outcome) return {};
    const n = outcome.weights.length;
    const found: Partial<Record<CandidateName, number[]>> = { base: outcome.weights.map(() => 0) };
    if (outcome.bestSingle) found.single = outcome.bestSingle.weights;
    found.uniform = outcome.weights.map(() => 1 / n);
    found.pass = outcome.pass.weights;
    found.composed = outcome.weights;
    return found;
  }

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
      check.result = await engine.evaluate(rows, this.candidates() as Record<string, number[]>, {
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
    this.#asking?.abort();
    const asking = new AbortController();
    this.#asking = asking;
    const outcome = this.run?.outcome;
    const waiting = (): Answer => ({ text: '', status: 'waiting' });
    const attempt: Attempt = { input, base: waiting(), composed: outcome ? waiting() : undefined };
    this.attempt = attempt;
    this.#changed();
    const answer = async (into: Answer, weights: number[]): Promise<void> => {
      into.status = 'streaming';
      const { text } = await engine.generate(input, weights, {
        signal: asking.signal,
        ...(outcome ? { rule: outcome.rule } : {}),
        onToken: (t) => {
          into.text = t;
          this.#changed();
        },
      });
      into.text = text;
      into.status = 'done';
      this.#changed();
    };
    try {
      await answer(attempt.base, engine.family.modules.map(() => 0));
      if (attempt.composed && outcome) await answer(attempt.composed, outcome.weights);
    } catch (thrown) {
      for (const a of [attempt.base, attempt.composed]) if (a && a.status !== 'done') a.status = 'stopped';
      if (!asking.signal.aborted) this.#fail(thrown);
      this.#changed();
    }
  }

  /** Where a text leaves the vocabulary; never a problem, for it only marks. */
  async unknownSpans(text: string): Promise<[number, number][]> {
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
      this.problems = [...this.problems, { id: this.#nextKey++, code: error.code, ...splitRemedy(error.message), action: offer }];
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

  #newDraft(task: TaskInfo): Draft {
    const own = task.id === OWN;
    const blank = { input: '', output: '' };
    const shots = (own ? [blank, blank] : task.shots).map((s) => ({ ...s, key: this.#nextKey++ }));
    return { task, own, shots, test: task.test };
  }

  #shots(): Shot[] {
    return (this.draft?.shots ?? []).map(bare).filter((s) => s.input.trim() !== '' && s.output.trim() !== '');
  }

  #estimateSoon(): void {
    clearTimeout(this.#estimateTimer);
    this.#estimateTimer = setTimeout(() => void this.#estimateNow(), 250);
  }

  async #estimateNow(): Promise<void> {
    if (this.busy) {
      this.#estimateOwed = true;
      return;
    }
    this.#estimateOwed = false;
    const ticket = ++this.#estimating;
    const shots = this.#shots();
    let estimate: Estimate | undefined;
    if (this.engine && shots.length > 0) {
      try {
        estimate = await this.engine.estimate({ shots }, this.settings);
      } catch {
        // The same fault is reported, with its remedy, when Adapt is pressed.
      }
    }
    if (ticket !== this.#estimating) return;
    this.estimate = estimate;
    this.#changed();
  }
}

function keep(run: Run, { outcome, record }: Adapted): void {
  run.outcome = outcome;
  run.record = record;
}

function bare({ input, output }: Shot): Shot {
  return { input, output };
}
