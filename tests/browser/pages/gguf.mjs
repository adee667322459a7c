/** Writes named f32 tensors as GGUF version 3, with Hugging Face's names, as candle does. */

const ALIGNMENT = 32;
const F32 = 0;
const STRING = 8;

/** @param {Map<string, { shape: number[], values: Float32Array }>} tensors */
export function gguf(tensors) {
  const parts = [];
  let length = 0;
  const push = (bytes) => {
    parts.push(bytes);
    length += bytes.length;
  };
  const number = (bytes, value) => {
    const view = new DataView(new ArrayBuffer(bytes));
    if (bytes === 8) view.setBigUint64(0, BigInt(value), true);
    else view.setUint32(0, value, true);
    push(new Uint8Array(view.buffer));
  };
  const text = (value) => {
    const bytes = new TextEncoder().encode(value);
    number(8, bytes.length);
    push(bytes);
  };
  push(new TextEncoder().encode('GGUF'));
  number(4, 3);
  number(8, tensors.size);
  number(8, 1);
  text('general.architecture');
  number(4, STRING);
  text('t5');
  const aligned = (at) => Math.ceil(at / ALIGNMENT) * ALIGNMENT;
  let offset = 0;
  for (const [name, { shape, values }] of tensors) {
    text(name);
    number(4, shape.length);
    for (const size of [...shape].reverse()) number(8, size);
    number(4, F32);
    number(8, offset);
    offset = aligned(offset + values.byteLength);
  }
  for (const { values } of tensors.values()) {
    push(new Uint8Array(aligned(length) - length));
    push(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
  }
  push(new Uint8Array(aligned(length) - length));
  return new Blob(parts);
}
