/** Choosing, downloading and opening other models, over mock workers. */
import { describe, expect, it, vi } from 'vitest';
import { mockStore } from '../engine/mock/library.ts';
import type { Journey } from '../journey.ts';
import { memory, mock, ready, readyModels } from '../testing.ts';
import type { LocalFile } from './local.ts';

const SMALL = 'google/flan-t5-small';
const LARGE = 'google/flan-t5-large';

async function visit(remembered = memory(), store = mockStore()) {
  const { journey } = await ready(() => mock({ store }), remembered, (j) => j.begin());
  const models = readyModels(journey, remembered, mock({ store, generationMs: 3 }));
  return { journey, models, remembered, store };
}

const ownTask = (journey: Journey): void => {
  expect(journey.paste('a\tA\nb\tB', 'shots')).toBe(2);
};

describe('a model of a hub', () => {
  it('is downloaded on consent and opened, with a task of the visitor’s own', async () => {
    const { journey, models, store } = await visit();
    await models.show('hub');
    expect(models.base).toBe(SMALL);
    models.toggle('shout');
    expect(models.plan?.missing).toEqual([SMALL, 'shout']);
    await vi.waitFor(() => expect(models.seconds).toBe(1));
    expect(store.kept.size).toBe(0);
    await models.fetchAndOpen();
    expect([...store.kept.keys()]).toEqual([SMALL, 'shout']);
    expect(journey.family).toMatchObject({ name: SMALL, origin: 'kept', rule: 'reference' });
    expect(models.shown).toBe(false);
    expect(journey.draft).toMatchObject({ own: true, test: [] });
    expect(journey.draft?.shots).toHaveLength(1);
    ownTask(journey);
    await journey.adapt();
    expect(journey.run?.status).toBe('done');
    expect(journey.weights).toHaveLength(1);
    expect(journey.problems).toEqual([]);
  });

  it('is open again at the next visit, and the demo after going back to it', async () => {
    const first = await visit();
    await first.models.show('hub');
    await first.models.fetchAndOpen();
    const second = await visit(first.remembered, first.store);
    expect(second.journey.family?.name).toBe(SMALL);
    await second.journey.use({ kind: 'demo', extra: [] });
    expect((await visit(first.remembered, first.store)).journey.family?.origin).toBe('family');
  });

  it('gives way to the demo with a note where the browser has cleared it', async () => {
    const { models, remembered } = await visit();
    await models.show('hub');
    await models.fetchAndOpen();
    const { journey } = await visit(remembered, mockStore());
    expect(journey.family?.origin).toBe('family');
    expect(journey.modelNote).toContain(`${SMALL} is no longer stored`);
    expect(journey.problems).toEqual([]);
    expect(remembered.last).toBeUndefined();
  });

  it('is not opened by itself again where it did not finish opening', async () => {
    const { remembered, store } = await visit();
    remembered.open({ base: SMALL, modules: [], weights: 'f32', unfinished: true });
    const { journey } = await visit(remembered, store);
    expect(journey.family?.origin).toBe('family');
    expect(journey.modelNote).toContain('did not finish opening');
  });

  it('stays unfinished where the download is cancelled, and goes on from there at the next visit', async () => {
    const { journey, models, remembered, store } = await visit();
    await models.show('hub');
    models.choose(LARGE);
    models.take(['glue_mrpc', 'glue_cola']);
    const fetching = models.fetchAndOpen();
    await vi.waitFor(() => expect(store.kept.has(LARGE)).toBe(true), { interval: 1 });
    models.cancel();
    await fetching;
    expect(models.note).toContain('Cancelled');
    expect(journey.problems).toEqual([]);
    expect(journey.family?.origin).toBe('family');
    const again = await visit(remembered, store);
    await again.models.show('hub');
    expect(again.models.unfinished).toBe(true);
    expect(again.models.base).toBe(LARGE);
    expect(again.models.modules).toEqual(['glue_mrpc', 'glue_cola']);
    expect(again.models.plan?.missing).toEqual(['glue_mrpc', 'glue_cola']);
    await again.models.fetchAndOpen();
    expect(again.journey.family?.modules).toHaveLength(2);
    expect(again.models.waiting).toBeUndefined();
  });

  it('is a card where the download fails, and the page goes on', async () => {
    const { journey, models, store } = await visit();
    store.failing = { name: SMALL, code: 'hub_not_found' };
    await models.show('hub');
    await models.fetchAndOpen();
    expect(journey.problems).toMatchObject([{ code: 'hub_not_found', action: undefined }]);
    await journey.adapt();
    expect(journey.run?.status).toBe('done');
  });

  it('does not end a search that is running', async () => {
    const { journey, models } = await visit();
    await models.show('hub');
    journey.configure({ budget: 2000 });
    const run = journey.adapt();
    await models.fetchAndOpen();
    expect(journey.family?.origin).toBe('family');
    expect(models.note).toContain('not opened');
    journey.cancel();
    await run;
    await models.fetchAndOpen();
    expect(journey.family?.name).toBe(SMALL);
    expect(journey.run).toBeUndefined();
  });
});

describe('files of the visitor’s', () => {
  const files = (...paths: string[]): LocalFile[] => paths.map((path) => ({ path, file: new Blob(['{}']) }));
  const BASE = files('mine/config.json', 'mine/tokenizer.json', 'mine/model.safetensors');
  const MODULE = files('m/one/adapter_config.json', 'm/one/adapter_model.bin');

  it('are opened as a base with modules', async () => {
    const { journey, models, remembered } = await visit();
    await models.show('files');
    await models.add(BASE);
    await models.add(MODULE);
    expect(models.obstacle).toBe('');
    await models.openFiles();
    expect(journey.family).toMatchObject({ name: 'mine', origin: 'files', modules: [{ name: 'one' }] });
    expect(models.recognised).toBeUndefined();
    expect(remembered.last).toBeUndefined();
  });

  it('join the model that is open where they are modules, and what was typed stays', async () => {
    const { journey, models } = await visit();
    const before = journey.family?.modules.length ?? 0;
    journey.editShot(journey.draft!.shots[0]!.key, { input: 'mine' });
    await models.add(MODULE);
    await models.openFiles();
    expect(journey.family?.modules).toHaveLength(before + 1);
    expect(journey.draft?.shots[0]?.input).toBe('mine');
    await models.add(MODULE);
    await models.openFiles();
    expect(journey.family?.modules).toHaveLength(before + 1);
  });

  it('are not opened where something is missing, or nothing is there', async () => {
    const { models } = await visit();
    await models.add(files('mine/config.json'));
    expect(models.obstacle).toContain('missing');
    await models.drop({ folder: 'mine' });
    expect(models.recognised).toBeUndefined();
    await models.add(files('holiday.jpg'));
    expect(models.obstacle).toContain('None of this');
    await models.drop({ path: 'holiday.jpg' });
    await models.add([...BASE, ...files('other/config.json', 'other/tokenizer.json', 'other/model.safetensors')]);
    expect(models.obstacle).toContain('two bases');
    await models.drop({ folder: 'other' });
    expect(models.obstacle).toBe('');
  });
});

describe('what is stored', () => {
  it('is verified, opened and deleted, one by one or all', async () => {
    const { journey, models, store } = await visit();
    await models.show('hub');
    models.toggle('shout');
    await models.fetchAndOpen();
    await journey.use({ kind: 'demo', extra: [] });
    await models.show('stored');
    await models.verify(SMALL);
    expect(models.verdicts.get(SMALL)).toBe('right');
    await models.openKept(SMALL);
    expect(journey.family?.modules.map(({ name }) => name)).toEqual(['shout']);
    await models.remove('shout');
    expect([...store.kept.keys()]).toEqual([SMALL]);
    await models.verify('shout');
    expect(models.verdicts.get('shout')).toBe('wrong');
    expect(journey.problems).toMatchObject([{ code: 'hub_not_downloaded' }]);
    await models.removeAll();
    expect(models.storage?.kept).toEqual([]);
  });
});

it('falls back to the model before where another cannot be opened, with a card', async () => {
  const { journey } = await visit();
  expect(await journey.use({ kind: 'kept', base: SMALL, modules: [], weights: 'f32', extra: [] })).toBe(false);
  expect(journey.family?.origin).toBe('family');
  expect(journey.problems).toMatchObject([{ code: 'hub_not_downloaded', action: undefined }]);
  await journey.adapt();
  expect(journey.run?.status).toBe('done');
});
