import { crc32 } from "node:zlib";
import type { ClickHouse } from "../../infra/clickhouse/client.js";
import type { Complaints } from "./complaints.js";

/** Sums over the records of a partition that must be rows. */
interface Sums {
  rows: number;
  offsets: number;
  texts: number;
}

export type StoredTable =
  "transactions" | "predictions" | "shadow_predictions" | "labels" | "dead_letters" | "control_events";

/** What of a row is summed beside its coordinates. The same text is made of the record. */
const TEXTS: Record<StoredTable, string> = {
  transactions: "concat(transaction_id, '/', card_id, '/', merchant_id)",
  predictions: "concat(transaction_id, '/', card_id, '/', model)",
  shadow_predictions: "concat(transaction_id, '/', card_id, '/', model)",
  labels: "concat(transaction_id, '/', card_id, '/', if(is_fraud, 'true', 'false'))",
  dead_letters:
    "concat(code, '/', toString(assumeNotNull(source_partition)), '/', toString(assumeNotNull(source_offset)))",
  control_events: "key",
};

/** The rows that the sink must have stored, gathered while the topics are read. */
export class StoredRows {
  readonly #tables = new Map<StoredTable, Map<string, Sums>>();
  /**
   * Rows that may be there: of records that were deleted, and that may not have been read. `<partition>/<offset>/<crc
   * of the text>`
   */
  readonly #optional = new Map<StoredTable, Set<string>>();

  /** @param required false: it may be there or not */
  expect(table: StoredTable, partition: number, offset: number, text: string, required = true): void {
    if (!required) {
      const optional = this.#optional.get(table) ?? new Set<string>();
      this.#optional.set(table, optional.add(`${partition}/${offset}/${crc32(text)}`));
      return;
    }
    const partitions = this.#tables.get(table) ?? new Map<string, Sums>();
    this.#tables.set(table, partitions);
    const sums = partitions.get(String(partition)) ?? { rows: 0, offsets: 0, texts: 0 };
    partitions.set(String(partition), {
      rows: sums.rows + 1,
      offsets: sums.offsets + offset,
      texts: sums.texts + crc32(text),
    });
  }

  /** Compares with FINAL. @returns rows by table, and with their repeats */
  async check(
    clickhouse: ClickHouse,
    complaints: Complaints,
  ): Promise<Record<string, { rows: number; withRepeats: number }>> {
    const counts: Record<string, { rows: number; withRepeats: number }> = {};
    for (const table of Object.keys(TEXTS) as StoredTable[]) {
      await this.#settleOptional(clickhouse, table);
      const rows = await clickhouse.query<{
        partition: string;
        rows: number;
        ids: number;
        offsets: number;
        texts: number;
      }>(
        `SELECT toString(partition) AS partition, count() AS rows, uniqExact((offset, ${TEXTS[table]})) AS ` +
          `ids, sum(offset) AS offsets, sum(toUInt64(CRC32(${TEXTS[table]}))) AS texts FROM ${table} FINAL ` +
          "GROUP BY partition",
      );
      const [{ repeats }] = await clickhouse.query<{ repeats: number }>(`SELECT count() AS repeats FROM ${table}`);
      const expected = this.#tables.get(table) ?? new Map<string, Sums>();
      counts[table] = { rows: rows.reduce((sum, row) => sum + Number(row.rows), 0), withRepeats: Number(repeats) };
      const found = new Map(rows.map((row) => [row.partition, row]));
      for (const partition of new Set([...expected.keys(), ...found.keys()])) {
        const row = found.get(partition);
        const wanted = expected.get(partition) ?? { rows: 0, offsets: 0, texts: 0 };
        const has = {
          rows: Number(row?.rows ?? 0),
          offsets: Number(row?.offsets ?? 0),
          texts: Number(row?.texts ?? 0),
        };
        if (
          has.rows !== wanted.rows ||
          Number(row?.ids ?? 0) !== wanted.rows ||
          has.offsets !== wanted.offsets ||
          has.texts !== wanted.texts
        )
          complaints.add(
            `ClickHouse ${table}`,
            `partition ${partition} has ${JSON.stringify(has)}, and should have ${JSON.stringify(wanted)}`,
          );
      }
    }
    return counts;
  }

  /** Those that are there must be there once. */
  async #settleOptional(clickhouse: ClickHouse, table: StoredTable): Promise<void> {
    const optional = this.#optional.get(table);
    if (optional === undefined) return;
    const partitions = this.#tables.get(table) ?? new Map<string, Sums>();
    for (const { partition, offset, crc } of await clickhouse.query<{ partition: number; offset: number; crc: number }>(
      `SELECT partition, offset, CRC32(${TEXTS[table]}) AS crc FROM ${table} FINAL`,
    )) {
      if (!optional.delete(`${partition}/${offset}/${crc}`)) continue;
      const sums = partitions.get(String(partition)) ?? { rows: 0, offsets: 0, texts: 0 };
      partitions.set(String(partition), {
        rows: sums.rows + 1,
        offsets: sums.offsets + Number(offset),
        texts: sums.texts + Number(crc),
      });
    }
    this.#tables.set(table, partitions);
  }
}
