import { describe, expect, it } from 'vitest';
import { recognise, type LocalFile } from './local.ts';

const files = (...paths: string[]): LocalFile[] => paths.map((path) => ({ path, file: new Blob(['x'.repeat(path.length)]) }));
const index = (...shards: string[]): LocalFile => ({
  path: 'base/model.safetensors.index.json',
  file: new Blob([JSON.stringify({ weight_map: Object.fromEntries(shards.map((shard, i) => [`tensor.${i}`, shard])) })]),
});
const BASE = ['base/config.json', 'base/tokenizer.json', 'base/model.safetensors'];

describe('recognise', () => {
  it('finds a base and modules by the folders they lie in', async () => {
    const { bases, modules, others } = await recognise(
      files(...BASE, 'base/spiece.model', 'm/a/adapter_config.json', 'm/a/adapter_model.bin', 'm/b/adapter_config.json', 'm/b/adapter_model.safetensors', 'm/b/README.md'),
    );
    expect(bases).toMatchObject([{ folder: 'base', name: 'base', missing: [] }]);
    expect(Object.keys(bases[0]?.files ?? {}).sort()).toEqual(['config.json', 'model.safetensors', 'tokenizer.json']);
    expect(modules.map(({ name, missing, files }) => [name, missing, files?.name])).toEqual([['a', [], 'a'], ['b', [], 'b']]);
    expect(others).toEqual([]);
  });

  it('takes single files for one folder without a name', async () => {
    const { bases, modules } = await recognise(files('config.json', 'tokenizer.json', 'model.safetensors'));
    expect(bases).toMatchObject([{ name: 'base', missing: [] }]);
    expect(modules).toEqual([]);
    expect(await recognise(files('adapter_config.json', 'adapter_model.bin'))).toMatchObject({ bases: [], modules: [{ name: 'module', missing: [] }] });
  });

  it.each([
    [['base/config.json', 'base/model.safetensors'], ['tokenizer.json']],
    [['base/tokenizer.json'], ['config.json', 'model.safetensors']],
    [['base/config.json', 'base/tokenizer.json', 'base/pytorch_model-00001-of-00002.bin'], ['model.safetensors']],
    [['base/config.json', 'base/pytorch_model.bin'], ['tokenizer.json']],
    [['base/config.json', 'base/tokenizer.json', 'base/model-00001-of-00002.safetensors'], ['model.safetensors.index.json']],
  ])('says what is missing of %j', async (paths, missing) => {
    expect((await recognise(files(...paths))).bases).toMatchObject([{ missing }]);
  });

  it.each(['pytorch_model.bin', 'flan-t5-small-q8_0.gguf'])('takes %s for weights too', async (weights) => {
    const { bases, others } = await recognise(files('base/config.json', 'base/tokenizer.json', `base/${weights}`));
    expect(bases).toMatchObject([{ missing: [], bytes: `base/${weights}`.length }]);
    expect(Object.keys(bases[0]?.files ?? {})).toContain(weights);
    expect(others).toEqual([]);
  });

  it('asks for every part that an index names', async () => {
    const parts = ['model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors'];
    const some = [...files('base/config.json', 'base/tokenizer.json', `base/${parts[0]}`), index(...parts)];
    expect((await recognise(some)).bases).toMatchObject([{ missing: [parts[1]] }]);
    const { bases } = await recognise([...some, ...files(`base/${parts[1]}`)]);
    expect(bases).toMatchObject([{ missing: [] }]);
    expect(Object.keys(bases[0]?.files ?? {})).toHaveLength(5);
  });

  it('does not trust an index that it cannot read', async () => {
    const broken = { path: 'base/model.safetensors.index.json', file: new Blob(['{']) };
    expect((await recognise([...files('base/config.json', 'base/tokenizer.json'), broken])).bases).toMatchObject([
      { missing: ['a readable model.safetensors.index.json'] },
    ]);
  });

  it('does not take a module for a base because a configuration lies beside it', async () => {
    const { bases, modules } = await recognise(files('m/adapter_config.json', 'm/adapter_model.safetensors', 'm/tokenizer.json', 'm/config.json'));
    expect(bases).toEqual([]);
    expect(modules).toMatchObject([{ name: 'm', missing: [] }]);
  });

  it('says what is missing of a module, and what is nothing', async () => {
    const { modules, others } = await recognise(files('a/adapter_config.json', 'b/adapter_model.bin', 'holiday.jpg', 'a/notes.txt'));
    expect(modules).toMatchObject([
      { name: 'a', missing: ['adapter_model.safetensors or adapter_model.bin'], files: undefined },
      { name: 'b', missing: ['adapter_config.json'], files: undefined },
    ]);
    expect(others).toEqual(['a/notes.txt', 'holiday.jpg']);
  });

  it('gives modules names of their own', async () => {
    const paths = ['x/checkpoint', 'y/checkpoint', 'x/y/checkpoint'].flatMap((folder) => [`${folder}/adapter_config.json`, `${folder}/adapter_model.bin`]);
    const { modules } = await recognise(files(...paths));
    expect(modules.map(({ name }) => name)).toEqual(['checkpoint', 'y-checkpoint', 'checkpoint-2']);
    expect(modules.map(({ files }) => files?.name)).toEqual(['checkpoint', 'y-checkpoint', 'checkpoint-2']);
  });
});
