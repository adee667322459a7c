/**
 * `<lh-rows>`: held-out rows before and after, with a filter; before there is a result, the first rows as they stand.
 *
 * Properties: `rows` (Shot[]), `result` (HeldOut or undefined), `singleName`.
 */
import { html, nothing, type TemplateResult } from 'lit';
import type { HeldOutRow, Prediction, Shot } from '../engine/protocol.ts';
import type { HeldOut } from '../engine/protocol.ts';
import { count } from '../format.ts';
import { T } from '../testids.ts';
import { LightElement } from './light.ts';

export type Filter = 'all' | 'fixed' | 'broken' | 'wrong';
const FILTERS: Record<Filter, { title: string; keep: (row: HeldOutRow) => boolean }> = {
  all: { title: 'All', keep: () => true },
  fixed: { title: 'Fixed', keep: (r) => !r.predictions['base']?.ok && r.predictions['composed']?.ok === true },
  broken: { title: 'Broken', keep: (r) => r.predictions['base']?.ok === true && !r.predictions['composed']?.ok },
  wrong: { title: 'Still wrong', keep: (r) => !r.predictions['base']?.ok && !r.predictions['composed']?.ok },
};
const PAGE = 10;
/** A model that has lost its way repeats itself for hundreds of words: this much shows that. */
const LONGEST = 240;

export class Rows extends LightElement {
  static override properties = {
    rows: { attribute: false },
    result: { attribute: false },
    singleName: {},
    filter: { state: true },
    shown: { state: true },
  };

  declare rows: Shot[];
  declare result: HeldOut | undefined;
  declare singleName: string;
  declare filter: Filter;
  declare shown: number;

  constructor() {
    super();
    this.rows = [];
    this.singleName = '';
    this.filter = 'all';
    this.shown = PAGE;
  }

  protected override willUpdate(changed: Map<string, unknown>): void {
    if (changed.has('result')) {
      this.filter = 'all';
      this.shown = PAGE;
    }
  }

  protected override render(): TemplateResult {
    const all: (Shot | HeldOutRow)[] = this.result?.rows ?? this.rows;
    const kept = this.result ? this.result.rows.filter(FILTERS[this.filter].keep) : all;
    const shown = kept.slice(0, this.shown);
    return html`
      <fieldset class="segments" aria-label="Rows to show">
        ${(Object.keys(FILTERS) as Filter[]).map((name) => {
          const n = this.result ? this.result.rows.filter(FILTERS[name].keep).length : name === 'all' ? all.length : undefined;
          return html`<label>
            <input
              type="radio"
              name="rows-filter"
              data-testid=${T.filter(name)}
              ?disabled=${!this.result}
              .checked=${this.filter === name}
              @change=${() => this.#show(name)}
            /><span>${FILTERS[name].title}${n === undefined ? nothing : html` <small>${count(n)}</small>`}</span>
          </label>`;
        })}
      </fieldset>
      <table class="rows">
        <thead>
          <tr>
            <th scope="col">Input</th>
            <th scope="col">Expected</th>
            <th scope="col">Base model</th>
            <th scope="col">Best single</th>
            <th scope="col">Composed</th>
          </tr>
        </thead>
        <tbody>
          ${shown.map((row) => this.#row(row))}
          ${shown.length === 0 ? html`<tr class="none"><td colspan="5">No rows of this kind.</td></tr>` : nothing}
        </tbody>
      </table>
      ${kept.length > shown.length
        ? html`<button type="button" class="quiet" data-testid=${T.rowsMore} @click=${() => (this.shown += 5 * PAGE)}>
            Show more (${count(kept.length - shown.length)} left)
          </button>`
        : nothing}
    `;
  }

  #show(filter: Filter): void {
    this.filter = filter;
    this.shown = PAGE;
  }

  #row(row: Shot | HeldOutRow): TemplateResult {
    const predictions: Record<string, Prediction> = 'predictions' in row ? row.predictions : {};
    return html`<tr data-testid=${T.row} data-ok=${predictions['composed']?.ok ?? nothing}>
      <td class="text">${row.input}</td>
      <td class="text" data-label="Expected"><span>${row.output}</span></td>
      ${this.#answer('Base model', predictions['base'])} ${this.#answer('Best single', predictions['single'])}
      ${this.#answer('Composed', predictions['composed'])}
    </tr>`;
  }

  #answer(label: string, prediction: Prediction | undefined): TemplateResult {
    if (!prediction) return html`<td class="text pending" data-label=${label}><span aria-hidden="true">·</span></td>`;
    const { ok, text } = prediction;
    return html`<td class="text ${ok ? 'ok' : 'not-ok'}" data-label=${label}>
      <span
        ><span class="flag" role="img" aria-label=${ok ? 'right: ' : 'wrong: '}>${ok ? '✓' : '✗'}</span>${text === ''
          ? html`<em>(empty)</em>`
          : text.length > LONGEST
            ? `${text.slice(0, LONGEST)}…`
            : text}</span
      >
    </td>`;
  }
}
