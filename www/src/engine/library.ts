/** What the page and a worker say to each other of models on a hub, and of those that are kept in the browser. */
import type { Rule } from './protocol.ts';

export interface ManifestFile {
  path: string;
  size?: number;
}

/** A base or module that a manifest lists. What is not known is absent. */
interface Listed {
  repository: string;
  commit?: string;
  files: ManifestFile[];
  licence?: string;
  description?: string;
}

export interface ListedBase extends Listed {
  id: string;
}

export interface ListedModule extends Listed {
  name: string;
  /** The `id` of the base it was trained on. */
  base: string;
  rule?: Rule;
  task?: string;
  tags?: string[];
}

export interface Manifest {
  bases: ListedBase[];
  modules: ListedModule[];
  sets?: { name: string; modules: string[]; description?: string }[];
}

/** A base or module that was downloaded. */
export interface Kept {
  kind: 'base' | 'module';
  name: string;
  repository: string;
  commit: string;
  /** A module's. */
  base?: string;
  rule?: Rule;
  licence?: string;
  files: { path: string; sha256: string; size: number }[];
  /** A base's weights as devices hold them, made when it was opened so; absent: none. */
  converted?: { storage: 'f16' | 'q8_0' | 'q4_0'; size: number }[];
  /** Of the files. */
  bytes: number;
  /** Whether all its files are still there: a browser may clear them. */
  whole: boolean;
}

export interface Storage {
  kept: Kept[];
  /** Bytes that the browser still gives this site; absent where it does not say. */
  free?: number;
}

/** What a download is doing, and with which file of which base or module. */
export type DownloadProgress = { name: string; path: string; /** From 0, of `files`. */ index: number; files: number } & (
  | { state: 'kept'; bytes: number }
  | { state: 'checking' | 'verifying'; done: number; total: number }
  | { state: 'fetching'; done: number; total: number | null; per_second: number | null; seconds_left: number | null }
  | { state: 'waiting'; reason: WaitReason; attempt: number; seconds: number }
  | { state: 'whole' }
  | { state: 'done'; bytes: number; fetched: number }
);
export type WaitReason = 'network' | 'stalled' | 'busy' | 'server' | 'expired' | 'reply' | 'hash';

/** Where models are downloaded from. */
export interface HubPlace {
  /** A hub or a mirror of it: `https`, or this machine. */
  address: string;
  /** A manifest among the page's own files; absent: the public one, which is built in. */
  manifestUrl?: string;
}

/** The library's methods. */
export interface LibraryCalls {
  /** Asks no other host than the page's own. */
  openLibrary: { args: { wasmUrl: string; place: HubPlace }; result: { address: string; manifest: Manifest }; report: never };
  storage: { args: Record<string, never>; result: Storage; report: never };
  /** Aborting rejects with code `hub_cancelled`; what has come is kept, and the next call goes on from there. */
  download: { args: { names: string[] }; result: null; report: DownloadProgress };
  /** Reads everything again; the number of bytes that were right. */
  verify: { args: { name: string }; result: number; report: never };
  remove: { args: { name: string }; result: null; report: never };
  /** Unfinished downloads too. */
  removeAll: { args: Record<string, never>; result: null; report: never };
}
