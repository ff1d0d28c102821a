import { randomUUID } from "node:crypto";
import type { ClickHouseWriter } from "../../infra/clickhouse/client.js";
import { RowBinaryWriter } from "../../infra/clickhouse/row-binary.js";
import { REQUEST_LOG_COLUMNS, type RequestLogTable } from "../../infra/clickhouse/tables.js";
import type { Logger } from "../../infra/logging.js";
import { messageOf } from "../../schemas/errors.js";

/** One authenticated request and its answer, masked already. */
export interface LoggedRequest {
  requestId: string;
  /** When it came, epoch milliseconds. */
  at: number;
  userId: string;
  username: string;
  role: string;
  method: string;
  /** The route's pattern. */
  route: string;
  url: string;
  address: string;
  /** JSON */
  body: string;
  status: number;
  /** Of the problem; empty: none. */
  code: string;
  ms: number;
  /** JSON */
  answer: string;
}

export interface RequestLogOptions {
  clickhouse: ClickHouseWriter;
  log: Logger;
  /** How many may wait while ClickHouse is away; later ones are dropped and counted. @default 20_000 */
  mostWaiting?: number;
  /** @default 1_000 */
  everyMs?: number;
}

const MOST_A_BATCH = 5_000;
const LONGEST_PAUSE_MS = 30_000;
const TELL_EVERY_MS = 10_000;

/** Rows of one insert; tried again with the same tokens, so that they are stored once. */
interface Batch {
  requests: readonly LoggedRequest[];
  token: string;
  done: Set<RequestLogTable>;
}

/**
 * Writes requests and answers to ClickHouse, in batches, without anybody waiting for it: `add` never fails. What can't
 * be kept while ClickHouse is away is dropped, counted, and said in the log.
 */
export class RequestLog {
  readonly #clickhouse: ClickHouseWriter;
  readonly #log: Logger;
  readonly #mostWaiting: number;
  readonly #everyMs: number;
  #waiting: LoggedRequest[] = [];
  #batch: Batch | null = null;
  #timer: NodeJS.Timeout | null = null;
  #flushing: Promise<void> = Promise.resolve();
  #failures = 0;
  #dropped = 0;
  #toldDropped = 0;
  #toldAt = 0;
  #closed = false;

  constructor({ clickhouse, log, mostWaiting = 20_000, everyMs = 1_000 }: RequestLogOptions) {
    this.#clickhouse = clickhouse;
    this.#log = log;
    this.#mostWaiting = mostWaiting;
    this.#everyMs = everyMs;
  }

  /** How many were dropped since the start. */
  get dropped(): number {
    return this.#dropped;
  }

  /** How many wait to be stored. */
  get waiting(): number {
    return this.#waiting.length + (this.#batch?.requests.length ?? 0);
  }

  add(request: LoggedRequest): void {
    if (this.waiting >= this.#mostWaiting) {
      this.#dropped++;
      this.#tellDropped();
      return;
    }
    this.#waiting.push(request);
    this.#schedule(this.#everyMs);
  }

  /** Stores what waits, once; what can't be stored keeps waiting. */
  flush(): Promise<void> {
    this.#flushing = this.#flushing.then(() => this.#flushOnce());
    return this.#flushing;
  }

  /** Stores what waits, as far as ClickHouse takes it now. */
  async close(): Promise<void> {
    this.#closed = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
    const before = this.#failures;
    do await this.flush();
    while (this.waiting > 0 && this.#failures === before);
    this.#dropped += this.waiting;
    if (this.waiting > 0)
      this.#log.warn({ dropped: this.waiting }, "requests were not written to the request log before the end");
  }

  async #flushOnce(): Promise<void> {
    this.#batch ??=
      this.#waiting.length === 0
        ? null
        : { requests: this.#waiting.splice(0, MOST_A_BATCH), token: randomUUID(), done: new Set() };
    const batch = this.#batch;
    if (batch === null) return;
    try {
      await this.#insert(batch, "requests", writeRequest);
      await this.#insert(batch, "responses", writeResponse);
      this.#batch = null;
      this.#failures = 0;
    } catch (error) {
      if (this.#failures++ === 0) this.#log.warn(`the request log waits for ClickHouse: ${messageOf(error)}`);
    }
    if (this.waiting > 0) this.#schedule(Math.min(this.#everyMs * 2 ** Math.min(this.#failures, 10), LONGEST_PAUSE_MS));
  }

  async #insert(
    { requests, token, done }: Batch,
    table: RequestLogTable,
    write: (request: LoggedRequest, out: RowBinaryWriter) => void,
  ): Promise<void> {
    if (done.has(table)) return;
    const out = new RowBinaryWriter(64 * 1024);
    for (const request of requests) write(request, out);
    await this.#clickhouse.insertRows({
      table,
      columns: REQUEST_LOG_COLUMNS[table],
      rows: out.written(),
      token: `${token}/${table}`,
    });
    done.add(table);
  }

  #schedule(ms: number): void {
    if (this.#timer !== null || this.#closed) return;
    this.#timer = setTimeout(() => {
      this.#timer = null;
      void this.flush();
    }, ms);
    this.#timer.unref();
  }

  #tellDropped(): void {
    if (Date.now() - this.#toldAt < TELL_EVERY_MS) return;
    this.#log.warn(
      { dropped: this.#dropped - this.#toldDropped },
      "requests are not written to the request log: ClickHouse does not accept them",
    );
    this.#toldDropped = this.#dropped;
    this.#toldAt = Date.now();
  }
}

/** In the order of REQUEST_LOG_COLUMNS. */
function writeRequest(
  { requestId, at, userId, username, role, method, route, url, address, body }: LoggedRequest,
  out: RowBinaryWriter,
): void {
  out.text(requestId);
  out.int64(at);
  for (const text of [userId, username, role, method, route, url, address, body]) out.text(text);
}

/** In the order of REQUEST_LOG_COLUMNS. */
function writeResponse(
  { requestId, at, userId, method, route, status, code, ms, answer }: LoggedRequest,
  out: RowBinaryWriter,
): void {
  out.text(requestId);
  out.int64(at);
  for (const text of [userId, method, route]) out.text(text);
  out.int32(status);
  out.text(code);
  out.float64(ms);
  out.text(answer);
}
