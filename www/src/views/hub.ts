/** Choosing a base and modules of a hub, what their download means, and the download. */
import { html, nothing, type TemplateResult } from 'lit';
import { live } from 'lit/directives/live.js';
import { repeat } from 'lit/directives/repeat.js';
import type { DownloadProgress, WaitReason } from '../engine/library.ts';
import { about, bytes, count, duration } from '../format.ts';
import type { Journey } from '../journey.ts';
import { WEIGHT_FORMATS, type WeightFormat } from '../engine/protocol.ts';
import { baseSize, FORMATS, MOST_MEMORY, setsOf, tagsOf, type Plan, type Size } from '../models/facts.ts';
import { hostsOf } from '../models/hub.ts';
import type { Download, Models } from '../models/models.ts';
import { T } from '../testids.ts';

export const size = (of: Size | undefined): string => (of ? `${of.about ? 'about ' : ''}${bytes(of.bytes)}` : 'size not known');

export function hubPart(j: Journey, m: Models): TemplateResult {
  if (!m.manifest) {
    return html`<p class="hint">${m.starting ? 'Opening the list…' : 'The list could not be opened.'}</p>
      ${m.starting ? nothing : html`<button type="button" class="secondary" @click=${() => void m.show('hub')}>Try again</button>`}`;
  }
  const { plan } = m;
  return html`<div class="choice">
    <div>
      ${bases(m)} ${modules(m)}
    </div>
    <div class="consent">
      ${m.download ? progress(m, m.download) : plan ? consent(j, m, plan) : nothing}
    </div>
  </div>`;
}

function bases(m: Models): TemplateResult {
  const manifest = m.manifest;
  return html`<fieldset class="bases" ?disabled=${m.download !== undefined}>
    <legend>Base model</legend>
    ${(manifest?.bases ?? []).map((base) => {
      const kept = m.keptOf('base', base.id);
      const own = manifest?.modules.filter((module) => module.base === base.id).length ?? 0;
      return html`<label class="option">
        <input
          type="radio"
          name="base"
          data-testid=${T.base(base.id)}
          .checked=${live(m.base === base.id)}
          @change=${() => m.choose(base.id)}
        />
        <span
          >${base.id}
          <small
            >${size(baseSize(base, kept))}, ${own === 0 ? 'no modules listed' : `${count(own)} ${own === 1 ? 'module' : 'modules'}`}${kept
              ? ', stored here'
              : nothing}</small
          ></span
        >
      </label>`;
    })}
  </fieldset>`;
}

/** More tags than this are not a help. */
const MOST_TAGS = 12;

function modules(m: Models): TemplateResult {
  const { manifest, base } = m;
  if (!manifest || base === undefined) return html``;
  if (!manifest.modules.some((module) => module.base === base)) {
    return html`<p class="hint">The list has no modules for this base. Open it, then add your own under Your files.</p>`;
  }
  const sets = setsOf(manifest, base);
  const tags = tagsOf(manifest, base).slice(0, MOST_TAGS);
  const { found } = m;
  const busy = m.download !== undefined;
  return html`<fieldset class="modules" ?disabled=${busy}>
    <legend>Modules to mix</legend>
    ${sets.length > 0
      ? html`<p class="sets">
          ${sets.every(({ name }) => SEED.test(name)) ? html`<span>The reference’s ${sets[0]?.modules.length}:</span>` : nothing}
          ${sets.map(
            ({ name, modules: own, description }) => html`<button
              type="button"
              class="chip"
              data-testid=${T.moduleSet(name)}
              title=${description ?? ''}
              aria-pressed=${own.join() === m.modules.join()}
              @click=${() => m.take(own)}
            >
              ${name.replace(SEED, 'seed $1')}
            </button>`,
          )}
        </p>`
      : nothing}
    <input
      type="search"
      data-testid=${T.moduleSearch}
      aria-label="Search the modules"
      placeholder="Search by name or task"
      autocomplete="off"
      spellcheck="false"
      .value=${live(m.search)}
      @input=${(e: Event) => m.find((e.target as HTMLInputElement).value)}
    />
    ${tags.length > 0
      ? html`<p class="sets">
          ${tags.map((tag) => html`<button type="button" class="chip" aria-pressed=${m.search === tag} @click=${() => m.find(m.search === tag ? '' : tag)}>${tag}</button>`)}
        </p>`
      : nothing}
    <div class="module-list" role="group" aria-label="Modules">
      ${repeat(
        found,
        ({ name }) => name,
        ({ name, description, tags: own }) => html`<label class="option">
          <input type="checkbox" data-testid=${T.module(name)} .checked=${live(m.modules.includes(name))} @change=${() => m.toggle(name)} />
          <span title=${description ?? nothing}
            >${name.replaceAll('_', ' ')}
            <small>${[...(own ?? []), ...(m.keptOf('module', name) ? ['stored here'] : [])].join(', ')}</small></span
          >
        </label>`,
      )}
      ${found.length === 0 ? html`<p class="hint">No module fits that search.</p>` : nothing}
    </div>
    <p class="chosen" role="status">
      <span data-testid=${T.modulesChosen}>${count(m.modules.length)} chosen, ${count(found.length)} shown.</span>
      ${m.modules.length > 0
        ? html`<button
              type="button"
              class="quiet"
              data-testid=${T.modulesOnly}
              aria-pressed=${m.onlyChosen}
              @click=${() => m.showOnly(!m.onlyChosen)}
            >
              ${m.onlyChosen ? 'Show all' : 'Show the chosen'}
            </button>
            <button type="button" class="quiet" data-testid=${T.modulesClear} @click=${() => m.take([])}>Choose none</button>`
        : nothing}
    </p>
  </fieldset>`;
}

/** The manifest names the reference's draws `seed-N`. */
const SEED = /^seed-(\d+)$/;

function consent(j: Journey, m: Models, plan: Plan): TemplateResult {
  const { missing, download, memory, base } = plan;
  const free = m.storage?.free;
  const hosts = hostsOf(m.library?.address ?? '');
  const nothingToFetch = missing.length === 0;
  const saving = (navigator as { connection?: { saveData?: boolean } }).connection?.saveData === true;
  const warnings = [
    ...(download && free !== undefined && download.bytes > free ? ['That is more than this browser has free for the page; delete something stored, or choose less.'] : []),
    ...(memory && memory.bytes > MOST_MEMORY ? ['That is more memory than a page can have; hold the weights in fewer bits, or choose less.'] : []),
    ...(saving && !nothingToFetch ? ['Your device asks pages to save data.'] : []),
    ...(j.busy ? ['A search is running; end it first.'] : []),
  ];
  return html`<dl class="facts">
      <div>
        <dt>Download</dt>
        <dd data-testid=${T.factDownload}>
          ${nothingToFetch ? 'Nothing: all of it is stored here.' : size(download)}
          ${m.unfinished && !nothingToFetch ? html`<small>Part of it is here already, and the download goes on from there.</small>` : nothing}
        </dd>
      </div>
      ${nothingToFetch
        ? nothing
        : html`<div>
            <dt>From</dt>
            <dd data-testid=${T.factHosts}>
              ${hosts.first} <small>${hosts.more}. They see your network address and which files are asked for; nothing that you type.</small>
            </dd>
          </div>`}
      <div>
        <dt>Stored</dt>
        <dd data-testid=${T.factFree}>
          in this browser, until you delete it <small>${free === undefined ? 'The browser does not say how much is free.' : `${bytes(free)} free`}</small>
        </dd>
      </div>
      <div>
        <dt>Memory</dt>
        <dd>
          <span data-testid=${T.factMemory}>${memory ? size(memory) : 'not known'}</span>${memory ? html` <small>and some more while it works</small>` : nothing}
          ${formats(T.weights, m.weights, (format) => m.hold(format))}
        </dd>
      </div>
      ${m.seconds === undefined
        ? nothing
        : html`<div>
            <dt>Time</dt>
            <dd data-testid=${T.factTime}>
              ${about(m.seconds * j.settings.budget).toLowerCase()}
              <small>for a search of ${count(j.settings.budget)} evaluations on five examples, by a measurement on this device just now</small>
            </dd>
          </div>`}
      <div>
        <dt>Licence</dt>
        <dd data-testid=${T.factLicence}>${base.licence ?? 'not stated'}${licences(plan)}</dd>
      </div>
    </dl>
    ${warnings.map((text) => html`<p class="note warning">${text}</p>`)}
    <p class="row-actions">
      <button type="button" class="primary" data-testid=${T.fetch} ?disabled=${j.busy} @click=${() => void m.fetchAndOpen()}>
        ${nothingToFetch ? 'Open' : m.unfinished ? 'Go on and open' : 'Download and open'}
      </button>
    </p>
    ${m.note === undefined ? nothing : html`<p class="note" data-testid=${T.fetchNote}>${m.note}</p>`}`;
}

/** How a base's weights are held. */
export function formats(testid: string, chosen: WeightFormat, choose: (format: WeightFormat) => void): TemplateResult {
  return html`<label class="format">
    <span class="label">The base’s weights</span>
    <select data-testid=${testid} .value=${live(chosen)} @change=${(e: Event) => choose((e.target as HTMLSelectElement).value as WeightFormat)}>
      ${WEIGHT_FORMATS.map((format) => html`<option value=${format} ?selected=${format === chosen}>${FORMATS[format]}</option>`)}
    </select>
  </label>`;
}

function licences({ modules }: Plan): TemplateResult | typeof nothing {
  if (modules.length === 0) return nothing;
  const named = [...new Set(modules.map(({ licence }) => licence ?? 'not stated'))];
  return html` <small>of the modules: ${named.join(', ')}</small>`;
}

const WAITS: Record<WaitReason, string> = {
  network: 'the connection failed',
  stalled: 'nothing came for a while',
  busy: 'the server asks to wait',
  server: 'the server failed',
  expired: 'the address had expired',
  reply: 'the answer was not what was asked for',
  hash: 'a part was damaged',
};

/** What a download is doing now, in one line. */
export function downloadText(p: DownloadProgress | undefined): string {
  switch (p?.state) {
    case undefined:
      return 'Asking what there is…';
    case 'fetching': {
      const { done, total, per_second: rate, seconds_left: left } = p;
      const of = total === null ? bytes(done) : `${bytes(done)} of ${bytes(total)}`;
      return [of, ...(rate === null ? [] : [`${bytes(rate)}/s`]), ...(left === null ? [] : [`${duration(left)} left`])].join(', ');
    }
    case 'waiting':
      return `Trying again in ${duration(p.seconds)}: ${WAITS[p.reason]}.`;
    case 'checking':
      return `Checking what is here: ${bytes(p.done)} of ${bytes(p.total)}`;
    case 'verifying':
      return `Verifying: ${bytes(p.done)} of ${bytes(p.total)}`;
    case 'whole':
      return 'The server sends it only as a whole.';
    case 'kept':
      return 'Stored here already.';
    case 'done':
      return 'Stored and verified.';
  }
}

function progress(m: Models, download: Download): TemplateResult {
  const p = download.progress;
  const known = p !== undefined && 'done' in p && p.total !== null && p.total > 0;
  return html`<div class="fetching">
    <h3 id="h-fetching">Downloading</h3>
    <p class="file" data-testid=${T.fetchFile}>${p ? html`${p.name} <small>${p.path}, file ${p.index + 1} of ${p.files}</small>` : '\u00a0'}</p>
    <progress
      aria-labelledby="h-fetching"
      data-testid=${T.fetchProgress}
      max=${known ? p.total : 1}
      .value=${known ? p.done : p?.state === 'done' || p?.state === 'kept' ? 1 : 0}
    ></progress>
    <p class="figures-line" data-testid=${T.fetchText}>${downloadText(p)}</p>
    <ol class="parts">
      ${download.names.map((name) => {
        const state = download.done.has(name) ? 'there' : p?.name === name ? 'now' : 'next';
        return html`<li class=${state} aria-current=${state === 'now' ? 'step' : nothing}>
          <span class="flag" aria-hidden="true">${state === 'there' ? '✓' : state === 'now' ? '↓' : '·'}</span>${name}${state === 'there'
            ? html`<span class="sr-only">, stored</span>`
            : nothing}
        </li>`;
      })}
    </ol>
    <p class="row-actions">
      <button type="button" class="secondary" data-testid=${T.fetchCancel} @click=${() => m.cancel()}>Cancel</button>
    </p>
    <p class="hint">Everything that comes is checked and kept. You can go on using the page; after a reload the download goes on where it was.</p>
  </div>`;
}
