import type { FraudstreamError } from "../../schemas/errors.js";
import type { DataDirLock } from "./data-dir.js";

/** What the start of a local engine needs. */
export interface EngineStart {
  dataDir: string;
  cacheDir: string;
  lock: DataDirLock;
  progress: (line: string) => void;
  signal?: AbortSignal;
}

/** A local engine that answers. */
export interface RunningEngine {
  /** `host:port`, or a URL. */
  address: string;
  /** In words for people. */
  how: string;
  /** Resolves, with words about how, once it has ended. */
  ended: Promise<string>;
  /** An error about it, with the end of its log. */
  failure: (what: string) => FraudstreamError;
  stop: () => Promise<void>;
}
