import { ClickHouseLogLevel, createClient } from "@clickhouse/client";
import type { ClickHouseConfig } from "../config/config.js";
import { connectionTo, type QueryParams } from "./client.js";
import { toClickHouseFailure } from "./errors.js";
import { NeedMore, RowBinaryReader } from "./row-binary-reader.js";

export interface RowStreamOptions {
  params?: QueryParams;
  signal?: AbortSignal;
  /** How long the server may send nothing, milliseconds. @default 300_000 */
  requestTimeoutMs?: number;
}

/**
 * The server sends nothing until it has the whole result, so that an error is a response of its own rather than bytes
 * after the rows.
 */
const SETTINGS = { wait_end_of_query: 1 } as const;

/**
 * Runs a SELECT (without a FORMAT clause) and passes on its rows, read from RowBinary bytes, without creating an object
 * for each.
 *
 * @param onRow reads one row's columns in order. It may be called again for a row that had not arrived completely, so
 *   it must read all of them before it keeps anything
 * @returns the number of rows
 * @throws FraudstreamError `clickhouse_refused`, `clickhouse_unreachable`
 */
export async function streamRows(
  config: ClickHouseConfig,
  sql: string,
  onRow: (reader: RowBinaryReader) => void,
  { params, signal, requestTimeoutMs = 300_000 }: RowStreamOptions = {},
): Promise<number> {
  const client = createClient({
    ...connectionTo(config),
    request_timeout: requestTimeoutMs,
    max_open_connections: 1,
    compression: { request: false, response: false },
    log: { level: ClickHouseLogLevel.OFF },
  });
  let rows = 0;
  try {
    const { stream } = await client.exec({
      query: `${sql} FORMAT RowBinary`,
      clickhouse_settings: SETTINGS,
      ...(params && { query_params: params }),
      ...(signal && { abort_signal: signal }),
    });
    const reader = new RowBinaryReader();
    for await (const chunk of stream) {
      reader.append(chunk as Buffer);
      rows += takeRows(reader, onRow);
    }
    if (reader.left > 0) throw new Error(`the result ended within a row: ${reader.text(200)}`);
    return rows;
  } catch (error) {
    signal?.throwIfAborted();
    throw toClickHouseFailure(error);
  } finally {
    await client.close();
  }
}

function takeRows(reader: RowBinaryReader, onRow: (reader: RowBinaryReader) => void): number {
  let rows = 0;
  for (; reader.left > 0; rows++) {
    const start = reader.position;
    try {
      onRow(reader);
    } catch (error) {
      if (!(error instanceof NeedMore)) throw error;
      reader.position = start;
      break;
    }
  }
  return rows;
}
