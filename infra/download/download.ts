import { createWriteStream } from "node:fs";
import { rm } from "node:fs/promises";
import type { IncomingMessage } from "node:http";
import { pipeline } from "node:stream/promises";
import { FraudstreamError, codeOf, messageOf } from "../../schemas/errors.js";
import type { AddressPolicy } from "./addresses.js";
import { codingsOf, decoded } from "./content-encoding.js";
import { HEAD_BYTES, whyNotCsv, whyNotCsvType } from "./looks-like-csv.js";
import { checkedUrl, requestOnce, systemResolve, type Resolve } from "./request.js";

export interface DownloadOptions {
  /** Which addresses may be connected to. */
  policy: AddressPolicy;
  /** Most bytes, as they travel and as they are stored. */
  maxBytes: number;
  /** How long nothing may come, milliseconds. */
  stallMs: number;
  /** How long all of it may take, milliseconds. */
  deadlineMs: number;
  /** Bytes so far, and of the whole where the server says so; often. */
  onProgress?: (bytes: number, total: number | null) => void;
  signal?: AbortSignal;
  /** @default the system's */
  resolve?: Resolve;
}

const MOST_REDIRECTS = 5;

/**
 * Fetches a CSV file (stored packed where it comes packed) or a Parquet file from an http or https link to a new file,
 * streamed. Redirects are followed here, each checked like the link itself. Where it fails, no file is left.
 *
 * @returns bytes that were stored
 * @throws FraudstreamError `download_bad_url`, `download_private_address`, `download_unreachable`,
 *   `download_redirects`,
 *   `download_status`, `download_encoding`, `download_not_csv`, `download_too_large`, `download_stalled`,
 *   `download_too_slow`, `download_broken`, `download_disk`; the signal's reason when it aborts
 */
export async function download(link: string, file: string, options: DownloadOptions): Promise<number> {
  const clock = new Clock(options);
  try {
    const response = await follow(link, options, clock);
    try {
      return await store(response, file, options, clock);
    } finally {
      response.destroy();
    }
  } catch (error) {
    await rm(file, { force: true });
    throw clock.signal.aborted ? clock.signal.reason : error;
  } finally {
    clock.stop();
  }
}

/** The response that the link leads to, its body not read yet. */
async function follow(link: string, options: DownloadOptions, clock: Clock): Promise<IncomingMessage> {
  const { policy, resolve = systemResolve } = options;
  let url = checkedUrl(link);
  for (let redirects = 0; ; redirects++) {
    const response = await requestOnce(url, { policy, resolve, signal: clock.signal });
    clock.sign();
    const { statusCode = 0, headers } = response;
    const redirected = [301, 302, 303, 307, 308].includes(statusCode) && headers.location !== undefined;
    if (!redirected) {
      try {
        return checkedResponse(response, options.maxBytes);
      } catch (error) {
        response.destroy();
        throw error;
      }
    }
    response.destroy();
    if (redirects === MOST_REDIRECTS)
      throw new FraudstreamError("download_redirects", `the link redirects more than ${MOST_REDIRECTS} times`);
    url = checkedUrl(headers.location as string, url);
  }
}

/** What the head of a response says is said before a byte of it is stored. */
function checkedResponse(response: IncomingMessage, maxBytes: number): IncomingMessage {
  const { statusCode = 0, headers } = response;
  if (statusCode !== 200)
    throw new FraudstreamError("download_status", `the server answered with status ${statusCode}, not 200`, {
      retriable: statusCode >= 500 || statusCode === 429,
    });
  codingsOf(headers["content-encoding"] ?? "");
  const reason = whyNotCsvType(headers["content-type"] ?? "");
  if (reason !== null) throw notCsv(reason);
  if (Number(headers["content-length"] ?? 0) > maxBytes) throw tooLarge(maxBytes);
  return response;
}

async function store(response: IncomingMessage, file: string, options: DownloadOptions, clock: Clock): Promise<number> {
  const codings = codingsOf(response.headers["content-encoding"] ?? "");
  const length = response.headers["content-length"];
  const total = length === undefined ? null : Number(length);
  let bytes = 0;
  let stored = 0;
  let head: Buffer | null = Buffer.alloc(0);
  const checkHead = (): void => {
    if (head === null) return;
    const reason = whyNotCsv(head);
    if (reason !== null) throw notCsv(reason);
    head = null;
  };
  const received = async function* (chunks: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
    for await (const chunk of chunks) {
      clock.sign();
      bytes += chunk.length;
      if (bytes > options.maxBytes) throw tooLarge(options.maxBytes);
      yield chunk;
      options.onProgress?.(bytes, total);
    }
  };
  const checked = async function* (chunks: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
    const refuseLarge = (bytes: number): void => {
      if (bytes > options.maxBytes) throw tooLarge(options.maxBytes);
    };
    for await (const chunk of decoded(received(chunks), codings, refuseLarge)) {
      refuseLarge((stored += chunk.length));
      if (head !== null) {
        head = Buffer.concat([head, chunk.subarray(0, HEAD_BYTES)]);
        if (head.length >= HEAD_BYTES) checkHead();
      }
      yield chunk;
    }
    checkHead();
  };
  try {
    await pipeline(response, checked, createWriteStream(file, { flags: "wx" }), { signal: clock.signal });
  } catch (error) {
    if (error instanceof FraudstreamError) throw error;
    const code = codeOf(error) ?? "";
    if (/^(ENOSPC|EDQUOT|EIO|EACCES|EROFS|ENOENT|EEXIST)$/.test(code))
      throw new FraudstreamError("download_disk", `the file could not be written: ${code}`, { cause: error });
    throw new FraudstreamError(
      "download_broken",
      `the connection broke after ${bytes} bytes${total === null ? "" : ` of ${total}`}: ${messageOf(error)}`,
      { cause: error },
    );
  }
  return stored;
}

/** Ends a download that takes too long, or that its caller gives up. */
class Clock {
  readonly #abort = new AbortController();
  readonly #stallMs: number;
  readonly #deadline: NodeJS.Timeout;
  readonly #stall: NodeJS.Timeout;
  readonly #signal: AbortSignal | undefined;
  readonly #onAbort = (): void => this.#abort.abort(this.#signal?.reason);

  constructor({ stallMs, deadlineMs, signal }: DownloadOptions) {
    signal?.throwIfAborted();
    this.#stallMs = stallMs;
    this.#signal = signal;
    signal?.addEventListener("abort", this.#onAbort, { once: true });
    this.#deadline = setTimeout(
      () => this.#end("download_too_slow", `the download took longer than ${deadlineMs / 1000} s`),
      deadlineMs,
    );
    this.#stall = setTimeout(
      () => this.#end("download_stalled", `nothing came for ${this.#stallMs / 1000} s`),
      stallMs,
    );
  }

  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  /** The server has given a sign of life. */
  sign(): void {
    if (!this.#abort.signal.aborted) this.#stall.refresh();
  }

  stop(): void {
    clearTimeout(this.#deadline);
    clearTimeout(this.#stall);
    this.#signal?.removeEventListener("abort", this.#onAbort);
  }

  #end(code: "download_too_slow" | "download_stalled", message: string): void {
    this.#abort.abort(new FraudstreamError(code, message));
  }
}

function tooLarge(maxBytes: number): FraudstreamError {
  return new FraudstreamError(
    "download_too_large",
    `the file is larger than ${maxBytes} bytes, the most that is taken`,
  );
}

function notCsv(reason: string): FraudstreamError {
  return new FraudstreamError("download_not_csv", `the link leads to no CSV or Parquet file: ${reason}`);
}
