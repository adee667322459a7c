/**
 * `<lh-word-field>`: a text area that grows with its text and marks words outside the model's vocabulary.
 *
 * The marks are drawn by a mirror of the text behind a transparent text area; both share one grid cell, so the mirror's
 * height is the field's height in every browser. What is marked is also said in text, for those who cannot see it.
 *
 * Properties: `value`, `label`, `fieldId`, `testid`, `placeholder`, `disabled`, `lookup` (text to [start, end) spans).
 * Events: `lh-input` (detail: the text), `lh-submit` (Enter without Shift, where `submits`), `lh-unknown` (detail: words).
 */
import { html, nothing, type PropertyValues, type TemplateResult } from 'lit';
import { LightElement } from './light.ts';

export class WordField extends LightElement {
  static override properties = {
    value: {},
    label: {},
    fieldId: {},
    testid: {},
    placeholder: {},
    disabled: { type: Boolean },
    submits: { type: Boolean },
    visibleLabel: { type: Boolean },
    lookup: { attribute: false },
    spans: { state: true },
  };

  declare value: string;
  declare label: string;
  declare fieldId: string;
  declare testid: string;
  declare placeholder: string;
  declare disabled: boolean;
  declare submits: boolean;
  declare visibleLabel: boolean;
  declare lookup: ((text: string) => Promise<[number, number][]>) | undefined;
  declare spans: { text: string; at: [number, number][] };

  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor() {
    super();
    this.value = '';
    this.label = '';
    this.fieldId = '';
    this.testid = '';
    this.placeholder = '';
    this.disabled = false;
    this.submits = false;
    this.visibleLabel = false;
    this.spans = { text: '', at: [] };
  }

  override focus(): void {
    this.renderRoot.querySelector('textarea')?.focus();
  }

  override disconnectedCallback(): void {
    super.disconnectedCallback();
    clearTimeout(this.#timer);
  }

  protected override updated(changed: PropertyValues): void {
    if (!changed.has('value') && !changed.has('lookup')) return;
    clearTimeout(this.#timer);
    // At once for a text that was set from outside, after a short rest while someone types.
    this.#timer = setTimeout(() => void this.#look(), this.matches(':focus-within') ? 120 : 0);
  }

  async #look(): Promise<void> {
    const text = this.value;
    const at = (await this.lookup?.(text)) ?? [];
    if (text !== this.value) return;
    this.spans = { text, at };
    this.dispatchEvent(new CustomEvent('lh-unknown', { detail: this.#words() }));
  }

  #words(): string[] {
    const { text, at } = this.spans;
    return [...new Set(at.map(([from, to]) => text.slice(from, to)))];
  }

  /** The text in pieces, unknown ones marked; marks of an older text hold as far as the two agree. */
  #mirror(): (string | TemplateResult)[] {
    const { text, at } = this.spans;
    const pieces: (string | TemplateResult)[] = [];
    let from = 0;
    for (const [start, end] of at) {
      if (this.value.slice(0, end) !== text.slice(0, end)) break;
      pieces.push(this.value.slice(from, start), html`<mark>${this.value.slice(start, end)}</mark>`);
      from = end;
    }
    // The trailing space gives a last empty line its height.
    pieces.push(`${this.value.slice(from)} `);
    return pieces;
  }

  protected override render(): TemplateResult {
    const words = this.#words();
    const note = `${this.fieldId}-note`;
    return html`
      <label for=${this.fieldId} class=${this.visibleLabel ? 'label' : 'sr-only'}>${this.label}</label>
      <div class="word-field">
        <div class="mirror" aria-hidden="true">${this.#mirror()}</div>
        <textarea
          id=${this.fieldId}
          data-testid=${this.testid}
          rows="1"
          spellcheck="false"
          autocapitalize="off"
          autocomplete="off"
          .value=${this.value}
          placeholder=${this.placeholder}
          ?disabled=${this.disabled}
          aria-describedby=${words.length > 0 ? note : nothing}
          @input=${(e: Event) => this.#input((e.target as HTMLTextAreaElement).value)}
          @keydown=${this.#keydown}
        ></textarea>
      </div>
      <span id=${note} class="sr-only">${words.length > 0 ? `Not in the vocabulary: ${words.join(', ')}` : ''}</span>
    `;
  }

  #input(text: string): void {
    this.value = text;
    this.dispatchEvent(new CustomEvent('lh-input', { detail: text }));
  }

  #keydown(event: KeyboardEvent): void {
    if (!this.submits || event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    this.dispatchEvent(new CustomEvent('lh-submit'));
  }
}
