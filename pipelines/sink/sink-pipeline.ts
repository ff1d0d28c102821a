/**
 * Kafka → ClickHouse. The path of a record:
 *
 *  1. read     a batch of one partition arrives as it was fetched, read_committed, column by column
 *  2. map      each record becomes one RowBinary row in the open block of its topic's table (rows/*.ts); one that has
 *              no row is counted, and a label that can't be stored becomes a dead letter; so does an unreadable batch
 *              of any topic except transactions, which scoring dead-letters
 *  3. gather   a block is closed when it is full or old enough (table-blocks.ts); with two full blocks, step 2 waits
 *  4. insert   a block is sent as one INSERT with a deduplication token made from its coordinates; while ClickHouse is
 *              away it is retried with growing pauses
 *  5. commit   once the block is stored, the offsets after its records are committed (offset-commits.ts)
 * Exactly once, as counted with FINAL: what was stored but not committed is read again and has the same keys. A block
 * that ClickHouse refuses for good (a missing table, a column that doesn't fit) stops the role with the server's error
 * and nothing committed: rows are made by our mappers, so it is never the fault of a single record, and skipping one
 * would lose its neighbours. Memory: two blocks per table, so 12 × (8 MiB + one record) at most, besides the batches
 * that the consumer holds.
 */
import { setImmediate as yieldToEvents } from "node:timers/promises";
import type { ClickHouseWriter } from "../../infra/clickhouse/client.js";
import type { SinkTable } from "../../infra/clickhouse/tables.js";
import type { FetchedRecords } from "../../infra/kafka/records.js";
import type { Logger } from "../../infra/logging.js";
import { unlessAborted, within } from "../../infra/async/within.js";
import { RETRY, type Backoff } from "../../infra/async/retry.js";
import type { PartitionHandler, Tenure } from "../runtime/partition-consumer.js";
import { type Commit, OffsetCommits, PartitionProgress } from "./offset-commits.js";
import type { Refusal, RowMapper } from "./rows/row-mapper.js";
import { type BlockLimits, DEFAULT_LIMITS, TableBlocks } from "./table-blocks.js";

/** What happens to the records of one topic. */
export interface SinkRoute {
  table: SinkTable;
  rows: RowMapper;
  /**
   * Called, and awaited before the record counts as done, for a record that has no row. Without it the record is only
   * counted.
   */
  onRefusal?: (records: FetchedRecords, index: number, refusal: Refusal) => Promise<void>;
  /** The same for what could not be read from the log at all: a batch, or a value too large to be held. */
  onUnread?: (records: FetchedRecords, index: number, refusal: Refusal) => Promise<void>;
}

export interface SinkDeps {
  clickhouse: ClickHouseWriter;
  /** By topic. */
  routes: ReadonlyMap<string, SinkRoute>;
  commit: Commit;
  log: Logger;
  /** Called when the sink cannot go on; `process` throws the same error. */
  fail: (error: unknown) => void;
  /** Called with every block that ClickHouse has stored. */
  onStored?: (table: SinkTable, block: StoredBlock) => void;
  limits?: Partial<BlockLimits>;
  /** Pauses between tries, milliseconds. @default first 200, most 10_000 */
  pauses?: Pick<Backoff, "firstMs" | "mostMs">;
}

export interface StoredBlock {
  rows: number;
  bytes: number;
  ms: number;
}

export interface SinkCounts {
  /** By table. */
  rows: Partial<Record<SinkTable, number>>;
  blocks: number;
  bytes: number;
  /** Records without a row, by topic and code. */
  refused: Map<string, number>;
  /** False while inserts are being tried again. */
  clickhouseUp: boolean;
}

interface Partition {
  progress: PartitionProgress;
  route: SinkRoute;
  blocks: TableBlocks;
  /** Of the tenure. */
  signal: AbortSignal;
}

/** Records handled between two turns of the event loop. */
const SLICE = 2_048;
/** How often the log repeats that ClickHouse is away. */
const REMIND_MS = 60_000;
/** How long a revoked partition waits for its rows to be stored. */
const CLOSE_PATIENCE_MS = 3_000;

export class SinkPipeline {
  readonly #deps: SinkDeps;
  readonly #tables = new Map<SinkTable, TableBlocks>();
  readonly #commits: OffsetCommits;
  readonly #abort = new AbortController();
  #toldAwayAt = 0;
  readonly counts: SinkCounts = { rows: {}, blocks: 0, bytes: 0, refused: new Map(), clickhouseUp: true };

  constructor(deps: SinkDeps) {
    this.#deps = deps;
    this.#commits = new OffsetCommits(deps.commit, deps.log);
    const backoff: Backoff = {
      ...(deps.pauses ?? RETRY.clickhouse),
      signal: this.#abort.signal,
      onRetry: (error) => this.#away(error),
    };
    const limits = { ...DEFAULT_LIMITS, ...deps.limits };
    for (const { table } of deps.routes.values()) {
      if (this.#tables.has(table)) continue;
      this.#tables.set(
        table,
        new TableBlocks({
          table,
          clickhouse: deps.clickhouse,
          backoff,
          limits,
          onStored: (of, block) => this.#stored(of, block),
          onFailure: (error) => this.#fail(error),
        }),
      );
    }
  }

  /** Begins a tenure of a partition at its committed offset. */
  async open(
    tenure: Pick<Tenure, "topic" | "partition" | "signal" | "committed">,
  ): Promise<{ handler: PartitionHandler; start: number | null }> {
    const { topic, partition, signal } = tenure;
    const route = this.#deps.routes.get(topic);
    const blocks = route && this.#tables.get(route.table);
    if (!blocks) throw new TypeError(`the sink has no route for ${topic}`);
    // Null, whatever the reason: rows are keyed by their coordinates, so rows that are stored already are still stored
    // once.
    const { offset: start } = await tenure.committed();
    const progress = new PartitionProgress({ topic, partition, start: start ?? 0 }, (advanced) =>
      this.#commits.note(advanced),
    );
    const handler: PartitionHandler = {
      process: (records) => this.#process(records, { progress, route, blocks, signal }),
      close: () => this.#close(progress, blocks),
    };
    return { handler, start };
  }

  /** Stores and commits everything that was handed in. Waits as long as it takes. */
  async flush(): Promise<void> {
    await Promise.all([...this.#tables.values()].map((table) => table.flush()));
    await this.#commits.settled();
  }

  /** Flushes for up to `patienceMs`, then gives up: what isn't stored by then will be read again. */
  async stop(patienceMs = 2_000): Promise<void> {
    try {
      await within(patienceMs, this.flush(), () => new Error(`not done within ${patienceMs} ms`));
    } catch (error) {
      this.#deps.log.warn({ err: error }, "stopped with rows that are not in ClickHouse yet; they will be read again");
    }
    this.#abort.abort();
  }

  async #process(records: FetchedRecords, { progress, route, blocks, signal }: Partition): Promise<void> {
    for (let index = 0; index < records.count; index++) {
      if (index % SLICE === SLICE - 1) await yieldToEvents();
      const unread = records.unread?.get(index);
      if (unread !== undefined) {
        this.#refused(records.topic, unread);
        await route.onUnread?.(records, index, unread);
        if (blocks.full) await blocks.room(signal);
        blocks.add(progress, records, index, 0);
        continue;
      }
      const waiting = route.rows.prepare(records, index);
      if (waiting) await unlessAborted(waiting, signal);
      if (blocks.full) await blocks.room(signal);
      const { rows } = blocks;
      const before = rows.length;
      const refusal = route.rows.write(records, index, rows);
      if (refusal) {
        rows.length = before;
        // Dead-lettered before the offset counts as stored: at worst twice, but at least once.
        this.#refused(records.topic, refusal);
        await route.onRefusal?.(records, index, refusal);
      }
      blocks.add(progress, records, index, refusal ? 0 : 1);
    }
    blocks.addEnd(progress, records.nextOffset);
    if (blocks.full) await blocks.room(signal);
  }

  /** Tries to store and commit the partition's rows before it is handed over; the next owner reads the rest. */
  async #close(progress: PartitionProgress, blocks: TableBlocks): Promise<void> {
    try {
      await within(
        CLOSE_PATIENCE_MS,
        blocks.flush().then(() => this.#commits.settled()),
        () => new Error(`not done within ${CLOSE_PATIENCE_MS} ms`),
      );
    } catch (error) {
      this.#deps.log.debug(
        { err: error, topic: progress.topic, partition: progress.partition },
        "left before its rows were stored",
      );
    }
    progress.closed = true;
  }

  #stored(table: SinkTable, block: StoredBlock): void {
    const { counts } = this;
    counts.rows[table] = (counts.rows[table] ?? 0) + block.rows;
    counts.blocks += 1;
    counts.bytes += block.bytes;
    this.#deps.log.debug({ table, ...block }, "stored");
    this.#deps.onStored?.(table, block);
    if (!counts.clickhouseUp) this.#deps.log.info("ClickHouse is back, catching up");
    counts.clickhouseUp = true;
  }

  #fail(error: unknown): void {
    // Blocks that are being stopped give up; that is not a failure.
    if (!this.#abort.signal.aborted) this.#deps.fail(error);
  }

  /** Logged when it happens and then periodically, with the latest cause. */
  #away(error: unknown): void {
    const now = performance.now();
    if (this.counts.clickhouseUp || now - this.#toldAwayAt > REMIND_MS) {
      this.#deps.log.warn({ err: error }, "ClickHouse does not take rows, reading pauses until it does");
      this.#toldAwayAt = now;
    }
    this.counts.clickhouseUp = false;
  }

  /** The first of each kind is logged, without anything of the record; the rest is counted. */
  #refused(topic: string, { code, reason }: Refusal): void {
    const kind = `${topic} ${code}`;
    const count = (this.counts.refused.get(kind) ?? 0) + 1;
    this.counts.refused.set(kind, count);
    if (count === 1)
      this.#deps.log.warn(
        { topic, code, reason },
        "a record can't be stored; further ones of this kind are only counted",
      );
  }
}
