import type { CardPseudonyms } from "../../../infra/privacy/card-pseudonyms.js";
import type { ClickHouseConfig } from "../../../infra/config/config.js";
import type { KafkaCluster } from "../../../infra/kafka/cluster.js";
import { addGaps, type OffsetMark } from "../../../infra/kafka/offset-mark.js";
import { PartitionReader } from "../../../infra/kafka/partition-reader.js";
import type { Schemas } from "../../../infra/kafka/schemas.js";
import type { Logger } from "../../../infra/logging.js";
import { copySections, type Section, type SnapshotOf, type SnapshotStore } from "../../../infra/snapshots.js";
import { CardHistory } from "../../../models/features/card-history.js";
import { float64Of } from "../../../models/features/columns.js";
import { messageOf } from "../../../schemas/errors.js";
import type { Topics } from "../../../schemas/topics.js";
import { addGapNumbers, gapNumbers, withoutGaps } from "../../runtime/gap-bounds.js";
import type { Tenure } from "../../runtime/partition-consumer.js";
import { snapshotOf, type FoldKind } from "../../runtime/snapshot-of.js";
import { cardsTarget, rebuild, storedRefusals } from "../../transactions/rebuild.js";
import { refusedOffsets, reread } from "../../transactions/reread.js";

export interface HistoriesOptions {
  cluster: KafkaCluster;
  topics: Pick<Topics, "transactions" | "deadLetters">;
  schemas: Schemas;
  snapshots: SnapshotStore;
  /** Where transactions that Kafka has deleted are stored; null: nowhere. */
  clickhouse: ClickHouseConfig | null;
  /** Time between two snapshots of a partition, milliseconds. */
  snapshotEveryMs: number;
  /** Replaces card ids; null: card ids are used as they are. */
  cards: CardPseudonyms | null;
  log: Logger;
}

const FOLD: FoldKind = { kind: "scoring", layout: 2 };
/** Where the dead letters of later transactions begin. */
const DEAD_LETTERS_FROM = "dead-letters-from";
/** Gaps of the log before its offset. */
const GAPS = "gaps";
/** How long the history of a partition that moved to another worker is kept in memory, in case it comes back. */
const KEPT_MS = 120_000;

/** The history of one partition's cards. */
export class PartitionHistory {
  readonly partition: number;
  /** Id of the topic that was folded; null: it has none. */
  readonly topicId: string | null;
  readonly cards: CardHistory;
  /** Every transaction before this offset that was scored has been folded. */
  offset: number;
  /**
   * Offset of the newest snapshot (-1: none) and when it was taken; without one, when the history was created; epoch
   * milliseconds.
   */
  saved = { offset: -1, at: Date.now() };
  /**
   * A tenure is using it. That tenure may still be at work when the next one begins: a consumer doesn't wait for one
   * that hangs.
   */
  isInUse = false;
  /** Drops it when no tenure has used it for too long. */
  expiry: NodeJS.Timeout | null = null;
  /** What its tenure commits with each offset: records that the log has lost are missing from this history. */
  mark: OffsetMark | null = null;
  #deadLettersFrom: number;
  #deadLettersEnd = -1;
  #inBatch = false;
  #waiting: (() => void)[] = [];

  constructor(
    partition: number,
    cards: CardHistory,
    offset: number,
    deadLettersFrom: number,
    topicId: string | null = null,
  ) {
    this.partition = partition;
    this.topicId = topicId;
    this.cards = cards;
    this.offset = offset;
    this.#deadLettersFrom = deadLettersFrom;
  }

  /** Dead letters of transactions from `offset` on are at this offset or later in their partition. */
  get deadLettersFrom(): number {
    return this.#deadLettersFrom;
  }

  /**
   * Where the dead letters ended a moment ago. The partition may have had another worker by then, which has written
   * some of them about transactions from `offset` on. Once the next batch is committed it has had none, and they are
   * all about earlier transactions.
   */
  deadLettersEnded(end: number): void {
    this.#deadLettersEnd = end;
  }

  /** The history was caught up: dead letters before `from` are about what is in it. */
  caughtUp(offset: number, deadLettersFrom: number): void {
    this.offset = offset;
    this.#deadLettersFrom = deadLettersFrom;
  }

  /** A batch is going to be folded, by `cards.fold`. */
  begin(): void {
    this.#inBatch = true;
  }

  /** The batch that was folded has been committed to Kafka. @param next where the next one begins */
  committed(next: number): void {
    this.cards.commit();
    this.offset = next;
    this.#deadLettersFrom = Math.max(this.#deadLettersFrom, this.#deadLettersEnd);
    this.#batchEnded();
  }

  /** Takes back what was folded since the last commit. */
  undo(): void {
    this.cards.undo();
    this.#batchEnded();
  }

  /** Reads the state while no batch is in progress. */
  betweenBatches<T>(look: () => T): Promise<T> {
    return new Promise((resolve) => {
      // Anything it throws rejects the promise.
      const now = (): void => resolve(new Promise((done) => done(look())));
      if (this.#inBatch) this.#waiting.push(now);
      else now();
    });
  }

  /** A copy of the state between two batches. */
  copy(): Section[] {
    return [
      ...copySections(this.cards.sections()),
      { name: DEAD_LETTERS_FROM, data: Float64Array.of(this.#deadLettersFrom) },
      { name: GAPS, data: gapNumbers(this.mark?.gaps ?? []) },
    ];
  }

  #batchEnded(): void {
    this.#inBatch = false;
    for (const look of this.#waiting.splice(0)) look();
  }
}

/**
 * The card histories of this worker's partitions. They outlive tenures: what a tenure folded but didn't commit is taken
 * back when the next one begins, and whatever else happened in between is read again from the log. Snapshots keep that
 * short.
 */
export class PartitionHistories {
  readonly #options: HistoriesOptions;
  readonly #held = new Map<number, PartitionHistory>();
  /** One snapshot at a time: each holds a copy of a state. */
  #saving: Promise<void> | null = null;

  constructor(options: HistoriesOptions) {
    this.#options = options;
  }

  /** The histories in memory. */
  get held(): readonly PartitionHistory[] {
    return [...this.#held.values()];
  }

  /**
   * The lowest event time that the partitions in memory have reached, epoch milliseconds; null: none has any. An empty
   * partition holds nothing up: it may stay empty.
   */
  get clock(): number | null {
    let clock = Infinity;
    for (const { cards } of this.#held.values()) if (cards.clock > -Infinity) clock = Math.min(clock, cards.clock);
    return Number.isFinite(clock) ? clock : null;
  }

  /**
   * The history of a partition at the group's committed offset. The former owner must have been fenced.
   *
   * @param committed null: nothing was scored yet
   * @throws FraudstreamError `history_gap` if transactions that it needs are no longer stored anywhere
   */
  async open(tenure: Tenure, committed: number | null): Promise<PartitionHistory> {
    const { partition, signal, mark } = tenure;
    const { topicId } = mark;
    // No card belongs to a partition that was added to the topic.
    if (partition >= this.#options.topics.transactions.partitions)
      return new PartitionHistory(partition, new CardHistory(), committed ?? 0, 0, topicId);
    const held = this.#held.get(partition);
    // An error on the way leaves no half-caught-up history behind.
    if (held !== undefined) this.#forget(held);
    const startedAt = performance.now();
    const found =
      committed === null
        ? null
        : held !== undefined && !held.isInUse && held.topicId === topicId && held.offset <= committed
          ? held
          : await this.#load(tenure, committed);
    const history = found ?? new PartitionHistory(partition, new CardHistory(), 0, 0, topicId);
    // If Kafka has forgotten the committed offset, the history knows it.
    if (history.mark !== null && history.mark !== mark) addGaps(mark, history.mark.gaps);
    history.mark = mark;
    if (committed !== null) {
      const folded = await this.#catchUp(tenure, history, committed);
      const ms = Math.round(performance.now() - startedAt);
      this.#options.log.info(
        {
          partition,
          offset: committed,
          from: found === held ? "memory" : found === null ? "log" : "snapshot",
          folded,
          cards: history.cards.cards,
          events: history.cards.events,
          ms,
        },
        "history of cards at hand",
      );
    }
    signal.throwIfAborted();
    history.isInUse = true;
    this.#held.set(partition, history);
    return history;
  }

  /** To be called between two batches: starts writing a snapshot when one is due. */
  afterBatch(history: PartitionHistory): void {
    if (
      this.#saving !== null ||
      this.#held.get(history.partition) !== history ||
      Date.now() - history.saved.at < this.#options.snapshotEveryMs ||
      history.saved.offset === history.offset
    )
      return;
    this.#saving = this.#save(history).finally(() => (this.#saving = null));
  }

  /**
   * A tenure is over, its last batch committed or abandoned. Its history is kept for a while, in case the partition
   * comes back.
   */
  release(history: PartitionHistory): void {
    history.undo();
    history.isInUse = false;
    history.expiry = setTimeout(() => this.#forget(history), KEPT_MS);
    history.expiry.unref();
  }

  /** Writes a snapshot of each partition that has moved on since its last one. All tenures must be over. */
  async close(): Promise<void> {
    await this.#saving;
    for (const history of this.#held.values()) {
      if (history.expiry !== null) clearTimeout(history.expiry);
      if (history.saved.offset !== history.offset) await this.#save(history);
    }
    this.#held.clear();
  }

  #forget(history: PartitionHistory): void {
    if (history.expiry !== null) clearTimeout(history.expiry);
    history.expiry = null;
    if (this.#held.get(history.partition) === history) this.#held.delete(history.partition);
  }

  #snapshotOf(partition: number): Promise<SnapshotOf> {
    return snapshotOf(
      this.#options.cluster,
      FOLD,
      this.#options.topics.transactions.name,
      partition,
      this.#options.cards,
    );
  }

  /** The newest snapshot that fits; null: none does. */
  async #load({ partition, mark }: Tenure, committed: number): Promise<PartitionHistory | null> {
    return this.#options.snapshots.load(await this.#snapshotOf(partition), committed, ({ offset, at, sections }) => {
      const byName = new Map(sections.map(({ name, data }) => [name, data]));
      const [deadLettersFrom] = float64Of(byName, DEAD_LETTERS_FROM);
      const history = new PartitionHistory(
        partition,
        CardHistory.restore(sections),
        offset,
        deadLettersFrom,
        mark.topicId,
      );
      history.saved = { offset, at };
      // Snapshots of an earlier version have none.
      if (byName.has(GAPS)) addGapNumbers(mark, float64Of(byName, GAPS));
      return history;
    });
  }

  /** Reads what was scored from a history's position up to an offset. */
  async #catchUp({ topic, partition, signal, mark }: Tenure, history: PartitionHistory, to: number): Promise<number> {
    const { cluster, topics, schemas, clickhouse, cards, log } = this.#options;
    const from = history.offset;
    if (from === to) return 0;
    const source = { topic, partition };
    const { partitions } = topics.transactions;
    const { topicId } = mark;
    const reader = new PartitionReader(cluster, topic, partition, { signal, topicId });
    const first = await reader.firstOffset().finally(() => reader.close());
    const stored = Math.min(first, to);
    const { next, ...refused } = await refusedOffsets(
      { cluster, source, signal },
      topics.deadLetters.name,
      history.deadLettersFrom,
      { from, to, mark },
    );
    if (!refused.complete && clickhouse !== null) {
      for (const offset of await storedRefusals({ clickhouse, source, signal }, { from, to, mark }))
        refused.offsets.add(offset);
      refused.complete = true;
    }
    if (!refused.complete)
      log.warn(
        { partition },
        "dead letters were deleted, or can't be read, that may be about transactions which are read again: " +
          "set CLICKHOUSE_URL, where the sink has stored them",
      );
    let folded = 0;
    for (const stretch of withoutGaps(from, stored, mark.gaps))
      folded += await rebuild(
        { clickhouse, source, partitions, cards, signal },
        cardsTarget(history.cards),
        stretch.from,
        stretch.to,
      );
    folded += await reread(
      { cluster, schemas, source, topicId, partitions, cards, log, signal, onLost: (gap) => addGaps(mark, [gap]) },
      history.cards,
      Math.max(from, stored),
      to,
      refused,
    );
    history.caughtUp(to, next);
    return folded;
  }

  /** Failures are logged: a snapshot is only a cache. */
  async #save(history: PartitionHistory): Promise<void> {
    const { cluster, topics, snapshots, log } = this.#options;
    const { partition } = history;
    const startedAt = performance.now();
    try {
      const of = await this.#snapshotOf(partition);
      // The topic has been created again meanwhile: this history belongs to the former one.
      if (history.topicId !== null && history.topicId !== of.topicId) return;
      const reader = new PartitionReader(cluster, topics.deadLetters.name, partition);
      history.deadLettersEnded(await reader.endOffset().finally(() => reader.close()));
      const copy = await history.betweenBatches(() => {
        // A history that was abandoned, or is being caught up for the next tenure, is not at its stated offset.
        if (this.#held.get(partition) !== history) return null;
        history.saved = { offset: history.offset, at: Date.now() };
        return { offset: history.offset, sections: history.copy() };
      });
      if (copy === null) return;
      const { offset, sections } = copy;
      await snapshots.save(of, offset, sections);
      log.info(
        {
          partition,
          offset,
          bytes: sections.reduce((sum, { data }) => sum + data.byteLength, 0),
          ms: Math.round(performance.now() - startedAt),
        },
        "snapshot written",
      );
    } catch (error) {
      log.warn({ partition }, `no snapshot was written: ${messageOf(error)}`);
    }
  }
}
