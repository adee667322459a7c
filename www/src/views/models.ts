/** The panel of models: from a hub, from files, and what is stored. */
import { html, nothing, type TemplateResult } from 'lit';
import type { Journey } from '../journey.ts';
import { TABS, type Models, type Tab } from '../models/models.ts';
import { DEMO } from '../state.ts';
import { T } from '../testids.ts';
import { filesPart, type FileActions } from './files.ts';
import { hubPart } from './hub.ts';
import { storedPart } from './stored.ts';

const TITLES: Record<Tab, string> = { hub: 'Download', files: 'Your files', stored: 'Stored here' };

/** The button that opens the panel, in the line that names the model, and the way back. */
export function modelButtons(j: Journey, m: Models): TemplateResult {
  const p = m.download?.progress;
  const another = m.download
    ? `Downloading${p ? `, file ${p.index + 1} of ${p.files}` : ''}`
    : m.waiting
      ? 'Another model (unfinished download)'
      : 'Another model';
  return html`<span class="model-buttons">
    ${j.model.kind === 'demo' && j.model.extra.length === 0
      ? nothing
      : html`<button type="button" class="quiet" data-testid=${T.demo} ?disabled=${j.busy} @click=${() => void j.use(DEMO)}>
          Back to the demo
        </button>`}
    <button
      type="button"
      class="quiet"
      data-testid=${T.models}
      aria-expanded=${m.shown}
      aria-controls="models"
      @click=${() => (m.shown ? m.hide() : void m.show())}
    >
      ${another}
    </button>
  </span>`;
}

export function modelsPanel(j: Journey, m: Models, act: FileActions): TemplateResult | typeof nothing {
  if (!m.shown) return nothing;
  const escape = (e: KeyboardEvent): void => {
    if (e.key !== 'Escape') return;
    e.preventDefault();
    m.hide();
  };
  return html`<section class="models" id="models" aria-labelledby="h-models" data-testid=${T.modelsPanel} @keydown=${escape}>
    <div class="models-head">
      <h2 id="h-models">Another model</h2>
      <fieldset class="segments" aria-label="Where from">
        ${TABS.map(
          (tab) => html`<label>
            <input
              type="radio"
              name="models-tab"
              data-testid=${T.modelsTab(tab)}
              .checked=${m.tab === tab}
              @change=${() => void m.show(tab)}
            /><span>${TITLES[tab]}</span>
          </label>`,
        )}
      </fieldset>
      <button type="button" class="quiet close" data-testid=${T.modelsClose} @click=${() => m.hide()}>Close</button>
    </div>
    ${m.tab === 'hub' ? hubPart(j, m) : m.tab === 'files' ? filesPart(j, m, act) : storedPart(j, m)}
  </section>`;
}
