import { describe, expect, it } from 'vitest';
import { parseRows, withoutShots } from './rows.ts';

describe('parseRows', () => {
  it('reads tabs, arrows and JSON Lines, in any mix', () => {
    const text = 'a cat\tmiru\n\nb => c\r\nd → e\n{"input":"f","output":"g"}\n{"context":"h","completion":"i"}';
    expect(parseRows(text).map((r) => `${r.input}|${r.output}`)).toEqual(['a cat|miru', 'b|c', 'd|e', 'f|g', 'h|i']);
  });

  it.each([
    ['', 'there are no rows'],
    ['no divider', 'line 1: expected one input and one output, found 1 part;'],
    ['ok\tok\na\tb\tc', 'line 2: expected one input and one output, found 3 parts;'],
    ['{"input": 1, "output": "x"}', 'line 1: "input" and "output" must both be text;'],
    ['{"input": ', 'line 1: this is not JSON;'],
    ['null\t', 'line 1: the output is empty;'],
    [' \tx', 'line 1: the input is empty;'],
    ['a\tb\n'.repeat(2001), 'more than 2000 rows;'],
  ])('names the line of %j', (text, message) => {
    let thrown: unknown;
    try {
      parseRows(text);
    } catch (error) {
      thrown = error;
    }
    expect(thrown).toMatchObject({ code: 'rows', message: expect.stringContaining(message) });
  });
});

describe('withoutShots', () => {
  it('leaves out rows whose input is an example', () => {
    const rows = [{ input: 'a', output: 'x' }, { input: 'b', output: 'y' }];
    expect(withoutShots(rows, [{ input: ' a ', output: 'other' }])).toEqual([rows[1]]);
  });
});
