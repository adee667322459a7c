/** What a visitor may leave wrong before a search, and what to do about it. */
import { EngineError } from './engine/error.ts';
import type { AdaptSettings, Shot } from './engine/protocol.ts';
import { BUDGETS } from './state.ts';

/** The first fault in the examples or the settings, if there is one. A row with neither side filled in is no example. */
export function faultIn(rows: Shot[], { budget, seed }: AdaptSettings): EngineError | undefined {
  const empty = (text: string): boolean => text.trim() === '';
  const faulty = rows.findIndex((s) => empty(s.input) !== empty(s.output));
  if (faulty >= 0) {
    const side = empty(rows[faulty]?.input ?? '') ? 'input' : 'output';
    return new EngineError('shots', `example ${faulty + 1}: the ${side} is empty; fill it in or remove the example`);
  }
  if (rows.every((s) => empty(s.input))) {
    return new EngineError('shots', 'there are no examples; write at least one, five are better');
  }
  if (!Number.isSafeInteger(budget) || budget < BUDGETS.least || budget > BUDGETS.most) {
    return new EngineError(
      'settings',
      `the number of evaluations must be a whole number from ${BUDGETS.least} to ${BUDGETS.most}; change it under Search`,
    );
  }
  if (!Number.isSafeInteger(seed) || seed < 0) {
    return new EngineError('settings', 'the seed must be a whole number of at least 0; change it under Search');
  }
  return undefined;
}
