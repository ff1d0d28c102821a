import { errorRow, type ErrorCode } from "./error-codes.js";

export interface ErrorOptions {
  /** Only where a code can be both. @default as the code's row says */
  retriable?: boolean;
  cause?: unknown;
}

/**
 * An error that a caller can act on: `code` is stable and part of the interface (dead-letter headers, HTTP problems,
 * job results), `message` is for people, and `retriable` says whether the same call may succeed later without a change.
 * What a code means, and what to do about it, is in its row of `error-codes.ts`.
 */
export class FraudstreamError extends Error {
  readonly code: ErrorCode;
  readonly retriable: boolean;

  constructor(code: ErrorCode, message: string, options: ErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = "FraudstreamError";
    this.code = code;
    this.retriable = options.retriable ?? errorRow(code)?.retriable === true;
  }
}

/**
 * A setting, an option or the surroundings are wrong: whoever starts the process can mend it. It ends a start, and is
 * shown without a stack.
 */
export class UsageError extends FraudstreamError {
  constructor(code: ErrorCode, message: string, options: { cause?: unknown } = {}) {
    super(code, message, { ...options, retriable: false });
    this.name = "UsageError";
  }
}

/**
 * What was asked for is wrong: a request, or the file that it names. Over HTTP it is a 4xx, of a job its result; where
 * the request came by the command line, it is shown without a stack.
 */
export class RequestError extends FraudstreamError {
  constructor(code: ErrorCode, message: string, options: { cause?: unknown } = {}) {
    super(code, message, { ...options, retriable: false });
    this.name = "RequestError";
  }
}

/** The code of an error, such as the system's `ENOENT` or zlib's `Z_BUF_ERROR`; null: it has none. */
export function codeOf(error: unknown): string | null {
  return error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : null;
}

/** The text of whatever was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
