/**
 * `<lorahub-composer>`: the whole job in one element, in an open shadow root.
 *
 * @attr family    where `family.json` lies, relative to the page; default `models/demo/`
 * @attr data-state, data-check   reflected for styling and tests; the values are listed in testids.ts
 *
 * This class does not register itself; main.ts does.
 */
import { html, LitElement, nothing, unsafeCSS, type PropertyValues, type TemplateResult } from 'lit';
import wasmUrl from 'virtual:engine-wasm';
import { Announcer } from './announcer.ts';
import { Engine } from './engine/client.ts';
import type { DeviceReport } from './engine/protocol.ts';
import { startWorker } from './engine/start.ts';
import { bytes, count, millions } from './format.ts';
import { Journey } from './journey.ts';
import after from './styles/after.css?inline';
import styles from './styles/composer.css?inline';
import results from './styles/results.css?inline';
import steps from './styles/steps.css?inline';
import tokens from './styles/tokens.css?inline';
import { T } from './testids.ts';
import { heldOut, searchResult, takeAway, tryOut } from './views/results.ts';
import { actionBar, examplesStep, searchStep, taskStep } from './views/steps.ts';
import { WakeLock } from './wake-lock.ts';

const STAGES = {
  engine: 'Starting the engine',
  family: 'Reading the list of modules and tasks',
  base: 'Loading the base model',
  modules: 'Loading the modules',
  prepare: 'Getting ready',
} as const;

/** Why the model is where it is, in the line that names the device. */
const REASONS: Record<DeviceReport['reason'], string> = {
  asked: 'as chosen',
  measured: 'the faster one here',
  software: 'no GPU but a software one',
  no_adapter: 'no GPU here',
  adapter_too_small: 'the GPU is too small',
  self_test: 'the GPU failed its self-test',
  device_lost: 'the GPU stopped',
  device_memory: 'the GPU’s memory was full',
  device: 'the GPU failed',
};

export class LorahubComposer extends LitElement {
  static override styles = [tokens, styles, steps, results, after].map(unsafeCSS);
  static override properties = {
    family: {},
    tryText: { state: true },
    unknown: { state: true },
    copied: { state: true },
    announcement: { state: true },
  };

  declare family: string;
  declare tryText: string;
  declare unknown: string[];
  declare copied: boolean;
  declare announcement: string;

  readonly #journey = new Journey(
    (options, signal) =>
      Engine.open({ ...options, familyUrl: new URL(this.family, document.baseURI).href, wasmUrl, start: startWorker }, signal),
    () => this.requestUpdate(),
  );
  #triedTask: string | undefined;
  readonly #wakeLock = new WakeLock();
  readonly #announcer = new Announcer((text) => (this.announcement = text));
  #lastState = '';
  /** Whether Adapt, Pause or Cancel had the focus before an update. */
  #focusInBar = false;

  constructor() {
    super();
    this.family = 'models/demo/';
    this.tryText = '';
    this.unknown = [];
    this.copied = false;
    this.announcement = '';
  }

  override connectedCallback(): void {
    super.connectedCallback();
    void this.#journey.start();
  }

  override disconnectedCallback(): void {
    super.disconnectedCallback();
    this.#journey.close();
    this.#wakeLock.release();
  }

  get #state(): string {
    const j = this.#journey;
    // A worker that is replaced behind a cancelled search is no concern of the reader's.
    if (j.loading && j.run?.status !== 'cancelled') return 'loading';
    if (!j.engine && !j.loading) return 'unavailable';
    return j.run?.status ?? 'ready';
  }

  protected override willUpdate(): void {
    const j = this.#journey;
    const state = this.#state;
    if (j.draft && j.draft.task.id !== this.#triedTask) {
      // Something to ask at once, and nothing left over from a task with other words.
      this.#triedTask = j.draft.task.id;
      this.tryText = j.draft.task.examples[0] ?? '';
    }
    this.dataset['state'] = state;
    this.dataset['check'] = j.check?.status ?? 'none';
    this.#focusInBar = (this.renderRoot as ShadowRoot).activeElement?.closest('.action') != null;
    if (state === 'running' || j.check?.status === 'running') this.#wakeLock.hold();
    else this.#wakeLock.release();
    this.#announcer.observe(j, state);
  }

  protected override updated(_changed: PropertyValues): void {
    const state = this.#state;
    const before = this.#lastState;
    this.#lastState = state;
    const began = state === 'running' && before !== 'running' && before !== 'paused';
    if (began && matchMedia('(max-width: 62rem)').matches) {
      const calm = matchMedia('(prefers-reduced-motion: reduce)').matches;
      this.renderRoot.querySelector('.results')?.scrollIntoView({ block: 'start', behavior: calm ? 'auto' : 'smooth' });
    }
    // Adapt gives way to Pause and Cancel in the same place, and back: a keyboard that was there stays there.
    const root = this.renderRoot as ShadowRoot;
    if (this.#focusInBar && root.activeElement === null) {
      const heirs = state === 'running' ? [T.cancel] : [T.goOn, T.adapt];
      const heir = heirs.map((id) => root.querySelector<HTMLElement>(`[data-testid=${id}]`)).find((found) => found !== null);
      heir?.focus({ preventScroll: true });
    }
  }

  protected override render(): TemplateResult {
    const j = this.#journey;
    return html`
      ${this.#status(j)}
      ${j.draft ? this.#journeyView(j) : this.#loadingView(j)} ${this.#problems(j)}
      <div class="sr-only" role="status" data-testid=${T.status}>${this.announcement}</div>
    `;
  }

  #status(j: Journey): TemplateResult {
    const { family, device } = j;
    const text = family && device
      ? html`<span>${family.name}</span>
          <span>${millions(family.base.params)} parameters, ${bytes(family.base.bytes)}</span>
          <span>${count(family.modules.length)} modules</span>
          <span
            >runs on
            <b data-testid=${T.backend} data-kind=${device.kind} data-reason=${device.reason} data-choice=${device.choice}>${device.name}</b></span
          >
          <span>${REASONS[device.reason]}</span>`
      : j.loading
        ? html`<span>${STAGES[j.loading.stage]}…</span>`
        : html`<span>The engine is not running.</span>`;
    return html`<p class="engine" data-testid=${T.engine}>${text}</p>`;
  }

  #loadingView(j: Journey): TemplateResult {
    const p = j.loading;
    const known = p !== undefined && p.total > 0;
    return html`<div class="loading" aria-busy=${p !== undefined}>
      ${p
        ? html`<label for="load">${STAGES[p.stage]}</label>
            <progress id="load" data-testid=${T.loadProgress} max=${known ? p.total : nothing} .value=${known ? p.loaded : 0}></progress>
            <p data-testid=${T.loadText}>${known ? `${bytes(p.loaded)} of ${bytes(p.total)}` : ' '}</p>`
        : html`<p>The model could not be loaded.</p>
            <button type="button" class="secondary" @click=${() => void j.start()}>Try again</button>`}
    </div>`;
  }

  #journeyView(j: Journey): TemplateResult {
    return html`<div class="columns">
      <div class="steps">
        ${taskStep(j)}
        ${examplesStep(j, { addShot: () => void this.#addShot(), paste: (into) => this.#paste(into) })}
        ${searchStep(j)} ${actionBar(j)}
      </div>
      <div class="results">
        ${searchResult(j)}
      </div>
      <div class="after">
        ${heldOut(j)}
        ${tryOut(
          j,
          { text: this.tryText, unknown: this.unknown },
          {
            text: (t) => (this.tryText = t),
            unknown: (w) => (this.unknown = w),
            ask: () => void j.ask(this.tryText),
          },
        )}
        ${takeAway(j, {
          module: () => void this.#downloadModule(),
          record: () => this.#downloadRecord(),
          copy: (text) => void this.#copy(text),
          copied: this.copied,
        })}
      </div>
    </div>`;
  }

  #problems(j: Journey): TemplateResult {
    return html`<div class="problems" role="region" aria-label="Problems">
      ${j.problems.map(
        (p) => html`<div class="problem" role="alert" data-testid=${T.problem} data-code=${p.code}>
          <p class="problem-what" data-testid=${T.problemMessage}>${p.what}</p>
          <p data-testid=${T.problemRemedy}>${p.remedy}</p>
          <p class="problem-foot">
            <code data-testid=${T.problemCode}>${p.code}</code>
            ${p.action === 'restart'
              ? html`<button type="button" class="secondary" data-testid=${T.problemRestart} @click=${() => void j.start()}>
                  Start again
                </button>`
              : nothing}
            <button type="button" class="quiet" data-testid=${T.problemDismiss} @click=${() => j.dismiss(p.id)}>Dismiss</button>
          </p>
        </div>`,
      )}
    </div>`;
  }

  async #addShot(): Promise<void> {
    const key = this.#journey.addShot();
    await this.updateComplete;
    const fields = [...this.renderRoot.querySelectorAll<HTMLElement & { fieldId: string }>('lh-word-field')];
    fields.find((f) => f.fieldId === `shot-in-${key}`)?.focus();
  }

  #paste(into: 'shots' | 'test'): void {
    const field = this.renderRoot.querySelector<HTMLTextAreaElement>(`[data-testid=${T.pasteText}]`);
    if (!field || this.#journey.paste(field.value, into) === 0) return;
    field.value = '';
    field.closest('details')?.removeAttribute('open');
  }

  async #downloadModule(): Promise<void> {
    const exported = await this.#journey.exportModule();
    if (exported) download(exported.name, new Blob([exported.bytes], { type: 'application/zip' }));
  }

  #downloadRecord(): void {
    const record = this.#journey.runRecord();
    if (record !== undefined) download('run.json', new Blob([record], { type: 'application/json' }));
  }

  async #copy(text: string): Promise<void> {
    try {
      await navigator.clipboard.writeText(text);
      this.copied = true;
      setTimeout(() => (this.copied = false), 2000);
    } catch (cause) {
      this.#journey.report(
        Object.assign(new Error('the browser did not allow copying; select the text and copy it by hand', { cause }), { code: 'clipboard' }),
      );
    }
  }
}

/** Hands a file to the browser's own download. */
function download(name: string, blob: Blob): void {
  const url = URL.createObjectURL(blob);
  const link = document.createElement('a');
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
