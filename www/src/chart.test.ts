import { describe, expect, it } from 'vitest';
import { bestSoFar, dots, linearScale, logScale, logTicks, lossRange, phases, steps } from './chart.ts';
import type { HistoryPoint } from './engine/protocol.ts';

const box = { left: 40, top: 10, width: 200, height: 100 };
const point = (evaluation: number, objective: number | null, phase: HistoryPoint['phase'] = 'search'): HistoryPoint => ({
  evaluation,
  objective,
  loss: objective,
  phase,
});

describe('scales', () => {
  it('put the lowest loss at the bottom and keep what is outside at the edge', () => {
    const y = logScale(0.1, 10, box);
    expect(y(0.1)).toBe(110);
    expect(y(10)).toBe(10);
    expect(y(1)).toBeCloseTo(60);
    expect(y(1e9)).toBe(10);
    expect(y(0)).toBe(110);
  });

  it('choose few, round ticks', () => {
    expect(logTicks(0.05, 5)).toEqual([0.05, 0.1, 0.2, 0.5, 1, 2, 5]);
    expect(logTicks(0.001, 100)).toEqual([0.001, 0.01, 0.1, 1, 10, 100]);
    expect(linearScale(200, box, 8).ticks).toEqual([0, 25, 50, 75, 100, 125, 150, 175, 200]);
    expect(linearScale(30, box, 8).ticks).toEqual([0, 5, 10, 15, 20, 25, 30]);
    expect(linearScale(200, box, 8)(100)).toBe(140);
  });

  it('round the range outwards, ignoring what is no loss', () => {
    expect(lossRange([0.3, 4, Infinity, NaN])).toEqual([0.2, 5]);
    expect(lossRange([1, 1])).toEqual([0.5, 2.5]);
    expect(lossRange([])).toEqual([0.05, 10]);
  });
});

describe('paths', () => {
  const points = [point(1, 4, 'singles'), point(2, null, 'singles'), point(3, 2, 'pass'), point(4, 3), point(5, 1)];
  const x = linearScale(5, { left: 0, top: 0, width: 50, height: 100 }, 5);
  const y = (v: number): number => v;
  const scale = Object.assign(y, { ticks: [] });

  it('leaves out overflowed candidates', () => {
    expect(dots(points, x, scale)).toBe('M10.0 4.0h0M30.0 2.0h0M40.0 3.0h0M50.0 1.0h0');
  });

  it('steps down with the best and runs on to the last evaluation', () => {
    const best = bestSoFar(points);
    expect(best.map((p) => p.best)).toEqual([4, 4, 2, 2, 1]);
    expect(steps(best, x, scale)).toBe('M10.0 4.0H30.0V2.0H50.0V1.0H50.0');
    expect(steps(bestSoFar([point(1, null)]), x, scale)).toBe('');
  });

  it('bands the phases', () => {
    expect(phases(points)).toEqual([
      { phase: 'singles', from: 0, to: 2 },
      { phase: 'pass', from: 2, to: 3 },
      { phase: 'search', from: 3, to: 5 },
    ]);
  });
});
