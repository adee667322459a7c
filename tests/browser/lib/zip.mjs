/** As much of a zip archive as a test needs: the names in its central directory. */

/** @param {Buffer} bytes */
export function namesInZip(bytes) {
  const end = bytes.lastIndexOf(Buffer.from('PK\x05\x06', 'latin1'));
  if (end < 0) throw new Error('this is no zip archive: it has no end record');
  const count = bytes.readUInt16LE(end + 10);
  let at = bytes.readUInt32LE(end + 16);
  const names = [];
  for (let i = 0; i < count; i++) {
    if (bytes.toString('latin1', at, at + 4) !== 'PK\x01\x02') throw new Error(`entry ${i} is not where the directory should be`);
    const [name, extra, comment] = [28, 30, 32].map((o) => bytes.readUInt16LE(at + o));
    names.push(bytes.toString('utf8', at + 46, at + 46 + name));
    at += 46 + name + extra + comment;
  }
  return names;
}
