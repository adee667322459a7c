/** What a screen reader hears while a run goes on: few sentences, never more than one in five seconds of progress. */
import { count, duration, loss, percent } from './format.ts';
import type { Journey } from './journey.ts';
import type { Download } from './models/models.ts';
import { downloadText } from './views/hub.ts';

const PAUSE_MS = 5000;

export class Announcer {
  readonly #say: (text: string) => void;
  #state = '';
  #check = '';
  #note: string | undefined;
  #spoken = 0;
  #download: Download | undefined;

  constructor(say: (text: string) => void) {
    this.#say = say;
  }

  /** Called at every change; decides whether it is worth a sentence. */
  observe(j: Journey, state: string, now = performance.now()): void {
    const check = j.check?.status ?? 'none';
    const turned = state !== this.#state || check !== this.#check;
    const moved = j.deviceNote !== this.#note ? j.deviceNote : undefined;
    const text = moved !== undefined ? moved : turned ? this.#turn(j, state, check) : now - this.#spoken >= PAUSE_MS ? progress(j, state) : '';
    this.#state = state;
    this.#check = check;
    this.#note = j.deviceNote;
    if (text === '') return;
    this.#spoken = now;
    // Not during the update that called us.
    queueMicrotask(() => this.#say(text));
  }

  /** The same for a download: where it begins and ends, and every ten seconds how far it is. */
  download(download: Download | undefined, note: string | undefined, now = performance.now()): void {
    const began = download !== undefined && this.#download === undefined;
    const ended = download === undefined && this.#download !== undefined;
    this.#download = download;
    const p = download?.progress;
    let text = '';
    if (began) text = 'Downloading.';
    else if (ended) text = note ?? 'The download has ended.';
    else if (p && now - this.#spoken >= 2 * PAUSE_MS) text = `Downloading, file ${p.index + 1} of ${p.files}. ${downloadText(p)}`;
    if (text === '') return;
    this.#spoken = now;
    queueMicrotask(() => this.#say(text));
  }

  #turn(j: Journey, state: string, check: string): string {
    if (check !== this.#check) {
      const result = j.check?.result;
      if (check === 'running') return 'Checking the held-out rows.';
      if (check === 'done' && result) {
        const composed = result.accuracy['composed'];
        return composed ? `Held-out rows: composed ${percent(composed.percent)}, ${composed.correct} of ${result.n}.` : '';
      }
      if (state === this.#state) return '';
    }
    const outcome = j.run?.outcome;
    const best = outcome?.objective ?? j.run?.progress?.best.objective;
    switch (state) {
      case 'ready':
        return 'Ready.';
      case 'running':
        return this.#state === 'paused' ? 'Going on.' : 'Adapting.';
      case 'paused':
        return 'Paused.';
      case 'cancelled':
        return best === undefined ? 'Cancelled.' : `Cancelled; the best so far is kept, loss ${loss(best)}.`;
      case 'done':
        return outcome ? `Adapted after ${count(outcome.evaluations)} evaluations, loss ${loss(outcome.objective)}.` : '';
      default:
        return '';
    }
  }
}

function progress(j: Journey, state: string): string {
  const p = j.run?.progress;
  if (state !== 'running' || !p) return '';
  return `${count(p.evaluations)} of ${count(p.budget)} evaluations, best loss ${loss(p.best.objective)}, ${duration(p.secondsLeft)} left.`;
}
