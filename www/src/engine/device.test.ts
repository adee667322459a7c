import { describe, expect, it } from 'vitest';
import { OnDevice, type Model } from './device.ts';
import { EngineError } from './error.ts';
import type { DeviceChoice, DeviceReport, DeviceState, DeviceWish } from './protocol.ts';

const report = (kind: 'webgpu' | 'cpu', choice: DeviceChoice): DeviceReport => ({
  kind, choice, name: kind, reason: 'asked', detail: '', cpuMs: null, gpuMs: null, adapter: null,
});

interface Fake extends Model {
  freed: boolean;
}

/** Loads models that do nothing; `refuse` says for which wishes loading fails, and how. */
function loader(refuse: (wish: DeviceWish) => string | undefined = () => undefined) {
  const loaded: Fake[] = [];
  const load = async (wish: DeviceWish): Promise<Fake> => {
    const code = refuse(wish);
    if (code) throw new EngineError(code, `${code}; it is a test`);
    const kind = wish.device === 'cpu' ? 'cpu' : 'webgpu';
    const model: Fake = {
      device: report(kind, wish.device),
      tuning: kind === 'webgpu' ? 'tuned' : undefined,
      freed: false,
      free() {
        expect(this.freed).toBe(false);
        this.freed = true;
      },
    };
    loaded.push(model);
    return model;
  };
  return { load, loaded };
}

const lost = (): Promise<never> => Promise.reject(new EngineError('device_lost', 'lost; it is a test'));

describe('OnDevice', () => {
  it('opens on the CPU where the GPU fails, and says what was asked for and why it is not that', async () => {
    const { load } = loader(({ device }) => (device === 'cpu' ? undefined : 'adapter_too_small'));
    const { device } = (await OnDevice.open(load, { device: 'webgpu' })).state;
    expect(device).toMatchObject({ kind: 'cpu', choice: 'webgpu', reason: 'adapter_too_small' });
    expect(device.detail).toContain('CPU');
  });

  it('opens nothing where the files are at fault', async () => {
    const { load, loaded } = loader(() => 'base_weights');
    await expect(OnDevice.open(load, { device: 'auto' })).rejects.toMatchObject({ code: 'base_weights' });
    expect(loaded).toEqual([]);
  });

  it('does the work again on the CPU, tells of it once, and frees the lost one', async () => {
    const { load, loaded } = loader();
    const on = await OnDevice.open(load, { device: 'auto' });
    const told: DeviceState[] = [];
    const work = (model: Fake): Promise<string> => (model.device.kind === 'cpu' ? Promise.resolve('done') : lost());
    const answers = await Promise.all([1, 2, 3].map(() => on.run(work, (state) => told.push(state))));
    expect(answers).toEqual(['done', 'done', 'done']);
    expect(told).toHaveLength(1);
    expect(told[0]?.device).toMatchObject({ kind: 'cpu', choice: 'auto', reason: 'device_lost' });
    expect(told[0]).not.toHaveProperty('tuning');
    expect(loaded.map((m) => m.freed)).toEqual([true, false]);
  });

  it('goes on for the others while one call still holds the lost device, and frees it after that', async () => {
    const { load, loaded } = loader();
    const on = await OnDevice.open(load, { device: 'webgpu' });
    let fail = (): void => undefined;
    const held = new Promise<never>((_, reject) => (fail = () => void lost().catch(reject)));
    const work = (wait: Promise<never>) => (model: Fake): Promise<string> =>
      model.device.kind === 'cpu' ? Promise.resolve('done') : wait;
    const paused = on.run(work(held), () => undefined);
    await expect(on.run(work(lost()), () => undefined)).resolves.toBe('done');
    expect(loaded[0]?.freed).toBe(false);
    fail();
    await expect(paused).resolves.toBe('done');
    expect(loaded.map((m) => m.freed)).toEqual([true, false]);
  });

  it('passes on what is no failure of a GPU, and a failure on the CPU', async () => {
    const { load } = loader();
    const on = await OnDevice.open(load, { device: 'webgpu' });
    const memory = (): Promise<never> => Promise.reject(new EngineError('memory', 'too long; shorten it'));
    await expect(on.run(memory, () => undefined)).rejects.toMatchObject({ code: 'memory' });
    expect(on.state.device.kind).toBe('webgpu');
    await on.move({ device: 'cpu' });
    await expect(on.run(lost, () => undefined)).rejects.toMatchObject({ code: 'device_lost' });
  });

  it('fails with the reason where the CPU cannot take over either, and tries again the next time', async () => {
    let full = true;
    const { load } = loader(({ device }) => (device === 'cpu' && full ? 'memory' : undefined));
    const on = await OnDevice.open(load, { device: 'webgpu' });
    const work = (model: Fake): Promise<string> => (model.device.kind === 'cpu' ? Promise.resolve('done') : lost());
    await expect(on.run(work, () => undefined)).rejects.toMatchObject({ code: 'memory' });
    full = false;
    await expect(on.run(work, () => undefined)).resolves.toBe('done');
  });

  it('keeps the old device where a move fails', async () => {
    const { load, loaded } = loader(({ device }) => (device === 'webgpu' ? 'no_adapter' : undefined));
    const on = await OnDevice.open(load, { device: 'cpu' });
    await expect(on.move({ device: 'webgpu' })).rejects.toMatchObject({ code: 'no_adapter' });
    expect(on.state.device.kind).toBe('cpu');
    expect(loaded[0]?.freed).toBe(false);
    await on.move({ device: 'auto' });
    expect(on.state).toMatchObject({ device: { kind: 'webgpu', choice: 'auto' }, tuning: 'tuned' });
    expect(loaded[0]?.freed).toBe(true);
  });
});
