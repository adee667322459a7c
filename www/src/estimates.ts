/** Time and memory that the next search would take, measured a moment after the examples or settings have changed. */
import type { AdaptSettings, Estimate, Shot } from './engine/protocol.ts';

/** Where one evaluation takes longer than this, in seconds, it is not measured again at every change. */
const SLOW = 2;
/** The browser still compiles while a new worker measures first: a model that takes this long is measured once more. */
const NOTICEABLE = 0.1;
const COMPILED_MS = 3000;
const REST_MS = 250;

/** What is to be estimated now, and the means; absent while there is none. */
export interface Subject {
  shots: Shot[];
  settings: AdaptSettings;
  measure: ((task: { shots: Shot[] }, settings: AdaptSettings) => Promise<Estimate>) | undefined;
}

export class Estimates {
  current: Estimate | undefined;

  readonly #subject: () => Subject;
  readonly #busy: () => boolean;
  readonly #changed: () => void;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #ticket = 0;
  /** One was due in mid-search. */
  #owed = false;
  /** One is being measured; what changes meanwhile is measured after it. */
  #measuring = false;
  /** Nothing was measured on this model yet. */
  #first = true;

  constructor(subject: () => Subject, busy: () => boolean, changed: () => void) {
    this.#subject = subject;
    this.#busy = busy;
    this.#changed = changed;
  }

  soon(): void {
    this.#soon(REST_MS);
  }

  #soon(milliseconds: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#now(), milliseconds);
  }

  /** After a search, for what could not be measured beside it. */
  settle(): void {
    if (this.#owed) this.soon();
  }

  /** For another model: nothing that was measured holds. */
  forget(): void {
    this.#ticket++;
    this.#first = true;
    this.current = undefined;
  }

  async #now(): Promise<void> {
    if (this.#busy()) {
      this.#owed = true;
      return;
    }
    this.#owed = this.#measuring;
    if (this.#measuring) return;
    const ticket = ++this.#ticket;
    const { shots, settings, measure } = this.#subject();
    const last = this.current;
    let estimate: Estimate | undefined;
    if (measure && shots.length > 0) {
      if (last && last.secondsPerEvaluation > SLOW) {
        estimate = { ...last, seconds: last.secondsPerEvaluation * settings.budget };
      } else {
        this.#measuring = true;
        try {
          estimate = await measure({ shots }, settings);
          if (this.#first && estimate.secondsPerEvaluation > NOTICEABLE) this.#soon(COMPILED_MS);
          this.#first = false;
        } catch {
          // The same fault is reported, with its remedy, when Adapt is pressed.
        } finally {
          this.#measuring = false;
          this.settle();
        }
      }
    }
    if (ticket !== this.#ticket) return;
    this.current = estimate;
    this.#changed();
  }
}
