/**
 * Where a code is met besides an answer over HTTP: the step in a dead letter's headers, the result of a training job, a
 * command or role that ends with exit code 1, or the log.
 */
export type Place = "decode" | "history" | "score" | "store-labels" | "read" | "job" | "exit" | "log";

/** What is to be known of one error code. */
export interface ErrorRow {
  /** The status of a problem with this code, unless the throw says another one. */
  readonly status?: number;
  /** Statuses that single throws give it. */
  readonly otherStatuses?: readonly number[];
  /** Whether the same may succeed later without a change; `sometimes`: the throw says. @default false */
  readonly retriable?: true | "sometimes";
  readonly places?: readonly Place[];
  /** One sentence. */
  readonly meaning: string;
  /** What to do about it, one sentence. */
  readonly remedy: string;
}

/** Codes of one kind, and a section of the page that lists them. */
export interface ErrorGroup {
  readonly title: string;
  readonly about: string;
  readonly codes: Readonly<Record<string, ErrorRow>>;
}
