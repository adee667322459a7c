/**
 * `<lh-loss-chart>`: every evaluation as a dot, the best so far as a step line, and where the base model and the best
 * single module stand; the same as a table at the press of a key.
 *
 * Properties: `points`, `budget`, `base`, `single` (objectives, or null), `singleName`.
 */
import { html, nothing, svg, type TemplateResult } from 'lit';
import { bestSoFar, dots, linearScale, logScale, lossRange, phases, steps, type BestPoint, type Box } from '../chart.ts';
import type { HistoryPoint, Phase } from '../engine/protocol.ts';
import { count, loss } from '../format.ts';
import { T } from '../testids.ts';
import { LightElement } from './light.ts';

export const PHASES: Record<Phase, string> = {
  singles: 'each module alone',
  pass: 'adding modules',
  search: 'CMA-ES search',
};
/** In a band too narrow for the words above. */
const SHORT_PHASES: Record<Phase, string> = { singles: 'alone', pass: 'adding', search: 'search' };
const HEIGHT = 300;

export class LossChart extends LightElement {
  static override properties = {
    points: { attribute: false },
    budget: { type: Number },
    base: { attribute: false },
    single: { attribute: false },
    singleName: {},
    table: { state: true },
    width: { state: true },
    hovered: { state: true },
  };

  declare points: HistoryPoint[];
  declare budget: number;
  declare base: number | null;
  declare single: number | null;
  declare singleName: string;
  declare table: boolean;
  declare width: number;
  declare hovered: BestPoint | undefined;

  readonly #resize = new ResizeObserver(([entry]) => {
    if (entry) this.width = Math.round(entry.contentRect.width);
  });

  constructor() {
    super();
    this.points = [];
    this.budget = 200;
    this.base = null;
    this.single = null;
    this.singleName = '';
    this.table = false;
    this.width = 0;
  }

  override connectedCallback(): void {
    super.connectedCallback();
    this.#resize.observe(this);
  }

  override disconnectedCallback(): void {
    super.disconnectedCallback();
    this.#resize.disconnect();
  }

  protected override render(): TemplateResult {
    const best = bestSoFar(this.points);
    return html`
      <figure class="chart">
        <figcaption>
          <span class="chart-title" id="chart-title">Loss on your examples, by evaluation</span>
          <fieldset class="segments" aria-label="Show as">
            ${this.#view(false, 'Chart', T.showChart)} ${this.#view(true, 'Table', T.showTable)}
          </fieldset>
        </figcaption>
        <div class="chart-body">${this.table ? this.#table(best) : this.#chart(best)}</div>
        <p class="readout" aria-hidden="true">${this.#readout()}</p>
      </figure>
    `;
  }

  #view(table: boolean, text: string, testid: string): TemplateResult {
    return html`<label>
      <input
        type="radio"
        name="chart-view"
        data-testid=${testid}
        .checked=${this.table === table}
        @change=${() => (this.table = table)}
      /><span>${text}</span>
    </label>`;
  }

  #readout(): TemplateResult | string {
    const p = this.hovered;
    if (!p) {
      return html`<span class="key key-dot">one evaluation</span><span class="key key-line">best so far</span>`;
    }
    return html`Evaluation ${p.evaluation}, ${PHASES[p.phase]}: ${loss(p.objective)}, best so far ${loss(p.best)}`;
  }

  #chart(best: BestPoint[]): TemplateResult {
    const narrow = this.width < 520;
    const box: Box = { left: 44, top: 30, width: Math.max(120, this.width - 52), height: HEIGHT - 30 - 34 };
    const x = linearScale(this.budget, box, narrow ? 4 : 8);
    const values = this.points.map((p) => p.objective ?? Infinity);
    const [low, high] = lossRange(this.base === null ? values : [...values, this.base]);
    const y = logScale(low, high, box);
    const bottom = box.top + box.height;
    const right = box.left + box.width;
    const summary = best.length
      ? `${best.length} evaluations; the best reached ${loss(best.at(-1)?.best)}` +
        (this.base === null ? '.' : `, the base model alone ${loss(this.base)}.`)
      : 'No evaluations yet.';
    return html`<svg
      data-testid=${T.chart}
      role="img"
      aria-labelledby="chart-title chart-desc"
      width=${Math.max(this.width, 172)}
      height=${HEIGHT}
      @pointermove=${(e: PointerEvent) => this.#hover(e, x, best)}
      @pointerleave=${() => (this.hovered = undefined)}
    >
      <desc id="chart-desc">${summary}</desc>
      ${y.ticks.map(
        (tick) => svg`<g class="tick">
          <line x1=${box.left} x2=${right} y1=${y(tick)} y2=${y(tick)}></line>
          <text x=${box.left - 8} y=${y(tick)} dy="0.32em" text-anchor="end">${tick}</text>
        </g>`,
      )}
      ${x.ticks.map((tick) => svg`<text class="tick" x=${x(tick)} y=${bottom + 20} text-anchor="middle">${count(tick)}</text>`)}
      ${phases(this.points).map(({ phase, from, to }, i) => {
        const wide = x(to) - x(from);
        const words = wide > 118 ? PHASES[phase] : wide > 48 ? SHORT_PHASES[phase] : '';
        return svg`<g class="phase">
          ${i > 0 ? svg`<line x1=${x(from)} x2=${x(from)} y1=${box.top - 22} y2=${bottom}></line>` : nothing}
          <text x=${x(from) + 6} y=${box.top - 12}>${words}</text>
        </g>`;
      })}
      <line class="axis" x1=${box.left} x2=${right} y1=${bottom} y2=${bottom}></line>
      ${this.#baselines(y, box)}
      <path class="dots" d=${dots(this.points, x, y)}></path>
      <path class="best" d=${steps(best, x, y)}></path>
      ${this.hovered
        ? svg`<line class="hover" x1=${x(this.hovered.evaluation)} x2=${x(this.hovered.evaluation)} y1=${box.top} y2=${bottom}></line>
            <circle class="hover" cx=${x(this.hovered.evaluation)} cy=${y(this.hovered.objective ?? high)} r="4.5"></circle>`
        : nothing}
      ${best.length === 0
        ? svg`<text class="empty" x=${box.left + box.width / 2} y=${box.top + box.height / 2} text-anchor="middle">Each mixture that is tried becomes a dot here.</text>`
        : nothing}
    </svg>`;
  }

  /** The two lines to beat, their labels at the right and never on top of each other. */
  #baselines(y: (v: number) => number, box: Box): unknown {
    const lines = [
      { name: 'base model', value: this.base },
      { name: this.singleName === '' ? 'best single module' : `best single: ${this.singleName}`, value: this.single },
    ].filter((l): l is { name: string; value: number } => l.value !== null);
    const right = box.left + box.width;
    const upper = Math.min(...lines.map((l) => y(l.value)));
    return lines.map(({ name, value }) => {
      const at = y(value);
      const above = at === upper;
      return svg`<g class="baseline">
        <line x1=${box.left} x2=${right} y1=${at} y2=${at}></line>
        <text x=${right} y=${above ? at - 6 : at + 15} text-anchor="end">${name} ${loss(value)}</text>
      </g>`;
    });
  }

  #hover(event: PointerEvent, x: (v: number) => number, best: BestPoint[]): void {
    const svgElement = event.currentTarget as SVGSVGElement;
    const at = event.clientX - svgElement.getBoundingClientRect().left;
    let nearest: BestPoint | undefined;
    for (const p of best) {
      if (!nearest || Math.abs(x(p.evaluation) - at) < Math.abs(x(nearest.evaluation) - at)) nearest = p;
    }
    this.hovered = nearest;
  }

  #table(best: BestPoint[]): TemplateResult {
    return html`<div class="scroller" tabindex="0" role="region" aria-label="Evaluations">
      <table data-testid=${T.chartTable} class="figures">
        <thead>
          <tr>
            <th scope="col">Evaluation</th>
            <th scope="col" class="words">Part</th>
            <th scope="col">Loss</th>
            <th scope="col">With penalty</th>
            <th scope="col">Best so far</th>
          </tr>
        </thead>
        <tbody>
          ${best.map(
            (p) => html`<tr>
              <td>${p.evaluation}</td>
              <td class="words">${PHASES[p.phase]}</td>
              <td>${loss(p.loss)}</td>
              <td>${loss(p.objective)}</td>
              <td>${loss(p.best)}</td>
            </tr>`,
          )}
        </tbody>
      </table>
    </div>`;
  }
}
