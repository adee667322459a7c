/**
 * `<lh-weights>`: one bar a module, from −1.5 to 1.5, in the family's order so that nothing moves while they change.
 *
 * Properties: `modules`, `weights`, `recipe` (names of modules to mark as those that the task was made from).
 */
import { html, nothing, svg, type TemplateResult } from 'lit';
import type { ModuleInfo } from '../engine/protocol.ts';
import { weight } from '../format.ts';
import { T } from '../testids.ts';
import { LightElement } from './light.ts';

/** The search's bound on a weight. */
const BOUND = 1.5;
/** Below this a module plays no visible part. */
const SLIGHT = 0.05;

export class Weights extends LightElement {
  static override properties = {
    modules: { attribute: false },
    weights: { attribute: false },
    recipe: { attribute: false },
  };

  declare modules: ModuleInfo[];
  declare weights: number[];
  declare recipe: string[];

  constructor() {
    super();
    this.modules = [];
    this.weights = [];
    this.recipe = [];
  }

  protected override render(): TemplateResult {
    const groups = new Map<string, { module: ModuleInfo; value: number }[]>();
    for (const [i, module] of this.modules.entries()) {
      const group = groups.get(module.kind) ?? [];
      group.push({ module, value: this.weights[i] ?? 0 });
      groups.set(module.kind, group);
    }
    return html`<div class="weights">
      ${[...groups].map(
        ([kind, rows]) => html`<table class="weights-group">
          <caption>${kind}</caption>
          <colgroup>
            <col class="col-name" />
            <col />
            <col class="col-value" />
          </colgroup>
          <thead class="sr-only">
            <tr>
              <th scope="col">Module</th>
              <th scope="col">Bar from −1.5 to 1.5</th>
              <th scope="col">Weight</th>
            </tr>
          </thead>
          <tbody>
            ${rows.map(({ module, value }) => this.#row(module, value))}
          </tbody>
        </table>`,
      )}
    </div>`;
  }

  #row(module: ModuleInfo, value: number): TemplateResult {
    const shown = Math.max(-BOUND, Math.min(BOUND, value));
    return html`<tr data-testid=${T.weight(module.name)} data-weight=${value} class=${Math.abs(value) >= SLIGHT ? 'used' : ''}>
      <th scope="row" title=${module.description}>
        ${module.title}${this.recipe.includes(module.name) ? html` <span class="recipe" role="img" aria-label="(part of this task)">◆</span>` : nothing}
      </th>
      <td class="bar">
        <svg viewBox="-1.5 0 3 1" preserveAspectRatio="none" aria-hidden="true">
          ${svg`<rect class="track" x="-1.5" y="0.3" width="3" height="0.4"></rect>
            <rect class=${shown < 0 ? 'negative' : 'positive'} x=${Math.min(0, shown)} y="0.1" width=${Math.abs(shown)} height="0.8"></rect>
            <line x1="0" x2="0" y1="-0.2" y2="1.2"></line>`}
        </svg>
      </td>
      <td class="value">${weight(value)}</td>
    </tr>`;
  }
}
