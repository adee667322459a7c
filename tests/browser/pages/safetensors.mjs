/** Reads f32 tensors of a safetensors file that we made ourselves. */

/** @param {Uint8Array} bytes @returns {{ length: number, entries: Record<string, { dtype: string, shape: number[], data_offsets: number[] }> }} */
function header(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const length = Number(view.getBigUint64(0, true));
  const { __metadata__: _, ...entries } = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + length)));
  return { length, entries };
}

/** All tensors with their shapes. @param {Uint8Array} bytes */
export function all(bytes) {
  const read = tensors(bytes);
  return new Map(Object.entries(header(bytes).entries).map(([name, { shape }]) => [name, { shape, values: read(name) }]));
}

/** @param {Uint8Array} bytes @returns {(name: string) => Float32Array} */
export function tensors(bytes) {
  const { length, entries } = header(bytes);
  return (name) => {
    const entry = entries[name];
    if (entry?.dtype !== 'F32') throw new Error(`${name} is not among the F32 tensors`);
    const [start, end] = entry.data_offsets.map((o) => 8 + length + o);
    return new Float32Array(bytes.slice(start, end).buffer);
  };
}
