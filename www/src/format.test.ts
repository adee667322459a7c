import { describe, expect, it } from 'vitest';
import { about, bytes, count, duration, loss, millions, splitRemedy, weight } from './format.ts';

/** Ordinary spaces, for comparing. */
const plain = (s: string): string => s.replace(/\u00a0/g, ' ');

describe('figures', () => {
  it.each([
    [0.4, 'under 1 s'],
    [1.4, '1 s'],
    [59.4, '59 s'],
    [59.6, '1 min'],
    [95, '1 min 40 s'],
    [119, '2 min'],
    [3720, '1 h 2 min'],
    [Infinity, '–'],
  ])('%f seconds', (seconds, text) => expect(plain(duration(seconds))).toBe(text));

  it('an estimate starts a sentence', () => {
    expect(plain(about(0.4))).toBe('Under 1 s');
    expect(plain(about(95))).toBe('About 1 min 40 s');
  });

  it.each([
    [12, '12 B'],
    [1652992, '1.7 MB'],
    [999_999, '1.0 MB'],
    [125_000_000, '125 MB'],
    [3_130_000_000, '3.13 GB'],
  ])('%i bytes', (n, text) => expect(plain(bytes(n))).toBe(text));

  it.each([
    [-0.5, '−0.50'],
    [1.004, '+1.00'],
    [-0.001, '0'],
  ])('weight %f', (w, text) => expect(weight(w)).toBe(text));

  it('shows losses without exponents, and what is not a number as a dash', () => {
    expect([loss(0.0123), loss(0.5), loss(12.34), loss(1234.5), loss(null), loss(Infinity)]).toEqual([
      '0.012', '0.50', '12.3', '1235', '–', '–',
    ]);
  });

  it.each([
    [0, '0'],
    [999.4, '999'],
    [1000, '1,000'],
    [-1234567.5, '-1,234,568'],
  ])('counts %f with commas', (n, text) => expect(count(n)).toBe(text));

  it('counts parameters in millions', () => expect(plain(millions(826_496))).toBe('0.83 million'));
});

describe('splitRemedy', () => {
  it('takes what follows the last semicolon as the remedy', () => {
    expect(splitRemedy('adapter `x`: rank 8; others have 16; pick adapters of one rank')).toEqual({
      what: 'Adapter `x`: rank 8; others have 16.',
      remedy: 'Pick adapters of one rank.',
    });
    expect(splitRemedy('unreachable')).toEqual({ what: 'Unreachable.', remedy: '' });
  });
});
