import { describe, expect, it } from 'vitest';
import { Remembered } from './remembered.ts';

function storage(text: string | null = null) {
  const kept = { text };
  const open = () => ({ getItem: () => kept.text, setItem: (_: string, value: string) => void (kept.text = value), removeItem: () => void (kept.text = null) });
  return { kept, open };
}

describe('Remembered', () => {
  it('has no wish at the first visit, and at the next one that of the last', () => {
    const { open } = storage();
    const first = new Remembered(open);
    expect(first.wish).toEqual({ device: 'auto' });
    first.keep('webgpu', 'tuned');
    expect(new Remembered(open).wish).toEqual({ device: 'webgpu', tuning: 'tuned' });
  });

  it('keeps what it knows of the GPU through a visit on the CPU', () => {
    const { open } = storage();
    new Remembered(open).keep('auto', 'tuned');
    new Remembered(open).keep('cpu', undefined);
    expect(new Remembered(open).wish).toEqual({ device: 'cpu', tuning: 'tuned' });
  });

  it.each(['', 'null', '[]', '7', '{"device":"abacus","tuning":7}', '{'])('takes %s for nothing', (text) => {
    expect(new Remembered(storage(text).open).wish).toEqual({ device: 'auto' });
  });

  it('does without where storage is refused', () => {
    const refused = new Remembered(() => {
      throw new DOMException('no', 'SecurityError');
    });
    refused.keep('cpu', undefined);
    expect(refused.wish).toEqual({ device: 'cpu' });
  });

  it('knows the model that was open, and whether it finished opening', () => {
    const { open } = storage();
    const model = { base: 'a/b', modules: ['m'], weights: 'q8_0' as const };
    new Remembered(open).open({ ...model, unfinished: true });
    expect(new Remembered(open).last).toEqual({ ...model, unfinished: true });
    new Remembered(open).open(model);
    expect(new Remembered(open).last).toEqual(model);
    new Remembered(open).open(undefined);
    expect(new Remembered(open).last).toBeUndefined();
  });

  it('asks the storage once, however often it is asked', () => {
    let asked = 0;
    const one = new Remembered(() => ({ ...storage().open(), getItem: () => ((asked += 1), null) }));
    const before = asked;
    for (let i = 0; i < 5; i += 1) expect(one.download).toBeUndefined();
    expect(asked - before).toBe(1);
  });

  it.each(['{}', '{"base":"a/b","modules":[7],"weights":"f32"}', '{"base":"a/b","modules":[],"weights":"f64"}', '{"base":7,"modules":[],"weights":"f32"}'])(
    'takes %s for no model',
    (text) => {
      expect(new Remembered(storage(text).open).last).toBeUndefined();
      expect(new Remembered(storage(text).open).download).toBeUndefined();
    },
  );
});
