/** Files of the visitor's: dropping and picking them, what they are, and opening them. */
import { html, nothing, type TemplateResult } from 'lit';
import { bytes } from '../format.ts';
import type { Journey } from '../journey.ts';
import { fromPicker, type LocalFile } from '../models/local.ts';
import type { Models } from '../models/models.ts';
import { formats } from './hub.ts';
import { T } from '../testids.ts';
import { nameOf } from '../state.ts';

export interface FileActions {
  /** Whether something is being dragged over the element. */
  dragging: boolean;
  add(files: LocalFile[]): void;
}

export function filesPart(j: Journey, m: Models, act: FileActions): TemplateResult {
  const picked = (e: Event): void => {
    const input = e.target as HTMLInputElement;
    if (input.files) act.add(fromPicker(input.files));
    // The same folder may be chosen again.
    input.value = '';
  };
  const folders = 'webkitdirectory' in HTMLInputElement.prototype;
  const { recognised } = m;
  return html`<div class="choice">
    <div>
      <div class="drop ${act.dragging ? 'over' : ''}" data-testid=${T.dropZone}>
        <p>Drop a base model’s folder, adapter folders, or single files here.</p>
        <p class="pickers">
          ${folders
            ? html`<label class="picker"
                ><input type="file" class="sr-only" data-testid=${T.pickFolder} webkitdirectory @change=${picked} /><span>Choose a folder</span></label
              >`
            : nothing}
          <label class="picker"
            ><input type="file" class="sr-only" data-testid=${T.pickFiles} multiple @change=${picked} /><span>Choose files</span></label
          >
        </p>
      </div>
      <p class="hint">
        They stay on this device: the page reads them where they are, and uploads nothing. They are asked for again at the
        next visit.
      </p>
      <p class="hint">
        A base is <code>config.json</code>, <code>tokenizer.json</code> and <code>model.safetensors</code>, its parts with
        their index, a <code>.gguf</code> file, or <code>pytorch_model.bin</code>. A module is <code>adapter_config.json</code> with <code>adapter_model.safetensors</code> or
        <code>adapter_model.bin</code>. Modules alone join the model that is open.
      </p>
    </div>
    <div class="consent" aria-live="polite">
      ${recognised ? found(j, m) : html`<p class="hint">Nothing is chosen yet.</p>`}
    </div>
  </div>`;
}

interface Row {
  gone: { folder: string } | { path: string };
  kind: string;
  name: string;
  detail: string;
  missing: string[];
}

function found(j: Journey, m: Models): TemplateResult {
  const { bases = [], modules = [], others = [] } = m.recognised ?? {};
  const rows: Row[] = [
    ...bases.map(({ folder, name, bytes: n, missing }) => ({ gone: { folder }, kind: 'Base', name, detail: n > 0 ? bytes(n) : '', missing })),
    ...modules.map(({ folder, name, bytes: n, missing }) => ({ gone: { folder }, kind: 'Module', name, detail: n > 0 ? bytes(n) : '', missing })),
    ...others.map((path) => ({ gone: { path }, kind: 'Not used', name: path, detail: '', missing: [] })),
  ];
  const shown = rows.slice(0, MOST_ROWS);
  const { obstacle } = m;
  const joins = bases.length === 0;
  return html`<ul class="local" aria-label="What was recognised">
      ${shown.map(
        ({ gone, kind, name, detail, missing }, i) => html`<li data-testid=${T.local} data-kind=${kind}>
          <span
            ><small>${kind}</small> <span class="name">${name}</span> <small>${detail}</small> ${missing.length > 0
              ? html`<span class="missing">Missing: ${missing.join(', ')}</span>`
              : nothing}</span
          >
          <button type="button" class="remove" data-testid=${T.localRemove(i)} aria-label=${`Remove ${name}`} @click=${() => void m.drop(gone)}>
            <svg viewBox="0 0 16 16" aria-hidden="true"><path d="M4 4l8 8M12 4l-8 8"></path></svg>
          </button>
        </li>`,
      )}
    </ul>
    ${rows.length > shown.length ? html`<p class="hint">And ${rows.length - shown.length} more that are not used.</p>` : nothing}
    ${obstacle === '' ? nothing : html`<p class="note warning" data-testid=${T.localObstacle}>${obstacle}</p>`}
    ${obstacle === '' && joins ? html`<p class="hint">They join ${nameOf(j.model)}, which is loaded again with them.</p>` : nothing}
    ${bases.length === 1 && obstacle === '' ? formats(T.filesWeights, m.filesWeights, (format) => m.holdFiles(format)) : nothing}
    ${j.busy ? html`<p class="note warning">A search is running; end it first.</p>` : nothing}
    <p class="row-actions">
      <button
        type="button"
        class="primary"
        data-testid=${T.openFiles}
        ?disabled=${obstacle !== '' || j.busy || j.loading !== undefined}
        @click=${() => void m.openFiles()}
      >
        ${joins ? 'Add to the open model' : 'Open'}
      </button>
    </p>`;
}

const MOST_ROWS = 60;
