/**
 * What a server can be told to do wrong, and the sending of a body that does it.
 *
 * @typedef {object} Fault
 * @property {Kind} kind
 * @property {string} [path] which requests: `owner/name/file`, or `owner/name` for the API; `*` stands for anything
 * @property {'hub' | 'cdn' | 'api'} [hop] which of them; each kind has its usual one
 * @property {number | null} [count] how many such requests, 1 unless said; `null` for all
 * @property {number} [after] how many such requests go well before
 * @property {number} [at] for `drop`, `stall` and `truncate` bytes of the body that come before, for `flip` the byte in
 *   the file; 0 unless said
 * @property {number} [status] for `status`
 * @property {number} [retryAfter] for `status`: seconds of a `Retry-After`
 * @property {number} [bytesPerSecond] for `slow`
 */
import { open } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';

/** Each kind, and where it is met unless `hop` says otherwise. */
const KINDS = /** @type {const} */ ({
  /** No answer: the connection is closed. */
  refuse: 'cdn',
  /** The connection breaks after `at` bytes of the body. */
  drop: 'cdn',
  /** Nothing more comes after `at` bytes. */
  stall: 'cdn',
  /** The answer says that it has `at` bytes, and has no more. */
  truncate: 'cdn',
  /** One bit of byte `at` of the file. */
  flip: 'cdn',
  /** Other bytes than asked for, and Content-Range says so. */
  'wrong-range': 'cdn',
  /** The whole file with 200, whatever was asked for. */
  'no-ranges': 'cdn',
  /** No header is shown to a page. */
  hidden: 'cdn',
  /** `bytesPerSecond` for each answer. */
  slow: 'cdn',
  /** `status`, with `retryAfter`. */
  status: 'cdn',
  /** A redirect to an address that is no longer good. */
  expired: 'hub',
});

/** @typedef {keyof typeof KINDS} Kind */

/** Checks what came as JSON. @param {unknown} faults @returns {Fault[]} */
export function checked(faults) {
  if (!Array.isArray(faults)) throw new TypeError('faults are a list');
  for (const fault of faults) {
    if (!Object.hasOwn(KINDS, fault?.kind)) {
      throw new TypeError(`there is no fault ${JSON.stringify(fault?.kind)}; there are ${Object.keys(KINDS).join(', ')}`);
    }
  }
  return faults;
}

/** @param {string} pattern @param {string} text */
function matches(pattern, text) {
  const escaped = pattern.split('*').map((part) => part.replace(/[.+?^${}()|[\]\\]/gu, '\\$&'));
  return new RegExp(`^${escaped.join('.*')}$`, 'u').test(text);
}

/**
 * The faults that a request meets, by kind; each is used up by one.
 *
 * @param {Fault[]} faults
 * @param {'hub' | 'cdn' | 'api'} hop
 * @param {string} path
 * @param {{ start: number, end: number }} [range] the bytes of the answer
 * @returns {Partial<Record<Kind, Fault>>}
 */
export function met(faults, hop, path, range) {
  /** @type {Partial<Record<Kind, Fault>>} */
  const found = {};
  for (const fault of faults) {
    if ((fault.hop ?? KINDS[fault.kind]) !== hop || !matches(fault.path ?? '*', path) || found[fault.kind]) continue;
    const at = fault.at ?? 0;
    if (fault.kind === 'flip' && range && (at < range.start || at >= range.end)) continue;
    if (fault.count === undefined) fault.count = 1;
    if (fault.count === 0) continue;
    if (fault.after) {
      fault.after -= 1;
      continue;
    }
    if (fault.count !== null) fault.count -= 1;
    found[fault.kind] = fault;
  }
  return found;
}

/**
 * Sends a part of a file, with its faults, and counts the bytes in `entry.sent`.
 *
 * @param {import('node:http').ServerResponse} response whose head is written
 * @param {string} path
 * @param {{ start: number, end: number }} range
 * @param {Partial<Record<Kind, Fault>>} fault
 * @param {{ sent: number }} entry
 */
export async function send(response, path, range, fault, entry) {
  const file = await open(path);
  try {
    const length = range.end - range.start;
    const limit = Math.min(length, ...[fault.drop, fault.stall, fault.truncate].flatMap((f) => (f ? [f.at ?? 0] : [])));
    const rate = fault.slow?.bytesPerSecond;
    const most = rate ? Math.max(1, Math.min(1 << 16, Math.floor(rate / 20))) : 1 << 18;
    while (entry.sent < limit && !response.req.socket.destroyed) {
      const start = range.start + entry.sent;
      const { buffer, bytesRead } = await file.read(Buffer.alloc(Math.min(most, limit - entry.sent)), 0, undefined, start);
      if (bytesRead === 0) break;
      const piece = buffer.subarray(0, bytesRead);
      const flipped = (fault.flip?.at ?? (fault.flip ? 0 : -1)) - start;
      if (flipped >= 0 && flipped < bytesRead) piece[flipped] ^= 1;
      entry.sent += bytesRead;
      await written(response, piece);
      if (rate) await sleep((1000 * bytesRead) / rate);
    }
    if (fault.stall) return; // The connection stays open, and nothing comes.
    if (fault.drop) {
      // What was written goes out first: a reset would take it along.
      response.socket?.end();
      await sleep(20);
      response.destroy();
    } else {
      response.end();
    }
  } finally {
    await file.close();
  }
}

/**
 * Writes, and waits until it is out, or the connection gone: a response that waits behind another is not told of that.
 *
 * @param {import('node:http').ServerResponse} response
 * @param {Buffer} piece
 */
function written(response, piece) {
  const { socket } = response.req;
  return new Promise((resolve) => {
    const done = () => {
      socket.off('close', done);
      resolve(undefined);
    };
    socket.once('close', done);
    response.write(piece, done);
    if (socket.destroyed) done();
  });
}
