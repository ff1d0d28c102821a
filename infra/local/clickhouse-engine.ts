import { randomUUID } from "node:crypto";
import { Session } from "chdb";
import { FraudstreamError, messageOf } from "../../schemas/errors.js";

/** What one request wants of the engine. */
export interface EngineRequest {
  sql: string;
  /** The format where the statement names none. */
  format: string;
  database: string | null;
  /** In order; query parameters are settings named `param_…`. */
  settings: [name: string, value: string][];
  /** Ends the query, or takes it out of the queue. @default none */
  signal?: AbortSignal;
}

/** A result, and what the engine counted. */
export interface EngineResult {
  bytes: Uint8Array;
  rowsRead: number;
  bytesRead: number;
  /** Nanoseconds. */
  elapsed: number;
}

/** A ClickHouse exception: its number, its name, and the text as a server would send it. */
export class ClickHouseException extends FraudstreamError {
  readonly number: number;

  constructor(number: number, name: string, text: string) {
    super("clickhouse_refused", `Code: ${number}. DB::Exception: ${text} (${name})`);
    this.number = number;
  }
}

/** Formats without head, foot or separators: their pieces may follow each other. */
const STREAMABLE = new Set([
  "JSONEachRow",
  "JSONCompactEachRow",
  "JSONStringsEachRow",
  "JSONCompactStringsEachRow",
  "TabSeparated",
  "TSV",
  "TabSeparatedRaw",
  "TSVRaw",
  "CSV",
  "RowBinary",
  "Native",
]);

/**
 * ClickHouse in this process, over one data path. Every request has a connection of its own, so that settings, database
 * and parameters are its own, too; connections are cheap (under 2 ms) and their queries run beside each other.
 */
export class ClickHouseEngine {
  readonly #path: string;
  readonly #maxRunning: number;
  readonly #waiting: (() => void)[] = [];
  /** Keeps the engine open between requests. */
  #keeper: Session | null;
  #running = 0;

  /**
   * @param maxRunning queries at a time; each holds one of libuv's threads (UV_THREADPOOL_SIZE), and file access needs
   *   some
   * @throws if another process has the path open
   */
  constructor(path: string, maxRunning: number) {
    this.#path = path;
    this.#maxRunning = maxRunning;
    this.#keeper = new Session(path);
  }

  /** Runs a statement to its end. The whole result is in memory: `maxResultBytes` bounds it. */
  async run(request: EngineRequest, maxResultBytes: number): Promise<EngineResult> {
    // The caller's own limit, further back in the list, wins.
    const settings: EngineRequest["settings"] = [["max_result_bytes", String(maxResultBytes)], ...request.settings];
    return this.#with({ ...request, settings }, async (session) => {
      const result = await session.queryAsync(request.sql, { format: request.format });
      return {
        bytes: result.bytes(),
        rowsRead: result.rowsRead,
        bytesRead: result.bytesRead,
        elapsed: Math.round(result.elapsed * 1e9),
      };
    });
  }

  /** Whether `stream` can give the result of such a statement in pieces. */
  canStream(verb: string, format: string): boolean {
    return (verb === "SELECT" || verb === "WITH") && STREAMABLE.has(format);
  }

  /**
   * Runs a query and hands its result on piece by piece; `onPiece` is awaited, so a slow reader holds the engine back.
   */
  async stream(request: EngineRequest, onPiece: (piece: Uint8Array) => Promise<void>): Promise<void> {
    await this.#with(request, async (session) => {
      for await (const piece of session.queryStream(request.sql, { format: request.format }))
        await onPiece(piece.raw());
    });
  }

  /** Closes the engine; no request may be running. */
  close(): void {
    this.#keeper?.close();
    this.#keeper = null;
  }

  async #with<T>(request: EngineRequest, work: (session: Session) => Promise<T>): Promise<T> {
    const { signal, database, settings } = request;
    await this.#enter();
    try {
      throwIfCancelled(signal);
      const session = new Session(this.#path);
      const id = randomUUID();
      let killing: NodeJS.Timeout | undefined;
      // Again until it has ended: it may not have begun yet.
      const kill = (): void => {
        void this.#kill(id);
        killing = setTimeout(kill, KILL_AGAIN_MS);
      };
      try {
        const prepare = [
          ...(database === null ? [] : [`USE ${quoteName(database)}`]),
          ...settings.map(([name, value]) => `SET ${settingName(name)}=${quoteText(value)}`),
          ...(signal === undefined ? [] : [`SET log_comment=${quoteText(id)}`]),
        ];
        if (prepare.length > 0) await session.queryAsync(prepare.join("; "));
        throwIfCancelled(signal);
        signal?.addEventListener("abort", kill, { once: true });
        return await work(session);
      } finally {
        signal?.removeEventListener("abort", kill);
        clearTimeout(killing);
        session.close();
      }
    } catch (error) {
      throw asException(error);
    } finally {
      this.#leave();
    }
  }

  async #kill(id: string): Promise<void> {
    const session = new Session(this.#path);
    try {
      await session.queryAsync(`KILL QUERY WHERE Settings['log_comment'] = ${quoteText(id)} ASYNC`);
    } catch {
      // It is tried again, or the query has ended.
    } finally {
      session.close();
    }
  }

  async #enter(): Promise<void> {
    if (this.#running >= this.#maxRunning) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    else this.#running += 1;
  }

  /** The place goes straight to the one who has waited longest. */
  #leave(): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#running -= 1;
    else next();
  }
}

const KILL_AGAIN_MS = 250;

function throwIfCancelled(signal: AbortSignal | undefined): void {
  if (signal?.aborted === true) throw new ClickHouseException(394, "QUERY_WAS_CANCELLED", "The client went away.");
}

/** A text literal of ClickHouse's SQL. */
export function quoteText(text: string): string {
  return `'${text.replace(/[\\']/g, "\\$&")}'`;
}

function quoteName(name: string): string {
  return `\`${name.replace(/[\\`]/g, "\\$&")}\``;
}

function settingName(name: string): string {
  if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(name))
    throw new ClickHouseException(
      115,
      "UNKNOWN_SETTING",
      `Setting ${JSON.stringify(name)} is neither a builtin setting nor a parameter.`,
    );
  return name;
}

function asException(error: unknown): ClickHouseException {
  if (error instanceof ClickHouseException) return error;
  const text = messageOf(error)
    .replace(/\n?: \(in file\/uri [^)]*\)/, "")
    .trim();
  // What was read from the spool is reported with its path, and twice over: "Code: 33. DB::Exception: Code: 33.
  // DB::Exception: …".
  const match = /^(?:Code: (\d+)\. DB::Exception: )+([\s\S]*?)(?: \(version [^)]*\)\.)?(?: ?\(([A-Z0-9_]{3,})\))$/.exec(
    text,
  );
  return match === null
    ? new ClickHouseException(1001, "STD_EXCEPTION", text)
    : new ClickHouseException(Number(match[1]), match[3] ?? "UNKNOWN_EXCEPTION", (match[2] ?? "").trim());
}
