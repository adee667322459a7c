/**
 * onnxruntime-web on its WebAssembly backend: a teacher-forced pass with its loss in the graph, without modules. Shots of
 * different lengths are padded, as the reference does.
 */
import * as ort from '/packages/onnxruntime-web/dist/ort.wasm.min.mjs';
import { ids } from './random.mjs';

function tensor(rows, length, pad) {
  const data = new BigInt64Array(rows.length * length).fill(BigInt(pad));
  rows.forEach((row, index) => data.set(row.map(BigInt), index * length));
  return new ort.Tensor('int64', data, [rows.length, length]);
}

export async function setup({ threads, precision }, { shape, inputs, targets }) {
  ort.env.wasm.wasmPaths = new URL('/packages/onnxruntime-web/dist/', location.href).href;
  ort.env.wasm.numThreads = threads;
  const file = precision === 'int8' ? 'evaluation_int8' : 'evaluation';
  const session = await ort.InferenceSession.create(`/models/${shape}/${file}.onnx`, { executionProviders: ['wasm'] });
  const [longest, most] = [Math.max(...inputs), Math.max(...targets)];
  const [shots, labels] = [inputs.map(ids), targets.map(ids)];
  const feeds = {
    input_ids: tensor(shots, longest, 0),
    attention_mask: tensor(shots.map((shot) => shot.map(() => 1)), longest, 0),
    decoder_input_ids: tensor(labels.map((shot) => [0, ...shot.slice(0, -1)]), most, 0),
    labels: tensor(labels, most, 0),
  };
  return async (count) => {
    let sum = 0;
    for (let candidate = 0; candidate < count; candidate++) {
      const { nll } = await session.run(feeds);
      sum += nll.data.reduce((a, b) => a + b, 0);
      nll.dispose();
    }
    return sum / (count * targets.length * most);
  };
}
