/** What was written for each task, and the rows of a task as it came. */
import type { Shot, TaskInfo } from './engine/protocol.ts';
import { OWN, type Draft, type DraftShot } from './state.ts';

const BLANK: Shot = { input: '', output: '' };

export class Drafts {
  readonly #kept = new Map<string, Draft>();
  /** Empty rows that a task of the visitor's own begins with. */
  #blanks = 2;
  #nextKey = 1;

  /** What was written for this task, or its own rows. */
  of(task: TaskInfo): Draft {
    return this.#kept.get(task.id) ?? this.fresh(task);
  }

  /** The task's own rows again. */
  fresh(task: TaskInfo): Draft {
    const draft = { task, own: task.id === OWN, shots: this.#rows(task).map((shot) => this.row(shot)), test: task.test };
    this.#kept.set(task.id, draft);
    return draft;
  }

  row(shot: Shot): DraftShot {
    return { ...shot, key: this.#nextKey++ };
  }

  edited(draft: Draft): boolean {
    return JSON.stringify(draft.shots.map(bare)) !== JSON.stringify(this.#rows(draft.task).map(bare)) || draft.test !== draft.task.test;
  }

  /** For another base: of what was written, only a task of the visitor's own makes sense there. */
  forBase(blanks: number): void {
    const own = this.#kept.get(OWN);
    const stays = own !== undefined && this.edited(own);
    this.#kept.clear();
    this.#blanks = blanks;
    if (stays) this.#kept.set(OWN, own);
  }

  #rows(task: TaskInfo): Shot[] {
    return task.id === OWN ? Array.from({ length: this.#blanks }, () => BLANK) : task.shots;
  }
}

export function bare({ input, output }: Shot): Shot {
  return { input, output };
}
