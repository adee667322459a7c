/** Serving the bundled family with something wrong in it. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

const FAMILY = 'models/demo/';

/**
 * For `serve`: changes files of the family that a page asks for.
 *
 * `fault.files` maps a path inside the family to a function of its bytes that returns other bytes, or an HTTP status.
 * With `fault.renewed`, SHA256SUMS is that of the changed files, so that the fault gets past it.
 *
 * @param {string} dist the finished page
 * @param {string} base the path it is served under
 * @param {() => { files: Record<string, (bytes: Buffer) => Buffer | number>, renewed?: boolean } | undefined} current
 */
export function faulty(dist, base, current) {
  return (path, bytes) => {
    const fault = current();
    if (!fault || !path.startsWith(base + FAMILY)) return bytes;
    const name = path.slice((base + FAMILY).length);
    if (fault.files[name]) return fault.files[name](bytes);
    if (name !== 'SHA256SUMS' || !fault.renewed) return bytes;
    const lines = bytes.toString('utf8').split('\n').map((line) => {
      const file = line.slice(66);
      const change = fault.files[file];
      if (!change) return line;
      const changed = change(readFileSync(join(dist, FAMILY, file)));
      return Buffer.isBuffer(changed) ? `${createHash('sha256').update(changed).digest('hex')}  ${file}` : line;
    });
    return Buffer.from(lines.join('\n'));
  };
}

/** JSON with some fields set, or taken out by `undefined`. */
export const json = (change) => (bytes) => {
  const value = JSON.parse(bytes.toString('utf8'));
  return Buffer.from(JSON.stringify({ ...value, ...(typeof change === 'function' ? change(value) : change) }));
};

/** A safetensors file with its header rewritten, the tensors' bytes as they were. */
export const header = (change) => (bytes) => {
  const length = Number(bytes.readBigUInt64LE(0));
  const old = JSON.parse(bytes.toString('utf8', 8, 8 + length));
  const text = Buffer.from(change(old, bytes.toString('utf8', 8, 8 + length)));
  const size = Buffer.alloc(8);
  size.writeBigUInt64LE(BigInt(text.length));
  return Buffer.concat([size, text, bytes.subarray(8 + length)]);
};

/** A safetensors file whose last two bytes are an f16 NaN. */
export const withNaN = (bytes) => {
  const copy = Buffer.from(bytes);
  copy.writeUInt16LE(0x7e00, copy.length - 2);
  return copy;
};

/** The first half. */
export const half = (bytes) => bytes.subarray(0, bytes.length >> 1);

/** Other text altogether. */
export const instead = (text) => () => Buffer.from(text);
