/** The left column: which task, its examples, how long to search, and the bar with Adapt. */
import { html, nothing, type TemplateResult } from 'lit';
import { live } from 'lit/directives/live.js';
import { repeat } from 'lit/directives/repeat.js';
import type { DeviceChoice, DeviceReport, FamilyInfo, ObjectiveName, Rule, TaskInfo } from '../engine/protocol.ts';
import { about, bytes, count, duration, millis, rate } from '../format.ts';
import type { Journey } from '../journey.ts';
import { BUDGETS, OWN, type DraftShot } from '../state.ts';
import { T } from '../testids.ts';

export function taskStep(j: Journey): TemplateResult {
  const tasks = j.family?.tasks ?? [];
  const kinds = [...new Set(tasks.map((t) => t.kind))];
  const draft = j.draft;
  if (tasks.length === 0) return ownTask(j);
  return html`<section class="step" aria-labelledby="h-task">
    <h2 id="h-task"><span class="number">1</span> Pick a task</h2>
    ${kinds.map(
      (kind) => html`<fieldset class="tasks" ?disabled=${j.busy}>
        <legend>${kind}</legend>
        ${tasks.filter((t) => t.kind === kind).map((t) => taskRadio(j, t.id, t.title))}
      </fieldset>`,
    )}
    <fieldset class="tasks" ?disabled=${j.busy}>
      <legend>Something else</legend>
      ${taskRadio(j, OWN, 'Your own task')}
    </fieldset>
    <p class="summary" data-testid=${T.taskSummary}>${draft ? summary(draft.task) : nothing}</p>
  </section>`;
}

/** With a model that brings no tasks. */
function ownTask(j: Journey): TemplateResult {
  const modules = j.family?.modules.length ?? 0;
  return html`<section class="step" aria-labelledby="h-task">
    <h2 id="h-task"><span class="number">1</span> Your task</h2>
    <p class="summary" data-testid=${T.taskSummary}>
      Write or paste a few examples of what you want, five or so, and further down some more that the search does not see,
      to check the result on.
    </p>
    ${modules === 0
      ? html`<p class="note warning" data-testid=${T.noModules}>
          There is nothing to mix yet: this base is open without modules. Add some under Another model.
        </p>`
      : nothing}
  </section>`;
}

function summary(task: TaskInfo): string {
  return task.summary;
}

function taskRadio(j: Journey, id: string, title: string): TemplateResult {
  return html`<label class="task">
    <input
      type="radio"
      name="task"
      value=${id}
      data-testid=${T.task(id)}
      .checked=${j.draft?.task.id === id}
      @change=${() => j.pick(id)}
    /><span>${title}</span>
  </label>`;
}

export function examplesStep(j: Journey, act: { addShot: () => void; paste: (into: 'shots' | 'test') => void }): TemplateResult {
  const draft = j.draft;
  const lookup = (text: string): Promise<[number, number][]> => j.unknownSpans(text);
  return html`<section class="step" aria-labelledby="h-examples">
    <h2 id="h-examples"><span class="number">2</span> ${draft?.own ? 'Write the examples' : 'Check the examples'}</h2>
    <p class="hint">All the model gets to see of the task. ${draft?.own ? nothing : 'Edit them as you like.'}</p>
    <ol class="shots">
      ${repeat(
        draft?.shots ?? [],
        (shot) => shot.key,
        (shot, i) => shotRow(j, shot, i, lookup),
      )}
    </ol>
    <div class="row-actions">
      <button type="button" class="quiet" data-testid=${T.shotAdd} ?disabled=${j.busy} @click=${act.addShot}>Add an example</button>
      <button
        type="button"
        class="quiet"
        data-testid=${T.shotsRestore}
        ?disabled=${j.busy || !j.edited}
        @click=${() => j.restore()}
      >
        Restore
      </button>
    </div>
    <details class="paste" data-testid=${T.paste}>
      <summary>Paste rows</summary>
      <label for="paste-text">One row a line: input and output divided by a tab or <code>=&gt;</code>, or JSON Lines</label>
      <textarea id="paste-text" data-testid=${T.pasteText} rows="4" spellcheck="false" ?disabled=${j.busy}></textarea>
      <div class="row-actions">
        <button type="button" class="quiet" data-testid=${T.pasteShots} ?disabled=${j.busy} @click=${() => act.paste('shots')}>
          Add as examples
        </button>
        <button type="button" class="quiet" data-testid=${T.pasteTest} ?disabled=${j.busy} @click=${() => act.paste('test')}>
          Use as held-out rows
        </button>
      </div>
    </details>
  </section>`;
}

function shotRow(
  j: Journey,
  shot: DraftShot,
  i: number,
  lookup: (text: string) => Promise<[number, number][]>,
): TemplateResult {
  return html`<li class="shot">
    <lh-word-field
      class="shot-input"
      .fieldId=${`shot-in-${shot.key}`}
      .testid=${T.shotInput(i)}
      .label=${`Example ${i + 1}, input`}
      .placeholder=${'input'}
      .value=${shot.input}
      .disabled=${j.busy}
      .lookup=${lookup}
      @lh-input=${(e: CustomEvent<string>) => j.editShot(shot.key, { input: e.detail })}
    ></lh-word-field>
    <lh-word-field
      class="shot-output"
      .fieldId=${`shot-out-${shot.key}`}
      .testid=${T.shotOutput(i)}
      .label=${`Example ${i + 1}, output`}
      .placeholder=${'output'}
      .value=${shot.output}
      .disabled=${j.busy}
      .lookup=${lookup}
      @lh-input=${(e: CustomEvent<string>) => j.editShot(shot.key, { output: e.detail })}
    ></lh-word-field>
    <button
      type="button"
      class="remove"
      data-testid=${T.shotRemove(i)}
      aria-label=${`Remove example ${i + 1}`}
      ?disabled=${j.busy}
      @click=${() => j.removeShot(shot.key)}
    >
      <svg viewBox="0 0 16 16" aria-hidden="true"><path d="M4 4l8 8M12 4l-8 8"></path></svg>
    </button>
  </li>`;
}

export function searchStep(j: Journey): TemplateResult {
  const { settings } = j;
  const family = j.family;
  const rule = settings.rule ?? family?.rule ?? 'exact';
  const integer = (e: Event): number => (e.target as HTMLInputElement).valueAsNumber;
  return html`<section class="step" aria-labelledby="h-search">
    <h2 id="h-search"><span class="number">3</span> Set the search</h2>
    <div class="settings">
      <label class="setting">
        <span class="label">Evaluations</span>
        <input
          type="number"
          data-testid=${T.budget}
          min=${BUDGETS.least}
          max=${BUDGETS.most}
          step="10"
          inputmode="numeric"
          .value=${String(settings.budget)}
          ?disabled=${j.busy}
          @change=${(e: Event) => j.configure({ budget: integer(e) })}
        />
      </label>
      <label class="setting">
        <span class="label">Seed</span>
        <input
          type="number"
          data-testid=${T.seed}
          min="0"
          step="1"
          inputmode="numeric"
          .value=${String(settings.seed)}
          ?disabled=${j.busy}
          @change=${(e: Event) => j.configure({ seed: integer(e) })}
        />
      </label>
      <div class="setting">
        <span class="label">Rule</span>
        <span class="fact">${rule}</span>
      </div>
    </div>
    <details class="advanced" data-testid=${T.advanced}>
      <summary>Advanced</summary>
      <label class="setting wide">
        <span class="label">Composition rule</span>
        <select
          data-testid=${T.rule}
          ?disabled=${j.busy}
          @change=${(e: Event) => j.configure({ rule: (e.target as HTMLSelectElement).value as Rule })}
        >
          <option value="exact" ?selected=${rule === 'exact'}>exact: add up the changes, each with its weight</option>
          <option value="reference" ?selected=${rule === 'reference'} ?disabled=${family?.noReference !== undefined} title=${family?.noReference ?? nothing}>reference: the paper’s, add up the factors</option>
        </select>
      </label>
      <label class="setting wide">
        <span class="label">Objective</span>
        <select
          data-testid=${T.objective}
          ?disabled=${j.busy}
          @change=${(e: Event) => j.configure({ objective: (e.target as HTMLSelectElement).value as ObjectiveName })}
        >
          <option value="normalised" ?selected=${settings.objective !== 'reference'}>normalised: loss + 0.05 × mean |weight|</option>
          <option value="reference" ?selected=${settings.objective === 'reference'}>reference: loss ÷ examples + the same</option>
        </select>
      </label>
      ${deviceSetting(j)}
      <p class="hint">
        ${family ? ruleNote(family) : nothing} The seed decides every random
        number: the same seed finds the same weights again.
      </p>
    </details>
  </section>`;
}

function ruleNote({ origin, rule, noReference }: FamilyInfo): string {
  if (noReference !== undefined) return 'These modules have different ranks, which only the exact rule can mix.';
  return origin === 'files'
    ? 'Nothing says which rule these modules were trained for, so the paper’s is used.'
    : `These modules were trained for the ${rule} rule.`;
}

const DEVICES: Record<DeviceChoice, string> = {
  auto: 'the faster one, measured at the start',
  webgpu: 'the GPU, through WebGPU',
  cpu: 'the CPU, through WebAssembly',
};

function deviceSetting(j: Journey): TemplateResult {
  const { device } = j;
  const choice = j.moving ?? device?.choice ?? 'auto';
  const absent = !('gpu' in navigator);
  return html`<label class="setting wide">
      <span class="label">Compute on</span>
      <select
        data-testid=${T.device}
        .value=${live(choice)}
        ?disabled=${j.busy || !j.engine || j.moving !== undefined}
        @change=${(e: Event) => void j.setDevice((e.target as HTMLSelectElement).value as DeviceChoice)}
      >
        ${(Object.keys(DEVICES) as DeviceChoice[]).map(
          (name) => html`<option value=${name} ?selected=${name === choice} ?disabled=${name === 'webgpu' && absent}>
            ${DEVICES[name]}${name === 'webgpu' && absent ? ' (not in this browser)' : nothing}
          </option>`,
        )}
      </select>
    </label>
    <p class="hint device" data-testid=${T.deviceDetail}>
      ${j.moving ? 'Moving the model…' : device ? deviceDetail(device) : nothing}
      ${device && !j.moving && !j.busy && GAVE_OUT.has(device.reason)
        ? html`<button type="button" class="quiet" data-testid=${T.deviceRetry} @click=${() => void j.setDevice(device.choice)}>Try the GPU again</button>`
        : nothing}
    </p>`;
}

/** After these another try may do better; the others would only repeat themselves. */
const GAVE_OUT: ReadonlySet<DeviceReport['reason']> = new Set(['device_lost', 'device_memory', 'device']);

function deviceDetail({ detail, adapter, cpuMs, gpuMs }: DeviceReport): string {
  const measured = cpuMs !== null && gpuMs !== null ? ` One block: ${millis(gpuMs)} on the GPU, ${millis(cpuMs)} on the CPU.` : '';
  return `${detail}${measured}${adapter === null ? '' : ` The GPU is ${adapter}.`}`;
}

/** The bar that stays in sight: the estimate and Adapt, then how far it is, Pause and Cancel. */
export function actionBar(j: Journey): TemplateResult {
  const run = j.run;
  return html`<div class="action" role="group" aria-label="Adapt">
    ${j.busy && run
      ? html`<div class="action-text">
            <progress max=${run.settings.budget} .value=${run.progress?.evaluations ?? 0} aria-label="Evaluations done"></progress>
            <span>${run.status === 'paused' ? 'Paused' : remaining(j)}</span>
          </div>
          <button
            type="button"
            class="secondary"
            data-testid=${run.status === 'paused' ? T.resume : T.pause}
            @click=${() => (run.status === 'paused' ? j.resume() : j.pause())}
          >
            ${run.status === 'paused' ? 'Resume' : 'Pause'}
          </button>
          <button type="button" class="secondary" data-testid=${T.cancel} @click=${() => j.cancel()}>Cancel</button>`
      : html`<p class="action-text" data-testid=${T.estimate}>
            ${j.estimate
              ? html`<span>${about(j.estimate.seconds)}</span><span>${bytes(j.estimate.bytes)} of memory</span>`
              : html`<span>${wanting(j)}</span>`}
          </p>
          ${j.canGoOn
            ? html`<button type="button" class="secondary" data-testid=${T.goOn} @click=${() => void j.goOn()}>Go on</button>`
            : nothing}
          <button
            type="button"
            class="primary"
            data-testid=${T.adapt}
            ?disabled=${!(j.engine || j.loading) || !j.draft || j.moving !== undefined || j.family?.modules.length === 0}
            @click=${() => void j.adapt()}
          >
            ${run ? 'Adapt again' : 'Adapt'}
          </button>`}
  </div>`;
}

/** What there is no estimate for want of. */
function wanting(j: Journey): string {
  if (j.family?.modules.length === 0) return 'Needs a module';
  const written = j.draft?.shots.some((s) => s.input.trim() !== '' && s.output.trim() !== '');
  return written ? 'Estimating…' : 'Needs an example';
}

function remaining(j: Journey): string {
  const p = j.run?.progress;
  if (!p) return 'Starting…';
  return `${count(p.evaluations)} of ${count(p.budget)} at ${rate(p.evaluationsPerSecond)}/s, ${duration(p.secondsLeft)} left`;
}
