/** Where models come from: set when the page is built, or by the element's attribute. */

export const PUBLIC_HUB = 'https://huggingface.co';

/** The hub that this page was built for; its policy allows no other. */
export const HUB: string = import.meta.env['VITE_LORAHUB_HUB'] || PUBLIC_HUB;

/** Who is contacted for a download, in words. */
export function hostsOf(address: string): { first: string; more: string } {
  const first = hostOf(address);
  return address === PUBLIC_HUB
    ? { first, more: 'and hosts under hf.co, from which it sends large files' }
    : { first, more: 'and, for large files, any other that it names and this page’s policy allows' };
}

function hostOf(address: string): string {
  try {
    return new URL(address).host;
  } catch {
    return address;
  }
}
