/**
 * `<lorahub-composer>`: the whole job in one element, in an open shadow root.
 *
 * @attr family    where `family.json` lies, relative to the page; default `models/demo/`
 * @attr hub       the hub or mirror that other models are downloaded from, on consent; default that of the build
 * @attr manifest  a manifest of other models, relative to the page; default the public one, which is built in
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
import { EngineError } from './engine/error.ts';
import { Library } from './engine/library-client.ts';
import { HUB } from './models/hub.ts';
import { fromDrop } from './models/local.ts';
import { Models } from './models/models.ts';
import { Remembered } from './remembered.ts';
import { wishOf } from './state.ts';
import after from './styles/after.css?inline';
import styles from './styles/composer.css?inline';
import results from './styles/results.css?inline';
import models from './styles/models.css?inline';
import steps from './styles/steps.css?inline';
import tokens from './styles/tokens.css?inline';
import { T } from './testids.ts';
import { heldOut, searchResult, takeAway, tryOut } from './views/results.ts';
import { modelButtons, modelsPanel } from './views/models.ts';
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

/** Of the journey's view: the task, the other steps, the search's result, and what comes after it. */
const PARTS = 4;

export class LorahubComposer extends LitElement {
  static override styles = [tokens, styles, steps, results, after, models].map(unsafeCSS);
  static override properties = {
    family: {},
    hub: {},
    manifest: {},
    dragging: { state: true },
    tryText: { state: true },
    unknown: { state: true },
    copied: { state: true },
    drawn: { state: true },
    announcement: { state: true },
  };

  declare family: string;
  declare hub: string;
  declare manifest: string;
  declare dragging: boolean;
  declare tryText: string;
  declare unknown: string[];
  declare copied: boolean;
  /** How many parts of the journey there are so far: all at once would be a long task for a slow machine. */
  declare drawn: number;
  declare announcement: string;

  readonly #remembered = new Remembered();
  readonly #journey = new Journey(
    (model, options, signal) =>
      Engine.open({ ...options, model: wishOf(model, new URL(this.family, document.baseURI).href), wasmUrl, start: startWorker }, signal),
    () => this.requestUpdate(),
    this.#remembered,
  );
  readonly #models = new Models(
    {
      library: (onCrash) => {
        const manifest = this.manifest === '' ? {} : { manifestUrl: new URL(this.manifest, document.baseURI).href };
        return Library.open({ place: { address: this.hub, ...manifest }, wasmUrl, start: startWorker, onCrash });
      },
      use: (model) => this.#journey.use(model),
      model: () => this.#journey.model,
      secondsFor: (config) => (this.#journey.busy ? undefined : this.#journey.engine?.secondsFor(config)),
      fail: (thrown) => this.#journey.report(thrown),
      changed: () => this.requestUpdate(),
    },
    this.#remembered,
  );
  #triedTask: string | undefined;
  readonly #wakeLock = new WakeLock();
  readonly #announcer = new Announcer((text) => (this.announcement = text));
  #lastState = '';
  /** Whether Adapt, Pause or Cancel had the focus before an update. */
  #focusInBar = false;
  /** Whether something in the panel of models had it. */
  #focusInPanel = false;

  constructor() {
    super();
    this.family = 'models/demo/';
    this.hub = HUB;
    this.manifest = '';
    this.dragging = false;
    this.tryText = '';
    this.unknown = [];
    this.copied = false;
    this.drawn = 1;
    this.announcement = '';
  }

  override connectedCallback(): void {
    super.connectedCallback();
    for (const [type, listener] of this.#drops) this.addEventListener(type, listener);
    void this.#journey.begin();
  }

  override disconnectedCallback(): void {
    super.disconnectedCallback();
    for (const [type, listener] of this.#drops) this.removeEventListener(type, listener);
    this.#journey.close();
    this.#models.close();
    this.#wakeLock.release();
  }

  /** Files may be dropped anywhere on the element. */
  readonly #drops: [string, (event: Event) => void][] = [
    ['dragover', (event) => this.#dragOver(event as DragEvent)],
    ['dragleave', (event) => {
      if (!(event as DragEvent).relatedTarget) this.dragging = false;
    }],
    ['drop', (event) => void this.#dropped(event as DragEvent)],
  ];

  #dragOver(event: DragEvent): void {
    if (!event.dataTransfer?.types.includes('Files')) return;
    event.preventDefault();
    event.dataTransfer.dropEffect = 'copy';
    this.dragging = true;
    const m = this.#models;
    if (!m.shown || m.tab !== 'files') void m.show('files');
  }

  async #dropped(event: DragEvent): Promise<void> {
    if (!event.dataTransfer?.types.includes('Files')) return;
    event.preventDefault();
    this.dragging = false;
    try {
      const files = await fromDrop(event.dataTransfer);
      await this.#models.show('files');
      await this.#models.add(files);
    } catch (thrown) {
      this.#journey.report(new EngineError('file_unreadable', 'a file that was dropped could not be read; drop it again, or choose it', thrown));
    }
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
    const focused = (this.renderRoot as ShadowRoot).activeElement;
    this.#focusInBar = focused?.closest('.action') != null;
    this.#focusInPanel = focused?.closest('.models') != null;
    if (state === 'running' || j.check?.status === 'running') this.#wakeLock.hold();
    else this.#wakeLock.release();
    this.#announcer.observe(j, state);
    this.#announcer.download(this.#models.download, this.#models.note);
  }

  protected override updated(_changed: PropertyValues): void {
    const state = this.#state;
    const before = this.#lastState;
    this.#lastState = state;
    const next = this.drawn + 1;
    if (this.#journey.draft && next <= PARTS) afterFrame(() => (this.drawn = Math.max(this.drawn, next)));
    const began = state === 'running' && before !== 'running' && before !== 'paused';
    if (began && matchMedia('(max-width: 62rem)').matches) {
      const calm = matchMedia('(prefers-reduced-motion: reduce)').matches;
      this.renderRoot.querySelector('.results')?.scrollIntoView({ block: 'start', behavior: calm ? 'auto' : 'smooth' });
    }
    // Adapt gives way to Pause and Cancel in the same place, and back: a keyboard that was there stays there.
    const root = this.renderRoot as ShadowRoot;
    if (this.#focusInPanel && !this.#models.shown && root.activeElement === null) {
      root.querySelector<HTMLElement>(`[data-testid=${T.models}]`)?.focus({ preventScroll: true });
    }
    if (this.#focusInBar && root.activeElement === null) {
      const heirs = state === 'running' ? [T.cancel] : [T.goOn, T.adapt];
      const heir = heirs.map((id) => root.querySelector<HTMLElement>(`[data-testid=${id}]`)).find((found) => found !== null);
      heir?.focus({ preventScroll: true });
    }
  }

  protected override render(): TemplateResult {
    const j = this.#journey;
    const note = j.modelNote ?? j.family?.note;
    return html`
      ${this.#status(j)}
      ${note === undefined ? nothing : html`<p class="note moved" role="status" data-testid=${T.modelNote}>${note}</p>`}
      ${modelsPanel(j, this.#models, { dragging: this.dragging, add: (files) => void this.#models.add(files) })}
      ${j.draft ? this.#journeyView(j) : this.#loadingView(j)} ${this.#problems(j)}
      <div class="sr-only" role="status" data-testid=${T.status}>${this.announcement}</div>
    `;
  }

  #status(j: Journey): TemplateResult {
    const { family, device } = j;
    const text = family && device
      ? html`<span>${family.name}</span>
          <span>${millions(family.base.params)} parameters, ${bytes(family.base.bytes)}</span>
          <span>${count(family.modules.length)} ${family.modules.length === 1 ? 'module' : 'modules'}</span>
          ${j.model.kind === 'demo' || j.model.weights === 'f32' ? nothing : html`<span>weights held as ${j.model.weights}</span>`}
          ${family.origin === 'family' || family.license === '' ? nothing : html`<span>licence ${family.license}</span>`}
          <span
            >runs on
            <b data-testid=${T.backend} data-kind=${device.kind} data-reason=${device.reason} data-choice=${device.choice}>${device.name}</b></span
          >
          <span>${REASONS[device.reason]}</span>`
      : j.loading
        ? html`<span>${STAGES[j.loading.stage]}…</span>`
        : html`<span>The engine is not running.</span>`;
    return html`<p class="engine" data-testid=${T.engine}>${text}${modelButtons(j, this.#models)}</p>`;
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
        ${this.drawn < 2
          ? nothing
          : html`${examplesStep(j, { addShot: () => void this.#addShot(), paste: (into) => this.#paste(into) })}
            ${searchStep(j)} ${actionBar(j)}`}
      </div>
      <div class="results">
        ${this.drawn < 3 ? nothing : searchResult(j)}
      </div>
      <div class="after">
        ${this.drawn < PARTS ? nothing : this.#afterView(j)}
      </div>
    </div>`;
  }

  #afterView(j: Journey): TemplateResult {
    return html`
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
    `;
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

/** In a task of its own once what was drawn is on the screen, or after a moment in a tab that nobody sees. */
function afterFrame(then: () => void): void {
  if (document.hidden) setTimeout(then, 0);
  else requestAnimationFrame(() => setTimeout(then, 0));
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
