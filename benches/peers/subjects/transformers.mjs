/** transformers.js on its WebAssembly backend, which has an onnxruntime-web of its own: greedy generation, without modules. */
import { AutoModelForSeq2SeqLM, Tensor, env } from '/packages/@huggingface/transformers/dist/transformers.min.js';
import { ids } from './random.mjs';

export async function setup({ threads, dtype }, { shape, input_tokens: length, new_tokens: tokens }) {
  env.allowRemoteModels = false;
  env.allowLocalModels = true;
  env.localModelPath = '/models/';
  env.useBrowserCache = false;
  env.useWasmCache = false;
  const wasm = env.backends.onnx.wasm;
  wasm.wasmPaths = new URL('/packages/@huggingface/transformers/node_modules/onnxruntime-web/dist/', location.href).href;
  wasm.numThreads = threads;
  const model = await AutoModelForSeq2SeqLM.from_pretrained(`${shape}/transformers`, { dtype, device: 'wasm' });
  const int64 = (values) => new Tensor('int64', BigInt64Array.from(values, BigInt), [1, length]);
  const [input_ids, attention_mask] = [int64(ids(length)), int64(Array(length).fill(1))];
  return async () => {
    const output = await model.generate({ inputs: input_ids, attention_mask, max_new_tokens: tokens, do_sample: false });
    return output.dims[1] - 1;
  };
}
