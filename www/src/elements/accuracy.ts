/**
 * `<lh-accuracy>`: the share of held-out rows each candidate answers exactly, with n and a 95 % interval.
 *
 * Properties: `result` (HeldOut or undefined), `names` (candidates to expect before there is a result), `singleName`.
 */
import { html, nothing, svg, type TemplateResult } from 'lit';
import type { HeldOut } from '../engine/protocol.ts';
import { count, percent } from '../format.ts';
import { CANDIDATES, type CandidateName } from '../state.ts';
import { T } from '../testids.ts';
import { LightElement } from './light.ts';

export const TITLES: Record<CandidateName, string> = {
  base: 'Base model',
  single: 'Best single module',
  uniform: 'All modules equally',
  pass: 'Composed, after adding',
  composed: 'Composed, after the search',
};

export class AccuracyPlot extends LightElement {
  static override properties = { result: { attribute: false }, singleName: {} };

  declare result: HeldOut | undefined;
  declare singleName: string;

  constructor() {
    super();
    this.singleName = '';
  }

  protected override render(): TemplateResult {
    return html`<table class="accuracy">
      <thead class="sr-only">
        <tr>
          <th scope="col">Candidate</th>
          <th scope="col">Plot</th>
          <th scope="col">Exact match</th>
          <th scope="col">95 % interval</th>
        </tr>
      </thead>
      <tbody>
        ${CANDIDATES.map((name) => this.#row(name))}
      </tbody>
      <tfoot aria-hidden="true">
        <tr>
          <td></td>
          <td>
            <svg class="scale" height="18" width="100%">
              ${[0, 25, 50, 75, 100].map(
                (v) => svg`<text x="${v}%" y="13" text-anchor=${v === 0 ? 'start' : v === 100 ? 'end' : 'middle'}>${v}${v === 100 ? ' %' : ''}</text>`,
              )}
            </svg>
          </td>
          <td></td>
          <td></td>
        </tr>
      </tfoot>
    </table>`;
  }

  #row(name: CandidateName): TemplateResult {
    const { result } = this;
    const accuracy = result?.accuracy[name];
    const n = result?.n ?? 0;
    const mine = name === 'composed' || name === 'pass';
    return html`<tr
      data-testid=${T.accuracy(name)}
      data-correct=${accuracy?.correct ?? nothing}
      data-n=${accuracy ? n : nothing}
      class=${mine ? 'mine' : ''}
    >
      <th scope="row">
        ${TITLES[name]}${name === 'single' && this.singleName !== '' ? html`<small>${this.singleName}</small>` : nothing}
      </th>
      <td class="plot">
        <svg height="24" width="100%" aria-hidden="true">
          ${svg`<line class="track" x1="0" x2="100%" y1="12" y2="12"></line>
            ${[0, 25, 50, 75, 100].map((v) => svg`<line class="grid" x1="${v}%" x2="${v}%" y1="0" y2="24"></line>`)}
            ${
              accuracy
                ? svg`<line class="interval" x1="${accuracy.low}%" x2="${accuracy.high}%" y1="12" y2="12"></line>
                    <circle cx="${accuracy.percent}%" cy="12" r="5.5"></circle>`
                : nothing
            }`}
        </svg>
      </td>
      <td class="value">${accuracy ? percent(accuracy.percent) : '–'}</td>
      <td class="interval">
        ${accuracy ? html`${count(accuracy.correct)} of ${count(n)}<small>${accuracy.low.toFixed(0)}–${accuracy.high.toFixed(0)}\u00a0%</small>` : ''}
      </td>
    </tr>`;
  }
}
