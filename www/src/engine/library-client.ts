/** The page's end of the library: models on a hub, and what is kept in the browser, in a worker of their own. */
import type { EngineError } from './error.ts';
import type { DownloadProgress, HubPlace, Manifest, Storage } from './library.ts';
import { startLine, type Line, type WorkerLike } from './line.ts';

export interface LibraryOptions {
  place: HubPlace;
  wasmUrl: string;
  start: () => WorkerLike;
  /** Called once if the worker dies. */
  onCrash?: (error: EngineError) => void;
}

export class Library {
  /** The hub's address. */
  readonly address: string;
  readonly manifest: Manifest;
  readonly #line: Line;

  private constructor(line: Line, address: string, manifest: Manifest) {
    this.#line = line;
    this.address = address;
    this.manifest = manifest;
  }

  /** Starts a worker and opens the store in it. No other host is asked for anything. */
  static async open({ place, wasmUrl, start, onCrash }: LibraryOptions): Promise<Library> {
    const line = startLine(start, onCrash);
    try {
      const { address, manifest } = await line.call('openLibrary', { wasmUrl, place });
      return new Library(line, address, manifest);
    } catch (thrown) {
      line.close();
      throw thrown;
    }
  }

  storage(): Promise<Storage> {
    return this.#line.call('storage', {});
  }

  /** Downloads bases and modules by name. Aborting rejects with `hub_cancelled`; the next call goes on from there. */
  async download(names: string[], signal: AbortSignal, onProgress: (progress: DownloadProgress) => void): Promise<void> {
    await this.#line.call('download', { names }, { signal, onProgress });
  }

  /** Reads a base or module again and compares its hashes; rejects with `hub_corrupt` where one is wrong. */
  verify(name: string): Promise<number> {
    return this.#line.call('verify', { name });
  }

  async remove(name: string): Promise<void> {
    await this.#line.call('remove', { name });
  }

  async removeAll(): Promise<void> {
    await this.#line.call('removeAll', {});
  }

  close(): void {
    this.#line.close();
  }
}
