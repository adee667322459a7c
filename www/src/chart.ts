/** The geometry of the loss chart: scales, ticks and paths, without any view. */
import type { HistoryPoint } from './engine/protocol.ts';

export interface Box {
  left: number;
  top: number;
  width: number;
  height: number;
}

export interface Scale {
  (value: number): number;
  ticks: number[];
}

/** A logarithmic scale from `low` (bottom) to `high` (top), values outside drawn at the edge. */
export function logScale(low: number, high: number, box: Box): Scale {
  const [a, b] = [Math.log(low), Math.log(high)];
  const scale = (value: number): number => {
    const t = (Math.log(Math.max(value, 1e-12)) - a) / (b - a);
    return box.top + box.height * (1 - Math.min(1, Math.max(0, t)));
  };
  return Object.assign(scale, { ticks: logTicks(low, high) });
}

/** 1, 2, 5 times powers of ten inside [low, high]; only powers of ten where that gives too many. */
export function logTicks(low: number, high: number): number[] {
  const all: number[] = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++) {
    for (const lead of [1, 2, 5]) {
      // Through text, so that 1e-3 * 2 is 0.002 exactly.
      const value = Number(`${lead}e${power}`);
      if (value >= low && value <= high) all.push(value);
    }
  }
  return all.length > 8 ? all.filter((v) => Math.abs(Math.log10(v) - Math.round(Math.log10(v))) < 1e-9) : all;
}

/** A linear scale from 0 to `most`, left to right, with about `wish` round ticks. */
export function linearScale(most: number, box: Box, wish: number): Scale {
  const scale = (value: number): number => box.left + (box.width * value) / most;
  const raw = most / wish;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((lead) => lead * power).find((s) => s >= raw && Number.isInteger(s)) ?? Math.ceil(raw);
  const ticks: number[] = [];
  for (let v = 0; v <= most; v += step) ticks.push(v);
  return Object.assign(scale, { ticks });
}

/**
 * The range of losses to show, rounded outwards so that it seldom changes while points arrive.
 * Without points: a range that suits most tasks.
 */
export function lossRange(values: number[]): [low: number, high: number] {
  const shown = values.filter((v) => Number.isFinite(v) && v > 0);
  if (shown.length === 0) return [0.05, 10];
  const round = (v: number, up: boolean): number => {
    const power = 10 ** Math.floor(Math.log10(v));
    const leads = [1, 2, 5, 10];
    const lead = up ? leads.find((l) => l * power >= v) : leads.filter((l) => l * power <= v).at(-1);
    return (lead ?? 1) * power;
  };
  const low = round(Math.min(...shown) * 0.9, false);
  const high = round(Math.max(...shown) * 1.1, true);
  return [low, Math.max(high, low * 5)];
}

/** One dot a point, as zero-length strokes for round line caps: one path for hundreds of dots. */
export function dots(points: HistoryPoint[], x: Scale, y: Scale): string {
  return points
    .filter((p) => p.objective !== null)
    .map((p) => `M${fixed(x(p.evaluation))} ${fixed(y(p.objective ?? 0))}h0`)
    .join('');
}

export interface BestPoint extends HistoryPoint {
  best: number;
}

/** Every point with the lowest objective up to and including it. */
export function bestSoFar(points: HistoryPoint[]): BestPoint[] {
  let best = Infinity;
  return points.map((p) => {
    best = Math.min(best, p.objective ?? Infinity);
    return { ...p, best };
  });
}

/** The best so far as a step line. */
export function steps(points: BestPoint[], x: Scale, y: Scale): string {
  let path = '';
  let last = Infinity;
  for (const p of points) {
    if (!Number.isFinite(p.best)) continue;
    if (path === '') path = `M${fixed(x(p.evaluation))} ${fixed(y(p.best))}`;
    else if (p.best < last) path += `H${fixed(x(p.evaluation))}V${fixed(y(p.best))}`;
    last = p.best;
  }
  const end = points.at(-1);
  return end && path !== '' ? `${path}H${fixed(x(end.evaluation))}` : path;
}

export interface PhaseBand {
  phase: HistoryPoint['phase'];
  from: number;
  to: number;
}

/** Where each phase begins and ends, in evaluations. */
export function phases(points: HistoryPoint[]): PhaseBand[] {
  const bands: PhaseBand[] = [];
  for (const p of points) {
    const last = bands.at(-1);
    if (last?.phase === p.phase) last.to = p.evaluation;
    else bands.push({ phase: p.phase, from: last?.to ?? 0, to: p.evaluation });
  }
  return bands;
}

const fixed = (v: number): string => v.toFixed(1);
