import { createHash } from "node:crypto";
import type { ClickHouseWriter } from "../../infra/clickhouse/client.js";
import { RowBinaryWriter } from "../../infra/clickhouse/row-binary.js";
import { SINK_COLUMNS, type SinkTable } from "../../infra/clickhouse/tables.js";
import type { FetchedRecords } from "../../infra/kafka/records.js";
import { unlessAborted } from "../../infra/async/within.js";
import { messageOf } from "../../schemas/errors.js";
import { type Backoff, retry } from "../../infra/async/retry.js";
import type { PartitionProgress } from "./offset-commits.js";

/** When a block is closed and sent: whichever comes first. */
export interface BlockLimits {
  /** @default 100_000 */
  rows: number;
  /** A block's last row may exceed it. */
  bytes: number;
  /** Counted from the block's first record, milliseconds. @default 500 */
  ageMs: number;
}

export const DEFAULT_LIMITS: BlockLimits = { rows: 100_000, bytes: 8 * 1024 * 1024, ageMs: 500 };

/** The records of one partition that a block covers, also those without a row. */
interface Range {
  first: number;
  /** Where reading resumes once the block is stored. */
  end: number;
  rows: number;
  /** Of its first record; null: it has none yet. */
  firstTimestamp: number | null;
}

interface Block {
  rows: RowBinaryWriter;
  count: number;
  ranges: Map<PartitionProgress, Range>;
  openedAt: number;
}

export interface TableBlocksDeps {
  table: SinkTable;
  clickhouse: ClickHouseWriter;
  backoff: Backoff;
  limits: BlockLimits;
  /** Called after each insert that succeeded, with what it took. */
  onStored: (table: SinkTable, block: { rows: number; bytes: number; ms: number }) => void;
  /** Called when a block can't be stored at all; nothing is stored or accepted after it. */
  onFailure: (error: unknown) => void;
}

/**
 * The rows of one table on their way to ClickHouse: one block is being filled, one is being sent. When both are full,
 * `room` waits; that is the backpressure, and it bounds memory to two blocks per table.
 *
 * Blocks are sent one after the other, in the order of their records, so a partition's `stored` only moves forward and
 * never passes a record without its row being in ClickHouse.
 */
export class TableBlocks {
  readonly table: SinkTable;
  readonly #deps: TableBlocksDeps;
  #open: Block;
  #spare: RowBinaryWriter;
  #sending: Promise<void> | null = null;
  #timer: NodeJS.Timeout | null = null;
  #failure: Error | null = null;

  constructor(deps: TableBlocksDeps) {
    this.table = deps.table;
    this.#deps = deps;
    const firstCapacity = Math.min(deps.limits.bytes, 256 * 1024);
    this.#open = newBlock(new RowBinaryWriter(firstCapacity));
    this.#spare = new RowBinaryWriter(firstCapacity);
  }

  /** Where the next row goes. Only valid until the next await. */
  get rows(): RowBinaryWriter {
    return this.#open.rows;
  }

  get full(): boolean {
    return this.#open.count >= this.#deps.limits.rows || this.#open.rows.length >= this.#deps.limits.bytes;
  }

  /** Notes that the open block covers the record, with a row or without one. */
  add(progress: PartitionProgress, records: FetchedRecords, index: number, rows: 0 | 1): void {
    this.#throwFailure();
    const range = this.#range(progress, records.offset[index]);
    // It may have begun with an end alone: that of a batch whose records were aborted, or of a marker.
    range.firstTimestamp ??= records.timestamp[index];
    range.end = records.offset[index] + 1;
    range.rows += rows;
    this.#open.count += rows;
  }

  /** Notes that the open block covers everything before `end`. */
  addEnd(progress: PartitionProgress, end: number): void {
    const range = this.#range(progress, end);
    range.end = Math.max(range.end, end);
  }

  /**
   * Returns once the open block has room for a row. Throws what made an earlier block fail for good, or the signal's
   * reason.
   */
  async room(signal: AbortSignal): Promise<void> {
    while (this.full) {
      this.#throwFailure();
      if (this.#sending) await unlessAborted(this.#sending, signal);
      else this.#send();
    }
  }

  /** Sends what there is, and returns once it is stored. */
  async flush(): Promise<void> {
    while (this.#sending || this.#open.ranges.size > 0) {
      this.#throwFailure();
      if (!this.#sending) this.#send();
      await this.#sending;
    }
    this.#throwFailure();
  }

  #range(progress: PartitionProgress, first: number): Range {
    const { ranges } = this.#open;
    let range = ranges.get(progress);
    if (!range) {
      if (ranges.size === 0) this.#opened();
      range = { first, end: first, rows: 0, firstTimestamp: null };
      ranges.set(progress, range);
    }
    return range;
  }

  #opened(): void {
    this.#open.openedAt = performance.now();
    this.#timer ??= setTimeout(() => this.#due(), this.#deps.limits.ageMs);
  }

  #due(): void {
    this.#timer = null;
    if (this.#sending || this.#failure !== null || this.#open.ranges.size === 0) return;
    this.#send();
  }

  /** Closes the open block and sends it; `#sending` never rejects. */
  #send(): void {
    if (this.#timer) clearTimeout(this.#timer);
    this.#timer = null;
    const block = this.#open;
    this.#open = newBlock(this.#spare);
    this.#sending = this.#store(block)
      .catch((error: unknown) => {
        this.#failure = error instanceof Error ? error : new Error(messageOf(error));
        this.#deps.onFailure(error);
      })
      .finally(() => {
        block.rows.clear(this.#deps.limits.bytes * 2);
        this.#spare = block.rows;
        this.#sending = null;
        this.#sendNext();
      });
  }

  /** Sends what has gathered meanwhile at once if it is due; otherwise sets a timer. */
  #sendNext(): void {
    if (this.#failure !== null || this.#open.ranges.size === 0) return;
    const left = this.#open.openedAt + this.#deps.limits.ageMs - performance.now();
    if (this.full || left <= 0) this.#send();
    else this.#timer ??= setTimeout(() => this.#due(), left);
  }

  async #store(block: Block): Promise<void> {
    const { table, clickhouse, backoff, onStored } = this.#deps;
    if (block.count > 0) {
      const started = performance.now();
      const insert = { table, columns: SINK_COLUMNS[table], rows: block.rows.written(), token: tokenOf(table, block) };
      await retry(() => clickhouse.insertRows(insert, { signal: backoff.signal }), backoff, backoff);
      onStored(table, { rows: block.count, bytes: insert.rows.length, ms: performance.now() - started });
    }
    for (const [progress, range] of block.ranges) progress.advance(range.end);
  }

  #throwFailure(): void {
    if (this.#failure !== null) throw this.#failure;
  }
}

function newBlock(rows: RowBinaryWriter): Block {
  return { rows, count: 0, ranges: new Map(), openedAt: 0 };
}

/**
 * The same records give the same token, so that a block that is sent again after a lost answer is stored once. The
 * first timestamps distinguish a topic that was created again, and counts from 0, from the one before.
 */
function tokenOf(table: SinkTable, block: Block): string {
  const parts = [...block.ranges].map(
    ([{ topic, partition }, { first, end, rows, firstTimestamp }]) =>
      `${topic} ${partition} ${first} ${end} ${rows} ${firstTimestamp}`,
  );
  return createHash("sha256")
    .update(`${table}\n${parts.sort().join("\n")}`)
    .digest("hex");
}
