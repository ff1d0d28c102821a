import { randomBytes, randomUUID } from "node:crypto";
import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { PassThrough, type Readable, type Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import { constants, createBrotliCompress, createBrotliDecompress, createGunzip, createGzip } from "node:zlib";
import { messageOf } from "../../schemas/errors.js";
import { ClickHouseException, quoteText, type ClickHouseEngine, type EngineRequest } from "./clickhouse-engine.js";
import { dataInsert, shapeOf, type DataInsert } from "./clickhouse-statement.js";
import { openSpool } from "./spool.js";

/** The parts and bounds of the local ClickHouse server. */
export interface ClickHouseHttpOptions {
  engine: ClickHouseEngine;
  timezone: string;
  /** Where the rows of inserts wait, as `openSpool` takes them. */
  spoolFolders: string[];
  /** Most bytes of a statement. */
  maxStatementBytes: number;
  /** Most bytes of a result whose format can't be sent piece by piece. */
  maxResultBytes: number;
}

/** URL parameters that are no settings of the engine. */
const HTTP_PARAMETERS = new Set([
  "query",
  "query_id",
  "database",
  "default_format",
  "session_id",
  "session_timeout",
  "session_check",
  "close_session",
  "user",
  "password",
  "quota_key",
  "role",
  "compress",
  "decompress",
  "wait_end_of_query",
  "buffer_size",
  "stacktrace",
  "client_protocol_version",
]);

/**
 * The part of ClickHouse's HTTP interface that `@clickhouse/client` uses: /ping, statements in the body or in `query`,
 * an insert's rows in the body, parameters, settings, gzip and brotli, summaries, exceptions. Without users, sessions,
 * roles.
 */
export function createClickHouseHttp(options: ClickHouseHttpOptions): Server {
  return createServer({ keepAliveTimeout: 30_000, requestTimeout: 0 }, (request, response) => {
    new Exchange(options, request, response).answer().catch(() => response.destroy());
  });
}

/** One request and its response. */
class Exchange {
  readonly #options: ClickHouseHttpOptions;
  readonly #request: IncomingMessage;
  readonly #response: ServerResponse;
  readonly #url: URL;
  readonly #queryId: string;
  readonly #exceptionTag = randomBytes(8).toString("hex");
  readonly #closed: Promise<unknown>;
  /** The result's way to the response, once its head is sent. */
  #body: Transform | null = null;
  #failed = false;

  constructor(options: ClickHouseHttpOptions, request: IncomingMessage, response: ServerResponse) {
    this.#options = options;
    this.#request = request;
    this.#response = response;
    this.#url = new URL(request.url ?? "/", "http://localhost");
    this.#queryId = this.#url.searchParams.get("query_id") ?? randomUUID();
    this.#closed = once(response, "close");
  }

  async answer(): Promise<void> {
    const { pathname, searchParams } = this.#url;
    if (!this.#isLocal()) return this.#plain(403, "Requests of web pages are not answered.\n");
    if (pathname === "/ping" || (pathname === "/" && this.#request.method === "GET" && !searchParams.has("query")))
      return this.#plain(200, "Ok.\n");
    if (pathname !== "/") return this.#plain(404, `There is no handle ${pathname}\n`);
    try {
      await this.#run();
    } catch (error) {
      this.#fail(
        error instanceof ClickHouseException ? error : new ClickHouseException(1001, "STD_EXCEPTION", messageOf(error)),
      );
    }
  }

  /**
   * The engine reads and writes this user's files, so no web page may reach it: not from another site, nor by a rebound
   * name.
   */
  #isLocal(): boolean {
    const { origin, host } = this.#request.headers;
    return origin === undefined && /^(127\.0\.0\.1|localhost|\[::1\])(:\d+)?$/.test(host ?? "localhost");
  }

  async #run(): Promise<void> {
    for (const name of ["session_id", "role"]) {
      if (this.#url.searchParams.has(name))
        throw new ClickHouseException(48, "NOT_IMPLEMENTED", `The local server has no ${name}.`);
    }
    const contentType = this.#request.headers["content-type"] ?? "";
    const query = this.#url.searchParams.get("query") ?? "";
    if (contentType.startsWith("multipart/form-data")) {
      const form = await new Response(await this.#readBody(), { headers: { "content-type": contentType } }).formData();
      for (const [name, value] of form) {
        if (typeof value === "string") this.#url.searchParams.set(name, value);
      }
      return this.#statement(this.#url.searchParams.get("query") ?? "");
    }
    const insert = dataInsert(query);
    if (insert !== null) return this.#insert(insert);
    const body = (await this.#readBody()).toString("utf8");
    return this.#statement(query === "" || body === "" ? query + body : `${query}\n${body}`);
  }

  /** The rows are spooled to a file, which the engine then parses as it would what comes from the network. */
  async #insert(insert: DataInsert): Promise<void> {
    const spool = openSpool(this.#options.spoolFolders, Number(this.#request.headers["content-length"] ?? 0));
    try {
      spool.rows.write(insert.inlineData);
      await pipeline(this.#decoded(), spool.rows);
      const sql =
        `${insert.into} FROM INFILE ${quoteText(spool.path)} COMPRESSION 'none' ${insert.settings} FORMAT ` +
        `${insert.format}`;
      const { rowsRead, bytesRead, elapsed } = await this.#options.engine.run(
        this.#engineRequest(sql, "TabSeparated"),
        this.#options.maxResultBytes,
      );
      this.#begin(null, {
        read_rows: rowsRead,
        read_bytes: bytesRead,
        written_rows: rowsRead,
        written_bytes: bytesRead,
        elapsed_ns: elapsed,
      }).end();
    } finally {
      await spool.remove();
    }
  }

  async #statement(sql: string): Promise<void> {
    if (sql.trim() === "") throw new ClickHouseException(62, "SYNTAX_ERROR", "Empty query.");
    const shape = shapeOf(sql);
    if (shape.multiple) throw new ClickHouseException(62, "SYNTAX_ERROR", "Multi-statements are not allowed.");
    if (shape.writesFile)
      throw new ClickHouseException(48, "NOT_IMPLEMENTED", "INTO OUTFILE is not allowed over HTTP.");
    const format = shape.format ?? this.#url.searchParams.get("default_format") ?? "TabSeparated";
    const request = this.#engineRequest(sql, format);
    // A statement that changes something is finished even if its caller is gone.
    if (shape.verb === "SELECT" || shape.verb === "WITH") request.signal = this.#gone();
    if (this.#options.engine.canStream(shape.verb, format) && (await this.#stream(request, format))) return;
    const { bytes, rowsRead, bytesRead, elapsed } = await this.#options.engine.run(
      request,
      this.#options.maxResultBytes,
    );
    this.#begin(format, {
      read_rows: rowsRead,
      read_bytes: bytesRead,
      result_rows: rowsRead,
      result_bytes: bytes.length,
      elapsed_ns: elapsed,
    }).end(bytes);
  }

  /** False: nothing was run or sent, for the engine has no stream for this statement (a WITH before an INSERT). */
  async #stream(request: EngineRequest, format: string): Promise<boolean> {
    try {
      await this.#options.engine.stream(request, async (piece) => {
        const body = this.#body ?? this.#begin(format, {});
        if (!body.write(piece)) await Promise.race([once(body, "drain"), this.#closed]);
        if (this.#response.destroyed) throw new ClickHouseException(210, "NETWORK_ERROR", "The client went away.");
      });
    } catch (error) {
      if (this.#body === null && messageOf(error).includes("Streaming query is not supported")) return false;
      throw error;
    }
    (this.#body ?? this.#begin(format, {})).end();
    return true;
  }

  /** Aborts when the client has gone before its answer was out. */
  #gone(): AbortSignal {
    const gone = new AbortController();
    const onClose = (): void => {
      if (!this.#response.writableFinished) gone.abort();
    };
    this.#closed.then(onClose, onClose);
    return gone.signal;
  }

  #engineRequest(sql: string, format: string): EngineRequest {
    const settings = [...this.#url.searchParams].filter(([name]) => !HTTP_PARAMETERS.has(name));
    // As on a server, a GET changes nothing.
    if (this.#request.method === "GET") settings.push(["readonly", "2"]);
    return { sql, format, database: this.#url.searchParams.get("database"), settings };
  }

  #decoded(): Readable {
    const encoding = this.#request.headers["content-encoding"] ?? "identity";
    if (encoding === "identity") return this.#request;
    const decoder = encoding === "gzip" ? createGunzip() : encoding === "br" ? createBrotliDecompress() : null;
    if (decoder === null)
      throw new ClickHouseException(48, "NOT_IMPLEMENTED", `The local server has no compression method ${encoding}.`);
    this.#request.on("error", (error) => decoder.destroy(error));
    return this.#request.pipe(decoder);
  }

  async #readBody(): Promise<Buffer> {
    const pieces: Buffer[] = [];
    let length = 0;
    for await (const piece of this.#decoded() as AsyncIterable<Buffer>) {
      length += piece.length;
      if (length > this.#options.maxStatementBytes) {
        throw new ClickHouseException(
          307,
          "TOO_MANY_BYTES",
          `A statement may have ${this.#options.maxStatementBytes} bytes here; the rows of an INSERT belong ` +
            "in the body, the statement in ?query=.",
        );
      }
      pieces.push(piece);
    }
    return Buffer.concat(pieces);
  }

  /** Sends the head of a good answer. What is written to the stream it returns becomes the body. */
  #begin(format: string | null, counts: Record<string, number>): Transform {
    const wantsCompression = this.#url.searchParams.get("enable_http_compression") === "1";
    const encoding = wantsCompression
      ? /\b(gzip|br)\b/.exec(this.#request.headers["accept-encoding"]?.toString() ?? "")?.[1]
      : undefined;
    const summary = {
      read_rows: 0,
      read_bytes: 0,
      written_rows: 0,
      written_bytes: 0,
      total_rows_to_read: 0,
      result_rows: 0,
      result_bytes: 0,
      elapsed_ns: 0,
      ...counts,
    };
    this.#response.writeHead(200, {
      "Content-Type": format === null ? "text/plain; charset=UTF-8" : contentTypeOf(format),
      ...(encoding === undefined ? {} : { "Content-Encoding": encoding }),
      ...(format === null ? {} : { "X-ClickHouse-Format": format }),
      "X-ClickHouse-Query-Id": this.#queryId,
      "X-ClickHouse-Timezone": this.#options.timezone,
      "X-ClickHouse-Exception-Tag": this.#exceptionTag,
      "X-ClickHouse-Summary": JSON.stringify(
        Object.fromEntries(Object.entries(summary).map(([name, count]) => [name, String(count)])),
      ),
    });
    const body =
      encoding === "gzip"
        ? createGzip({ level: 3 })
        : encoding === "br"
          ? createBrotliCompress({ params: { [constants.BROTLI_PARAM_QUALITY]: 3 } })
          : new PassThrough();
    body.pipe(this.#response, { end: false });
    // Without the last chunk a client knows that the result is not whole.
    body.on("end", () => (this.#failed ? this.#response.socket?.destroySoon() : this.#response.end()));
    this.#body = body;
    return body;
  }

  /** An exception instead of the answer; or in its middle, as newer servers write it, and then no proper end. */
  #fail(exception: ClickHouseException): void {
    const text = `${exception.message}\n`;
    if (this.#body !== null) {
      this.#failed = true;
      const tag = this.#exceptionTag;
      this.#body.end(`\r\n__exception__\r\n${tag}\r\n${text}${Buffer.byteLength(text)} ${tag}\r\n__exception__\r\n`);
      return;
    }
    this.#response.writeHead(httpStatus(exception.number), {
      "Content-Type": "text/plain; charset=UTF-8",
      "X-ClickHouse-Exception-Code": String(exception.number),
      "X-ClickHouse-Query-Id": this.#queryId,
      // The unread rest of a body would precede the connection's next request.
      ...(this.#request.complete ? {} : { Connection: "close" }),
    });
    this.#response.end(text);
  }

  #plain(status: number, text: string): void {
    this.#response.writeHead(status, { "Content-Type": "text/plain; charset=UTF-8" });
    this.#response.end(text);
  }
}

function contentTypeOf(format: string): string {
  if (/^JSON(Strings|Columns|Compact|CompactStrings|CompactColumns)?$/.test(format))
    return "application/json; charset=UTF-8";
  if (/^JSON.*EachRow/.test(format)) return "application/x-ndjson; charset=UTF-8";
  if (format.startsWith("CSV")) return "text/csv; charset=UTF-8; header=absent";
  if (/^(TSV|TabSeparated)/.test(format)) return "text/tab-separated-values; charset=UTF-8";
  return /^(RowBinary|Native|Parquet|Arrow|Avro|ORC|Protobuf)/.test(format)
    ? "application/octet-stream"
    : "text/plain; charset=UTF-8";
}

/** As ClickHouse's own mapping of its exceptions. */
function httpStatus(exception: number): number {
  if ([6, 25, 26, 27, 36, 38, 41, 43, 53, 62, 69, 70, 72, 117, 456, 457].includes(exception)) return 400;
  if ([46, 47, 50, 56, 60, 63, 73, 81, 115].includes(exception)) return 404;
  if (exception === 307) return 413;
  if (exception === 48) return 501;
  return exception === 209 || exception === 439 ? 503 : 500;
}
