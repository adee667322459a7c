/**
 * What the page knows and what a visitor can do, without any view: the views read it and call it.
 *
 * One task at a time: pick, edit, adapt, check on held-out rows, ask, take away. Every failure becomes a `Problem`
 * and leaves everything else as it was.
 */
import { Engine, type OpenOptions, type Pausable } from './engine/client.ts';
import { EngineError } from './engine/error.ts';
import type {
  AdaptSettings,
  Estimate,
  HeldOut,
  HeldOutProgress,
  HistoryPoint,
  LoadProgress,
  Outcome,
  Progress,
  Shot,
  TaskInfo,
} from './engine/protocol.ts';
import { splitRemedy } from './format.ts';
import { parseRows, withoutShots } from './rows.ts';

export interface Problem {
  id: number;
  code: string;
  what: string;
  remedy: string;
  /** What the card offers besides dismissing it. */
  action: 'restart' | undefined;
}

/** A row under edit; `key` survives edits, so that focus stays where it is. */
export interface DraftShot extends Shot {
  key: number;
}

export interface Draft {
  task: TaskInfo;
  own: boolean;
  shots: DraftShot[];
  /** Held-out rows. */
  test: Shot[];
}

export interface Run {
  status: 'running' | 'paused' | 'cancelling' | 'cancelled' | 'done' | 'failed';
  shots: Shot[];
  settings: AdaptSettings;
  points: HistoryPoint[];
  progress: Progress | undefined;
  outcome: Outcome | undefined;
}

export interface Check {
  status: 'running' | 'done' | 'failed';
  total: number;
  progress: HeldOutProgress | undefined;
  result: HeldOut | undefined;
}

export interface Answer {
  text: string;
  status: 'waiting' | 'streaming' | 'done' | 'stopped';
}

export interface Attempt {
  input: string;
  base: Answer;
  /** Absent where nothing has been composed yet. */
  composed: Answer | undefined;
}

/** The names under which candidates are evaluated, in the order they are shown. */
export const CANDIDATES = ['base', 'single', 'uniform', 'pass', 'composed'] as const;
export type CandidateName = (typeof CANDIDATES)[number];

export const OWN = 'own';
const OWN_TASK: TaskInfo = {
  id: OWN,
  title: 'Your own',
  kind: '',
  summary: 'Write a few examples of what you want. Stay within the words this small model knows.',
  rules: [],
  shots: [],
  test: [],
  examples: [],
};
export const BUDGETS = { least: 30, most: 2000, usual: 200 };

type Opener = (options: Pick<OpenOptions, 'onProgress' | 'onCrash'>, signal: AbortSignal) => Promise<Engine>;

export class Journey {
  engine: Engine | undefined;
  loading: LoadProgress | undefined;
  draft: Draft | undefined;
  settings: AdaptSettings = { budget: BUDGETS.usual, seed: 0, objective: 'normalised' };
  estimate: Estimate | undefined;
  run: Run | undefined;
  check: Check | undefined;
  attempt: Attempt | undefined;
  problems: Problem[] = [];

  readonly #open: Opener;
  readonly #changed: () => void;
  readonly #drafts = new Map<string, Draft>();
  #nextKey = 1;
  #opening: AbortController | undefined;
  #running: AbortController | undefined;
  #pausable: Pausable | undefined;
  #checking: AbortController | undefined;
  #asking: AbortController | undefined;
  #estimating = 0;
  #estimateTimer: ReturnType<typeof setTimeout> | undefined;

  /** `changed` is called after every change of what the views read. */
  constructor(open: Opener, changed: () => void) {
    this.#open = open;
    this.#changed = changed;
  }

  /** Starts the worker and loads the family; again after a crash. */
  async start(): Promise<void> {
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
          onProgress: (progress) => {
            this.loading = progress;
            this.#changed();
          },
          onCrash: (error) => {
            this.engine = undefined;
            this.#fail(error);
          },
        },
        opening.signal,
      );
    } catch (thrown) {
      if (!opening.signal.aborted) this.#fail(thrown, 'restart');
      return;
    } finally {
      this.loading = undefined;
    }
    const first = this.engine.family.tasks[0];
    if (!this.draft) this.pick(first?.id ?? OWN);
    else this.#estimateSoon();
    this.#changed();
  }

  close(): void {
    this.#opening?.abort();
    this.engine?.close();
    this.engine = undefined;
  }

  get busy(): boolean {
    return this.run?.status === 'running' || this.run?.status === 'paused' || this.run?.status === 'cancelling';
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
    return found ?? (this.engine?.family.modules ?? []).map(() => 0);
  }

  /** The held-out rows that share no input with the examples. */
  get heldOutRows(): Shot[] {
    return this.draft ? withoutShots(this.draft.test, this.draft.shots) : [];
  }

  // ── the task ──

  pick(id: string): void {
    if (this.busy) return;
    const task = this.engine?.family.tasks.find((t) => t.id === id) ?? OWN_TASK;
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
    const { engine, draft } = this;
    if (!engine || !draft || this.busy) return;
    const shots = this.#shots();
    const faulty = draft.shots.findIndex((s) => (s.input.trim() === '') !== (s.output.trim() === ''));
    if (faulty >= 0) {
      const side = draft.shots[faulty]?.input.trim() === '' ? 'input' : 'output';
      this.#fail(new EngineError('shots', `example ${faulty + 1}: the ${side} is empty; fill it in or remove the example`));
      return;
    }
    if (shots.length === 0) {
      this.#fail(new EngineError('shots', 'there are no examples; write at least one, five are better'));
      return;
    }
    const { budget, seed } = this.settings;
    if (!Number.isSafeInteger(budget) || budget < BUDGETS.least || budget > BUDGETS.most) {
      this.#fail(new EngineError('settings', `the number of evaluations must be a whole number from ${BUDGETS.least} to ${BUDGETS.most}; change it under Search`));
      return;
    }
    if (!Number.isSafeInteger(seed) || seed < 0) {
      this.#fail(new EngineError('settings', 'the seed must be a whole number of at least 0; change it under Search'));
      return;
    }
    this.#checking?.abort();
    this.#asking?.abort();
    const run: Run = {
      status: 'running',
      shots,
      settings: this.settings,
      points: [],
      progress: undefined,
      outcome: undefined,
    };
    this.run = run;
    this.check = undefined;
    const running = new AbortController();
    this.#running = running;
    this.#changed();
    try {
      run.outcome = await engine.adapt({ shots }, run.settings, {
        signal: running.signal,
        onStart: (pausable) => (this.#pausable = pausable),
        onProgress: (progress) => {
          run.progress = progress;
          run.points = [...run.points, ...progress.points];
          this.#changed();
        },
      });
      run.status = run.outcome.stopReason === 'cancelled' ? 'cancelled' : 'done';
    } catch (thrown) {
      // Cancelled before the first generation: there is no best to keep, and nothing went wrong.
      const nothing = EngineError.wrap(thrown).code === 'nothing_evaluated';
      run.status = nothing ? 'cancelled' : 'failed';
      if (!nothing) this.#fail(thrown);
      return;
    } finally {
      this.#running = undefined;
      this.#pausable = undefined;
      this.#changed();
    }
    if (run.status === 'done' && this.run === run) await this.checkHeldOut();
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

  /** Ends the search and keeps the best. */
  cancel(): void {
    if (!this.busy || !this.run) return;
    this.run.status = 'cancelling';
    this.#running?.abort();
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
    const { engine, run } = this;
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
    if (!this.engine || !outcome) return undefined;
    try {
      const { name, zip } = await this.engine.exportModule(outcome.weights, { rule: outcome.rule, seed: outcome.seed });
      return { name, bytes: zip };
    } catch (thrown) {
      this.#fail(thrown);
      return undefined;
    }
  }

  async runRecord(): Promise<string | undefined> {
    if (!this.engine || !this.run?.outcome) return undefined;
    try {
      return `${JSON.stringify(await this.engine.runRecord(), null, 2)}\n`;
    } catch (thrown) {
      this.#fail(thrown);
      return undefined;
    }
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
    const ticket = ++this.#estimating;
    const shots = this.#shots();
    let estimate: Estimate | undefined;
    if (this.engine && shots.length > 0 && !this.busy) {
      try {
        estimate = await this.engine.estimate({ shots }, this.settings);
      } catch {
        // The same fault is reported, with its remedy, when Adapt is pressed.
      }
    } else if (this.busy) return;
    if (ticket !== this.#estimating) return;
    this.estimate = estimate;
    this.#changed();
  }
}

function bare({ input, output }: Shot): Shot {
  return { input, output };
}
