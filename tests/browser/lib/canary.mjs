/** Finding a word in recorded requests, however it was written. */

/** A word that no model, page or browser has of its own. */
export const CANARY = 'kanarienvogel7319';

/** The word's spellings: plain, in UTF-16, hexadecimal, reversed, and in base64 at each of the three alignments. */
function spellings(word) {
  const bytes = Buffer.from(word);
  const base64 = [0, 1, 2].map((shift) => {
    const shifted = Buffer.concat([Buffer.alloc(shift), bytes]).toString('base64').replace(/=+$/, '');
    // The characters that mix with what stands before and after the word are left off.
    return shifted.slice(Math.ceil((shift * 8) / 6), Math.floor(((shift + bytes.length) * 8) / 6));
  });
  return [
    word,
    Buffer.from(word, 'utf16le').toString('latin1'),
    bytes.toString('hex'),
    [...word].reverse().join(''),
    ...base64,
    ...base64.map((text) => text.replaceAll('+', '-').replaceAll('/', '_')),
  ];
}

function decoded(text) {
  try {
    return decodeURIComponent(text.replaceAll('+', ' '));
  } catch {
    return text;
  }
}

/** The requests that carry the word anywhere: address, headers or body. */
export function carrying(requests, word = CANARY) {
  const wanted = spellings(word).map((s) => s.toLowerCase());
  return requests.filter(({ url, headers, body }) => {
    const places = [url, headers, body];
    const text = [...places, ...places.map(decoded)].join('\n').toLowerCase();
    return wanted.some((s) => text.includes(s));
  });
}

/**
 * Services that Chromium itself calls from time to time, whatever the flags: its updates, its sign-in, its lists. No
 * page has a reason to. What is sent there is still searched for the canary.
 */
const BROWSERS_OWN = new Set([
  'accounts.google.com',
  'android.clients.google.com',
  'clients2.google.com',
  'clientservices.googleapis.com',
  'content-autofill.googleapis.com',
  'optimizationguide-pa.googleapis.com',
  'safebrowsing.googleapis.com',
  'update.googleapis.com',
]);

/** The host that a request asks for; a tunnel's address is a host and a port, without a scheme. */
function host({ method, url }) {
  return new URL(method === 'CONNECT' ? `https://${url}` : url).hostname;
}

/** The requests to anywhere but the page's own host. */
export const foreign = (requests) => requests.filter((r) => r.foreign && !BROWSERS_OWN.has(host(r)));

/** The requests that are not the browser's own. */
export const pages = (requests) => requests.filter((r) => !r.foreign || foreign([r]).length > 0);

/** For messages: what was asked of whom. */
export const lines = (requests) => requests.map((r) => `${r.method} ${r.url}`);
