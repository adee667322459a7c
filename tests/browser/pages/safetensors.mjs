/** Reads f32 tensors of a safetensors file that we made ourselves. */

/** @param {Uint8Array} bytes @returns {(name: string) => Float32Array} */
export function tensors(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const length = Number(view.getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + length)));
  return (name) => {
    const entry = header[name];
    if (entry?.dtype !== 'F32') throw new Error(`${name} is not among the F32 tensors`);
    const [start, end] = entry.data_offsets.map((o) => 8 + length + o);
    return new Float32Array(bytes.slice(start, end).buffer);
  };
}
