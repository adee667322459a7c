/** One input of the visitor's own, answered by the base alone and by what was composed. */
import type { Engine } from './engine/client.ts';
import type { Outcome } from './engine/protocol.ts';
import type { Answer, Attempt } from './state.ts';

export class Question {
  attempt: Attempt | undefined;

  readonly #changed: () => void;
  readonly #fail: (thrown: unknown) => void;
  #asking: AbortController | undefined;

  constructor(changed: () => void, fail: (thrown: unknown) => void) {
    this.#changed = changed;
    this.#fail = fail;
  }

  /** Takes the place of a question that is still being answered. */
  async ask(engine: Engine, input: string, outcome: Outcome | undefined): Promise<void> {
    this.#asking?.abort();
    const asking = new AbortController();
    this.#asking = asking;
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

  /** Ends the answer that is under way; what there is of it stays. */
  stop(): void {
    this.#asking?.abort();
  }

  /** Drops question and answers. */
  forget(): void {
    this.stop();
    this.attempt = undefined;
  }
}
