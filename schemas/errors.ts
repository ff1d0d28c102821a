/**
 * An error that a caller can act on: `code` is stable and part of the interface (dead-letter headers, HTTP problems,
 * job results), `message` is for people, and `retriable` says whether the same call may succeed later without a change.
 */
export class FraudstreamError extends Error {
  readonly code: string;
  readonly retriable: boolean;

  constructor(code: string, message: string, options: { retriable?: boolean; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = "FraudstreamError";
    this.code = code;
    this.retriable = options.retriable ?? false;
  }
}

/** Something that the person at the command line or in front of the configuration can mend: shown without a stack. */
export class UsageError extends FraudstreamError {
  constructor(code: string, message: string, options: { cause?: unknown } = {}) {
    super(code, message, options);
    this.name = "UsageError";
  }
}

/** The text of whatever was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
