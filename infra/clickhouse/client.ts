import { randomUUID } from "node:crypto";
import { Readable } from "node:stream";
import { finished } from "node:stream/promises";
import { ClickHouseLogLevel, createClient, type ClickHouseClientConfigOptions } from "@clickhouse/client";
import type { ClickHouseConfig } from "../config/config.js";
import { toClickHouseFailure } from "./errors.js";

export interface ClickHouseOptions {
  /**
   * gzip what is inserted. Costs the sender more CPU than making the rows does, so it pays only over a slow network.
   * @default false
   */
  compressRequests?: boolean;
  /** @default 60_000 */
  requestTimeoutMs?: number;
  /** @default 10 */
  maxConnections?: number;
}

/** Values for `{name: Type}` in a statement. */
export type QueryParams = Record<string, unknown>;

export interface ClickHouseReader {
  /**
   * The rows of a SELECT (without a FORMAT clause), as objects. 64-bit numbers above 2^53 lose digits. The query ends
   * when the signal aborts.
   */
  query<Row>(
    sql: string,
    params?: QueryParams,
    options?: { signal?: AbortSignal; settings?: Settings },
  ): Promise<Row[]>;
}

export interface ClickHouseWriter {
  /** Runs a statement that returns no result. */
  command(sql: string, params?: QueryParams): Promise<void>;
  /**
   * Inserts one block of rows.
   *
   * @param block.rows in RowBinary, columns in the order of `block.columns`; unchanged until the promise settles
   * @param block.token the server stores blocks of one token once, within the table's deduplication window
   */
  insertRows(block: InsertBlock, options?: { signal?: AbortSignal }): Promise<void>;
}

interface InsertBlock {
  table: string;
  columns: readonly string[];
  rows: Buffer;
  token: string;
}

/**
 * Every method throws FraudstreamError `clickhouse_refused` or `clickhouse_unreachable`; `retriable` says which may
 * pass.
 */
export interface ClickHouse extends ClickHouseReader, ClickHouseWriter {
  readonly database: string;
  /** True when the server answers. */
  ping(): Promise<boolean>;
  close(): Promise<void>;
}

/** How long the server may take to end a query. */
const KILL_MS = 5_000;
const PIECE_BYTES = 256 * 1024;

type Settings = Record<string, string | number>;

/** The client library's options for a server. */
export function connectionTo({
  url,
  username,
  password,
  database,
  tlsCa,
}: ClickHouseConfig): ClickHouseClientConfigOptions {
  return {
    url,
    username,
    password,
    database,
    application: "fraudstream",
    ...(tlsCa === undefined ? {} : { tls: { ca_cert: Buffer.from(tlsCa) } }),
  };
}

/** A connection pool to one ClickHouse server, its database chosen. Nothing is sent before the first call. */
export function createClickHouse(config: ClickHouseConfig, options: ClickHouseOptions = {}): ClickHouse {
  const client = createClient({
    ...connectionTo(config),
    request_timeout: options.requestTimeoutMs ?? 60_000,
    max_open_connections: options.maxConnections ?? 10,
    compression: { request: options.compressRequests ?? false, response: false },
    // Below the 3 s of older servers, and checked when a socket is taken, since a busy event loop delays the timer.
    keep_alive: { enabled: true, idle_socket_ttl: 2_000, eagerly_destroy_stale_sockets: true },
    // Failures are thrown, and logged where they are handled; the client's own log would quote statements.
    log: { level: ClickHouseLogLevel.OFF },
  });
  return {
    database: config.database,
    async query<Row>(
      sql: string,
      params?: QueryParams,
      { signal, settings }: { signal?: AbortSignal; settings?: Settings } = {},
    ): Promise<Row[]> {
      const query_id = randomUUID();
      // Closing the connection alone ends no query that has nothing to send yet.
      const kill = (): void =>
        void client
          .command({
            query: "KILL QUERY WHERE query_id = {id: String} ASYNC",
            query_params: { id: query_id },
            abort_signal: AbortSignal.timeout(KILL_MS),
          })
          .catch(() => undefined);
      signal?.addEventListener("abort", kill, { once: true });
      return mapped(async () => {
        const result = await client.query({
          query: sql,
          query_id,
          format: "JSONEachRow",
          clickhouse_settings: { output_format_json_quote_64bit_integers: 0, ...settings },
          ...(params && { query_params: params }),
          ...(signal && { abort_signal: signal }),
        });
        return await result.json<Row>();
      }).finally(() => signal?.removeEventListener("abort", kill));
    },
    async command(sql, params) {
      await mapped(() => client.command({ query: sql, ...(params && { query_params: params }) }));
    },
    async insertRows({ table, columns, rows, token }, { signal } = {}) {
      await mapped(async () => {
        const { stream } = await client.exec({
          query: `INSERT INTO ${quoteName(table)} (${columns.map(quoteName).join(", ")}) FORMAT RowBinary`,
          values: Readable.from(pieces(rows), { objectMode: false }),
          clickhouse_settings: {
            insert_deduplication_token: token,
            // One block, whatever its size: it is stored whole or not at all (per month), and its token covers it.
            max_insert_block_size: "10000000",
            // A backlog or a careless producer may spread a block over any number of months.
            max_partitions_per_insert_block: "0",
            async_insert: 0,
          },
          ...(signal && { abort_signal: signal }),
        });
        // The connection is free for the next request once the (empty) answer has been read.
        await finished(stream.resume());
      });
    },
    async ping() {
      return (await client.ping()).success;
    },
    close: () => client.close(),
  };
}

/** `name` as an identifier in a statement. */
export function quoteName(name: string): string {
  return `\`${name.replace(/[\\`]/g, "\\$&")}\``;
}

/** A single write of many megabytes would block the event loop while the kernel copies it. */
function* pieces(bytes: Buffer): Generator<Buffer> {
  for (let at = 0; at < bytes.length; at += PIECE_BYTES) yield bytes.subarray(at, at + PIECE_BYTES);
}

async function mapped<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw toClickHouseFailure(error);
  }
}
