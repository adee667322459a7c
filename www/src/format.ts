/** Numbers and messages as the page shows them. */

/** Between a number and its unit, so that no line breaks there. */
const NB = '\u00a0';

/** A whole number with commas between thousands. Not `Intl`, whose tables take a browser some 30 ms to load. */
export const count = (n: number): string => n.toFixed(0).replace(/\B(?=(\d{3})+$)/g, ',');
export const millions = (n: number): string => `${Number((n / 1e6).toPrecision(2))}${NB}million`;

/** A loss: three significant digits, never in exponents. */
export function loss(x: number | null | undefined): string {
  if (x === null || x === undefined || !Number.isFinite(x)) return '–';
  if (x >= 100) return x.toFixed(0);
  if (x >= 10) return x.toFixed(1);
  return x >= 0.1 ? x.toFixed(2) : x.toFixed(3);
}

/** A weight with its sign; a true minus, so that columns align. */
export function weight(w: number): string {
  const rounded = Math.round(w * 100) / 100;
  if (rounded === 0) return '0';
  return `${rounded < 0 ? '−' : '+'}${Math.abs(rounded).toFixed(2)}`;
}

export function bytes(n: number): string {
  if (n < 1000) return `${n}${NB}B`;
  if (n < 999_500) return `${(n / 1000).toFixed(0)}${NB}kB`;
  if (n < 99.95e6) return `${(n / 1e6).toFixed(1)}${NB}MB`;
  return n < 999.5e6 ? `${(n / 1e6).toFixed(0)}${NB}MB` : `${(n / 1e9).toFixed(2)}${NB}GB`;
}

/** A duration, coarser the longer it is. */
export function duration(seconds: number): string {
  if (!Number.isFinite(seconds)) return '–';
  if (seconds < 0.95) return `under${NB}1${NB}s`;
  if (seconds < 59.5) return `${Math.round(seconds)}${NB}s`;
  const minutes = Math.floor(seconds / 60);
  const rest = Math.round((seconds % 60) / 10) * 10;
  if (minutes >= 60) return `${Math.floor(minutes / 60)}${NB}h ${minutes % 60}${NB}min`;
  return rest === 60 ? `${minutes + 1}${NB}min` : rest === 0 ? `${minutes}${NB}min` : `${minutes}${NB}min ${rest}${NB}s`;
}

/** An estimate as the start of a sentence. */
export const about = (seconds: number): string =>
  seconds < 0.95 ? `Under${NB}1${NB}s` : `About ${duration(seconds)}`;

/** Milliseconds to two digits, more where they are whole. */
export const millis = (ms: number): string => `${ms < 10 ? Number(ms.toPrecision(2)) : Math.round(ms)}${NB}ms`;

export function rate(perSecond: number): string {
  return perSecond >= 10 ? count(perSecond) : perSecond.toFixed(1);
}

export const percent = (p: number): string => `${p.toFixed(1)}${NB}%`;

/** A message and what to do about it: the remedy follows the last semicolon. */
export function splitRemedy(message: string): { what: string; remedy: string } {
  const at = message.lastIndexOf('; ');
  const sentence = (s: string): string => {
    const text = s.trim();
    return text === '' ? '' : `${text[0]?.toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? '' : '.'}`;
  };
  return at < 0
    ? { what: sentence(message), remedy: '' }
    : { what: sentence(message.slice(0, at)), remedy: sentence(message.slice(at + 2)) };
}
