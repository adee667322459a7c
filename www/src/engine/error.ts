/** The one error class of the engine, on both ends of the protocol. */
import type { Failure } from './protocol.ts';

/** A failure with a stable code. The message is one sentence; what to do follows its last semicolon. */
export class EngineError extends Error {
  readonly code: string;

  constructor(code: string, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = 'EngineError';
    this.code = code;
  }

  static from(failure: Failure): EngineError {
    return new EngineError(failure.code, failure.message, failure.cause);
  }

  /** Whatever was thrown, as an `EngineError`: an `Error` that carries a `code` keeps it. */
  static wrap(thrown: unknown, code = 'internal'): EngineError {
    if (thrown instanceof EngineError) return thrown;
    if (thrown instanceof DOMException && thrown.name === 'AbortError') {
      return new EngineError('aborted', 'the call was cancelled', thrown);
    }
    if (thrown instanceof Error) {
      const own: unknown = (thrown as { code?: unknown }).code;
      return new EngineError(typeof own === 'string' ? own : code, thrown.message, thrown.cause ?? thrown);
    }
    return new EngineError(code, String(thrown));
  }

  /** As data, for the way to the page. */
  toFailure(): Failure {
    const failure: Failure = { code: this.code, message: this.message };
    if (this.cause !== undefined) failure.cause = this.cause instanceof Error ? this.cause.message : String(this.cause);
    return failure;
  }
}
