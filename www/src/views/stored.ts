/** What is stored in the browser: sizes, verifying, deleting. */
import { html, nothing, type TemplateResult } from 'lit';
import type { Kept } from '../engine/library.ts';
import { bytes, count } from '../format.ts';
import type { Journey } from '../journey.ts';
import type { Models, Verdict } from '../models/models.ts';
import { T } from '../testids.ts';

export function storedPart(j: Journey, m: Models): TemplateResult {
  const kept = m.storage?.kept;
  if (!kept) return html`<p class="hint">${m.starting ? 'Looking…' : 'What is stored could not be read.'}</p>`;
  const total = kept.reduce((sum, one) => sum + one.bytes + convertedBytes(one), 0);
  const free = m.storage?.free;
  const waiting = m.waiting !== undefined;
  return html`<p data-testid=${T.storedTotal}>
      ${kept.length === 0
        ? 'Nothing is stored here.'
        : html`${bytes(total)} in ${count(kept.length)} ${kept.length === 1 ? 'model or module' : 'models and modules'}.`}
      ${waiting ? 'A download is unfinished; its parts are kept too.' : nothing}
      ${free === undefined ? nothing : html`<span class="soft">${bytes(free)} free for this page.</span>`}
    </p>
    ${kept.length === 0
      ? nothing
      : html`<table class="stored">
          <thead class="sr-only">
            <tr>
              <th scope="col">Name</th>
              <th scope="col">Size</th>
              <th scope="col">What can be done</th>
            </tr>
          </thead>
          <tbody>
            ${inOrder(kept).map((one) => row(j, m, one))}
          </tbody>
        </table>`}
    ${kept.length === 0 && !waiting
      ? nothing
      : m.asking
        ? html`<p class="row-actions ask">
            <span data-testid=${T.deleteAllAsk}>Delete everything that was downloaded? ${openNote(j)}</span>
            <button type="button" class="secondary" data-testid=${T.deleteAllYes} @click=${() => void m.removeAll()}>Delete everything</button>
            <button type="button" class="quiet" @click=${() => m.ask(false)}>Keep it</button>
          </p>`
        : html`<p class="row-actions">
            <button type="button" class="quiet" data-testid=${T.deleteAll} ?disabled=${m.download !== undefined} @click=${() => m.ask(true)}>
              Delete everything
            </button>
          </p>`}`;
}

/** What deleting everything means for what is open. */
const openNote = ({ model }: Journey): string =>
  model.kind === 'kept' ? `${model.base} is open: it goes on working on this device until you leave it, and is not here at the next visit.` : '';

/** Each base with its modules below it. */
function inOrder(kept: Kept[]): Kept[] {
  const bases = kept.filter(({ kind }) => kind === 'base');
  const under = (base: string): Kept[] => kept.filter((one) => one.kind === 'module' && one.base === base);
  const known = new Set(bases.map(({ name }) => name));
  return [...bases.flatMap((base) => [base, ...under(base.name)]), ...kept.filter((one) => one.kind === 'module' && !known.has(one.base ?? ''))];
}

/** Of a base's weights as devices hold them. */
const convertedBytes = ({ converted = [] }: Kept): number => converted.reduce((sum, { size }) => sum + size, 0);

const VERDICTS: Record<Verdict, string> = { running: 'reading…', right: 'every byte is right', wrong: 'damaged; delete it and download it again' };

function row(j: Journey, m: Models, { kind, name, bytes: n, whole, licence, commit, converted = [] }: Kept): TemplateResult {
  const verdict = m.verdicts.get(name);
  const open = j.model.kind === 'kept' && (kind === 'base' ? j.model.base === name : j.model.modules.includes(name));
  const about = [kind === 'module' ? '' : (licence ?? 'licence not stated'), `commit ${commit.slice(0, 7)}`, ...(open ? ['open now'] : [])];
  return html`<tr class=${kind} data-testid=${T.stored(name)}>
    <th scope="row">
      ${kind === 'module' ? name.replaceAll('_', ' ') : name} <small>${about.filter((text) => text !== '').join(', ')}</small>
      ${converted.map(
        ({ storage, size }) => html`<small data-testid=${T.converted(name, storage)}>and converted to ${storage}, ${bytes(size)}, to open it sooner</small>`,
      )}
      ${whole ? nothing : html`<small class="missing">The browser has cleared part of it; download it again.</small>`}
      ${verdict ? html`<small class=${verdict === 'wrong' ? 'missing' : ''} role="status" data-verdict=${verdict}>${VERDICTS[verdict]}</small>` : nothing}
    </th>
    <td class="value">${bytes(n)}</td>
    <td class="actions">
      ${kind === 'base' && whole && !open
        ? html`<button type="button" class="quiet" data-testid=${T.storedOpen(name)} aria-label=${`Open ${name}`} ?disabled=${j.busy || m.download !== undefined} @click=${() => void m.openKept(name)}>
            Open
          </button>`
        : nothing}
      <button
        type="button"
        class="quiet"
        data-testid=${T.storedVerify(name)}
        aria-label=${`Verify ${name}`}
        ?disabled=${verdict === 'running' || !whole}
        @click=${() => void m.verify(name)}
      >
        Verify
      </button>
      <button
        type="button"
        class="quiet"
        data-testid=${T.storedDelete(name)}
        aria-label=${`Delete ${name}`}
        title=${open ? 'It is open now' : nothing}
        ?disabled=${open || m.download !== undefined || verdict === 'running'}
        @click=${() => void m.remove(name)}
      >
        Delete
      </button>
    </td>
  </tr>`;
}
