/** The results area: the search as it goes, held-out rows, an input of one's own, and what to take away. */
import { html, nothing, type TemplateResult } from 'lit';
import { PHASES } from '../elements/loss-chart.ts';
import { count, duration, loss, percent, rate } from '../format.ts';
import type { Journey } from '../journey.ts';
import type { Answer } from '../state.ts';
import { T } from '../testids.ts';

function singleName(j: Journey): string {
  const index = j.run?.outcome?.bestSingle?.index ?? j.run?.progress?.bestSingle?.index;
  return index === undefined ? '' : (j.family?.modules[index]?.title ?? '');
}

/** One sentence for the whole job so far. */
function headline(j: Journey): TemplateResult | string {
  const { run, check } = j;
  if (!run) return 'Press Adapt, and this page tries mixtures of the modules below on your examples.';
  const composed = check?.result?.accuracy['composed'];
  const base = check?.result?.accuracy['base'];
  if (check?.result && composed && base) {
    return html`<strong>${count(composed.correct)} of ${count(check.result.n)}</strong> unseen inputs answered exactly:
      ${percent(composed.percent)}, 95\u00a0% interval
      <span class="nowrap">${composed.low.toFixed(0)}–${composed.high.toFixed(0)}\u00a0%</span>. The base model alone
      answers ${count(base.correct)}.`;
  }
  const outcome = run.outcome;
  if (j.busy) return 'Trying mixtures on your examples. You can cancel at any time and keep the best one.';
  const failed = run.status === 'failed';
  if (outcome && outcome.stopReason !== 'cancelled') {
    return html`${count(outcome.evaluations)} mixtures tried in ${duration(outcome.seconds)}; the loss went down to
      <strong>${loss(outcome.objective)}</strong> from ${loss(outcome.base.objective)} (base model).`;
  }
  // The worker's own outcome may still be on its way, and is the same but for a last generation.
  const { progress } = run;
  if (!progress) {
    return failed ? 'The search stopped with an error. Your examples are as you left them.' : 'Cancelled before anything was tried.';
  }
  return html`${failed ? 'The search broke off' : 'Stopped'} after
    ${count(outcome?.evaluations ?? progress.evaluations)} evaluations. The best mixture so far is kept: loss
    ${loss(outcome?.objective ?? progress.best.objective)} from ${loss(progress.base)} (base model).`;
}

export function searchResult(j: Journey): TemplateResult {
  const { run } = j;
  const p = run?.progress;
  const base = run?.outcome?.base.objective ?? p?.base ?? null;
  const single = run?.outcome?.bestSingle?.objective ?? p?.bestSingle?.objective ?? null;
  const recipe = run?.outcome && !j.stale ? (j.draft?.task.rules ?? EMPTY) : EMPTY;
  const figures: [string, string, string][] = [
    ['Evaluations', T.evaluations, run ? `${count(p?.evaluations ?? 0)} / ${count(run.settings.budget)}` : '–'],
    ['Best loss', T.best, loss(p?.best.objective)],
    ['Per second', T.rate, p ? rate(p.evaluationsPerSecond) : '–'],
    run?.outcome
      ? ['Took', T.timeLeft, duration(run.outcome.seconds)]
      : ['Time left', T.timeLeft, p ? duration(p.secondsLeft) : '–'],
  ];
  return html`<section class="panel" aria-labelledby="h-result">
    <h2 id="h-result">${headlineTitle(j)}</h2>
    <p class="headline" data-testid=${T.headline}>${headline(j)}</p>
    ${j.deviceNote === undefined ? nothing : html`<p class="note moved" data-testid=${T.deviceNote}>${j.deviceNote}</p>`}
    ${j.stale && !j.busy
      ? html`<p class="note">The examples or settings have changed since; adapt again to see what comes of it.</p>`
      : nothing}
    <dl class="figures-row">
      ${figures.map(
        ([name, testid, value]) => html`<div><dt>${name}</dt><dd data-testid=${testid}>${value}</dd></div>`,
      )}
    </dl>
    <lh-loss-chart
      .points=${run?.points ?? EMPTY}
      .budget=${run?.settings.budget ?? j.settings.budget}
      .base=${base}
      .single=${single}
      .singleName=${singleName(j)}
    ></lh-loss-chart>
    <p class="sr-only" data-testid=${T.phase}>${p ? PHASES[p.phase] : ''}</p>
    <h3>Weight of each module</h3>
    <p class="hint weights-note">
      ${recipe.length > 0
        ? html`<span class="recipe" aria-hidden="true">◆</span> marks what this task was made from. The search was not told.`
        : 'From −1.5 to 1.5; at 0 a module takes no part.'}
    </p>
    <lh-weights .modules=${j.family?.modules ?? EMPTY} .weights=${j.weights} .recipe=${recipe}></lh-weights>
  </section>`;
}

const EMPTY: never[] = [];

function headlineTitle(j: Journey): string {
  switch (j.run?.status) {
    case undefined:
      return 'The search';
    case 'running':
      return 'Searching';
    case 'paused':
      return 'Paused';
    case 'cancelled':
      return 'Cancelled';
    case 'done':
      return 'Adapted';
    case 'failed':
      return 'Stopped';
  }
}

export function heldOut(j: Journey): TemplateResult {
  const rows = j.heldOutRows;
  const left = (j.draft?.test.length ?? 0) - rows.length;
  const { check, run } = j;
  const result = check?.result;
  return html`<section class="panel" aria-labelledby="h-heldout">
    <h2 id="h-heldout">Before and after, on rows it has not seen</h2>
    <div class="check-line">
    <p class="hint">
      ${rows.length === 0
        ? 'There are no held-out rows for this task. Paste some under the examples to see how well it does.'
        : `${count(rows.length)} held-out rows, counted right only when the whole answer matches.`}
      ${left > 0 ? `${count(left)} more ${left === 1 ? 'is' : 'are'} left out for being among the examples.` : nothing}
    </p>
      ${check?.status === 'running'
        ? html`<progress
              data-testid=${T.checkProgress}
              max=${check.progress?.total ?? 1}
              .value=${check.progress?.done ?? 0}
              aria-label="Held-out rows checked"
            ></progress>
            <button type="button" class="quiet" data-testid=${T.checkStop} @click=${() => j.stopCheck()}>Stop here</button>`
        : run?.outcome && rows.length > 0 && (!result || result.n < rows.length)
          ? html`<button type="button" class="secondary" data-testid=${T.check} @click=${() => void j.checkHeldOut()}>
              Check ${count(rows.length)} held-out rows
            </button>`
          : nothing}
      ${result && result.n < result.rows.length + 1 && result.n < (check?.total ?? 0)
        ? html`<span class="hint">Stopped after ${count(result.n)} of ${count(check?.total ?? 0)} rows.</span>`
        : nothing}
    </div>
    <lh-accuracy .result=${result} .singleName=${singleName(j)}></lh-accuracy>
    ${rows.length > 0 ? html`<lh-rows .rows=${rows} .result=${result}></lh-rows>` : nothing}
  </section>`;
}

export interface TryState {
  text: string;
  unknown: string[];
}

export function tryOut(
  j: Journey,
  state: TryState,
  act: { text: (t: string) => void; unknown: (w: string[]) => void; ask: () => void },
): TemplateResult {
  const { attempt } = j;
  const examples = j.draft?.task.examples ?? [];
  const words = j.family?.words ?? [];
  const asking = attempt?.base.status === 'streaming' || attempt?.composed?.status === 'streaming';
  return html`<section class="panel" aria-labelledby="h-try">
    <h2 id="h-try">Try an input of your own</h2>
    <div class="try">
      <lh-word-field
        .fieldId=${'try-input'}
        .testid=${T.tryInput}
        .label=${'Input'}
        .placeholder=${j.draft?.shots[0]?.input ?? ''}
        .value=${state.text}
        .submits=${true}
        .lookup=${(text: string) => j.unknownSpans(text)}
        @lh-input=${(e: CustomEvent<string>) => act.text(e.detail)}
        @lh-unknown=${(e: CustomEvent<string[]>) => act.unknown(e.detail)}
        @lh-submit=${act.ask}
      ></lh-word-field>
      <button type="button" class="secondary" data-testid=${T.tryRun} ?disabled=${!j.engine || state.text.trim() === ''} @click=${act.ask}>
        ${asking ? 'Ask again' : 'Ask'}
      </button>
    </div>
    <p class="unknown" data-testid=${T.tryUnknown} role="status">
      ${state.unknown.length > 0
        ? html`This model has never seen ${state.unknown.map((w, i) => html`${i > 0 ? ', ' : ''}<mark>${w}</mark>`)}.`
        : words.length === 0
          ? nothing
          : state.text.trim() === ''
            ? 'It knows only the words it was trained on.'
            : 'It knows every word of this.'}
    </p>
    ${examples.length > 0
      ? html`<ul class="chips" aria-label="Inputs to try">
          ${examples.map(
            (text, i) => html`<li>
              <button type="button" class="chip" data-testid=${T.tryExample(i)} @click=${() => act.text(text)}>${text}</button>
            </li>`,
          )}
        </ul>`
      : nothing}
    <div class="answers">
      ${answer('Base model', T.tryBase, attempt?.base, '')}
      ${answer(
        'Composed',
        T.tryComposed,
        attempt ? attempt.composed : undefined,
        j.run?.outcome ? '' : 'Adapt first: there is nothing composed yet.',
      )}
    </div>
    ${words.length > 0
      ? html`<details class="words" data-testid=${T.words}>
          <summary>What this model understands (${count(words.length)} words)</summary>
          <p class="word-list">${words.join('  ')}</p>
        </details>`
      : nothing}
  </section>`;
}

function answer(title: string, testid: string, a: Answer | undefined, otherwise: string): TemplateResult {
  const done = a?.status === 'done' && a.text === '';
  return html`<div class="answer">
    <h3>${title}</h3>
    <p data-testid=${testid} data-status=${a?.status ?? 'none'} class=${a?.status === 'streaming' ? 'streaming' : ''}>
      ${done ? html`<em>(empty)</em>` : (a?.text ?? (otherwise === '' ? nothing : html`<span class="hint">${otherwise}</span>`))}
    </p>
  </div>`;
}

/** A downloaded base goes by the name that its hub has for it; any other is a folder. */
const python = (j: Journey): string => `from transformers import AutoModelForSeq2SeqLM
from peft import PeftModel

base = AutoModelForSeq2SeqLM.from_pretrained(${JSON.stringify(j.family?.origin === 'kept' ? j.family.base.id : 'base')})
model = PeftModel.from_pretrained(base, "composed")`;

export function takeAway(
  j: Journey,
  act: { module: () => void; record: () => void; copy: (text: string) => void; copied: boolean },
): TemplateResult {
  const ready = j.run?.outcome !== undefined;
  const by = String(j.run?.record?.backend ?? '');
  return html`<section class="panel" aria-labelledby="h-take">
    <h2 id="h-take">Take it with you</h2>
    <p class="hint">
      ${ready
        ? 'The composed module is an ordinary LoRA in PEFT’s format; the record says how it was found.'
        : 'After adapting: the composed module in PEFT’s format, and a record of how it was found.'}
      ${by.includes(', then ') ? `This search was computed by ${by}: its numbers are not quite those that one alone would give.` : nothing}
    </p>
    <div class="row-actions">
      <button type="button" class="secondary" data-testid=${T.downloadModule} ?disabled=${!ready} @click=${act.module}>
        Download module (.zip)
      </button>
      <button type="button" class="secondary" data-testid=${T.downloadRecord} ?disabled=${!ready} @click=${act.record}>
        Download run.json
      </button>
    </div>
    <details class="code">
      <summary>Use it in Python</summary>
      <pre><code>${python(j)}</code></pre>
      <button type="button" class="quiet" data-testid=${T.copyCode} @click=${() => act.copy(python(j))}>${act.copied ? 'Copied' : 'Copy'}</button>
    </details>
  </section>`;
}
