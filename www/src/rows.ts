/** Rows of examples as people have them: pasted JSON Lines, tab-separated lines, or lines with an arrow. */
import { EngineError } from './engine/error.ts';
import type { Shot } from './engine/protocol.ts';

/** More than this is not a few examples any more. */
const MOST_ROWS = 2000;

/**
 * Reads one row a line, skipping empty lines.
 *
 * JSON Lines take `input`/`output` or `context`/`completion`; other lines are split at a tab, else at `=>` or `→`.
 * Throws `EngineError` with code `rows` that names the line.
 */
export function parseRows(text: string): Shot[] {
  const rows: Shot[] = [];
  for (const [index, line] of text.split(/\r\n|\r|\n/).entries()) {
    if (line.trim() === '') continue;
    const row = line.trimStart().startsWith('{') ? fromJson(line, index + 1) : fromText(line, index + 1);
    if (row.input.trim() === '' || row.output.trim() === '') {
      throw new EngineError('rows', `line ${index + 1}: ${row.input.trim() === '' ? 'the input' : 'the output'} is empty; give each row both`);
    }
    rows.push(row);
    if (rows.length > MOST_ROWS) {
      throw new EngineError('rows', `more than ${MOST_ROWS} rows; paste fewer`);
    }
  }
  if (rows.length === 0) throw new EngineError('rows', 'there are no rows; paste one a line, input and output divided by a tab');
  return rows;
}

function fromText(line: string, number: number): Shot {
  const parts = line.includes('\t') ? line.split('\t') : line.split(/\s*(?:=>|→)\s*/);
  if (parts.length !== 2) {
    throw new EngineError(
      'rows',
      `line ${number}: expected one input and one output, found ${parts.length} ${parts.length === 1 ? 'part' : 'parts'}; divide them by one tab or =>`,
    );
  }
  return { input: (parts[0] ?? '').trim(), output: (parts[1] ?? '').trim() };
}

function fromJson(line: string, number: number): Shot {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (cause) {
    throw new EngineError('rows', `line ${number}: this is not JSON; write {"input": "...", "output": "..."}`, cause);
  }
  const row = value as Record<string, unknown>;
  const input = row['input'] ?? row['context'];
  const output = row['output'] ?? row['completion'];
  if (typeof input !== 'string' || typeof output !== 'string') {
    throw new EngineError('rows', `line ${number}: "input" and "output" must both be text; write {"input": "...", "output": "..."}`);
  }
  return { input, output };
}

/** The rows whose input is none of the shots': what may be used to check an adaptation. */
export function withoutShots(rows: Shot[], shots: Shot[]): Shot[] {
  const used = new Set(shots.map((s) => s.input.trim()));
  return rows.filter((row) => !used.has(row.input.trim()));
}
