/**
 * Kafka → Kafka. The path of a batch of transactions of one partition, in one Kafka transaction:
 *
 *  1. begin    announce the output partitions and the offset after the batch; this runs while the rest is done
 *  2. decode   records become columns; records that are not valid transactions become dead letters
 *              (decode-transactions.ts)
 *  3. history  records of other partitions are forwarded, repeats become dead letters, the rest is folded into the
 *              history of its cards, and what it and the merchants' buckets say is added to the columns
 *              (steps/fold-history.ts)
 *  4. score    features and ONNX, the champion first, then the shadows (steps/score-models.ts)
 *  5. encode   decisions and predictions in Avro (steps/encode-predictions.ts), dead letters (runtime/dead-letters.ts)
 *  6. commit   output and offset together, or nothing; then what was folded is kept
 * Only scored transactions become history: if the champion gives no score for a record, steps 2 to 4 are repeated
 * without it. If the champion itself fails, the batch is abandoned and processed again with an earlier deployment
 * (deployments.ts). Any error ends the tenure; taking the transactional id over again settles the outcome of the batch
 * (ARCHITECTURE.md#guarantee-1).
 */
import type { CardPseudonyms } from "../../infra/privacy/card-pseudonyms.js";
import type { KafkaCluster } from "../../infra/kafka/cluster.js";
import { encodeHeaders } from "../../infra/kafka/record-batch-builder.js";
import { KafkaError } from "../../infra/kafka/errors.js";
import { encodeMark } from "../../infra/kafka/offset-mark.js";
import { PartitionOutput } from "../../infra/kafka/partition-output.js";
import type { FetchedRecords } from "../../infra/kafka/records.js";
import type { Schemas } from "../../infra/kafka/schemas.js";
import type { Logger } from "../../infra/logging.js";
import { TransactionalProducer } from "../../infra/kafka/transactional-producer.js";
import type { ControlLog } from "../../models/control/log.js";
import { BUCKET_MS } from "../../models/features/history-terms.js";
import { FraudstreamError, messageOf } from "../../schemas/errors.js";
import { MAX_TRANSACTION_BYTES, type Topics } from "../../schemas/topics.js";
import { TransactionReader } from "../../schemas/transaction-reader.js";
import { REPLY_TO, appendDeadLetter, attemptOf, replyToOf } from "../runtime/dead-letters.js";
import { GapBounds } from "../runtime/gap-bounds.js";
import type { PartitionHandler, Tenure } from "../runtime/partition-consumer.js";
import { forwardedHeaders } from "../transactions/placement.js";
import type { Deployments, LoadedDeployment } from "./deployments.js";
import type { HistoryConditions } from "./history-conditions.js";
import type { PartitionHistories, PartitionHistory } from "./history/partition-histories.js";
import { findProgress } from "./history/resume.js";
import type { BatchCounts, ScoringMeter } from "./meter.js";
import { MOST_UNKNOWN, decodeTransactions, learnSchemas, type Rejection } from "../transactions/decode-transactions.js";
import { PredictionEncoder, type ScoredBatch } from "./steps/encode-predictions.js";
import {
  MerchantWait,
  firstBucket,
  foldHistory,
  neededBucket,
  takeMisplaced,
  type Merchants,
} from "./steps/fold-history.js";
import { ModelScorer, scoreChampion, scoreShadow } from "./steps/score-models.js";
import { TransactionBatch } from "../transactions/transaction-batch.js";
import type { UnreadableAttributes } from "./unreadable-attributes.js";

export interface ScoringDeps {
  cluster: KafkaCluster;
  topics: Topics;
  group: string;
  schemas: Schemas;
  control: ControlLog;
  deployments: Deployments;
  histories: PartitionHistories;
  merchants: Merchants;
  /** How long a batch waits for merchants' buckets, milliseconds. */
  merchantWaitMs: number;
  meter: ScoringMeter;
  conditions: HistoryConditions;
  /** How long a batch's Kafka transaction may be open, milliseconds. */
  transactionTimeoutMs: number;
  /** Replaces card ids; null: card ids are used as they are. */
  cards: CardPseudonyms | null;
  unreadable: UnreadableAttributes;
  log: Logger;
}

/** The transactional id of an input partition: whoever holds it owns the partition. */
function scoringTransactionalId(group: string, partition: number): string {
  return `${group}-${partition}`;
}

/** Together with the head of a batch and of a record, this is the topic's limit. */
const MAX_FORWARDED_BYTES = MAX_TRANSACTION_BYTES + 900;

/** What depends on the deployment: readers and buffers that fit its models. */
interface Bench {
  deployment: LoadedDeployment;
  batch: TransactionBatch;
  reader: TransactionReader;
  champion: ModelScorer;
  shadows: ModelScorer[];
}

/** Scores one partition while this worker owns it. */
export class ScoringTenure implements PartitionHandler {
  readonly #deps: ScoringDeps;
  readonly #tenure: Tenure;
  readonly #producer: TransactionalProducer;
  readonly #encoder: PredictionEncoder;
  readonly #predictions: PartitionOutput;
  readonly #shadowPredictions: PartitionOutput;
  readonly #deadLetters: PartitionOutput;
  /** Transactions that belong to other partitions, by partition. */
  readonly #forwarded = new Map<number, PartitionOutput>();
  readonly #history: PartitionHistory;
  readonly #merchantWait: MerchantWait;
  readonly #gaps: GapBounds;
  #bench: Bench | null = null;
  /** Epoch of the batch under way; null: none is. */
  #scoringEpoch: number | null = null;

  private constructor(deps: ScoringDeps, tenure: Tenure, producer: TransactionalProducer, history: PartitionHistory) {
    const { topics, schemas } = deps;
    const { partition } = tenure;
    this.#deps = deps;
    this.#tenure = tenure;
    this.#producer = producer;
    this.#history = history;
    this.#gaps = new GapBounds(tenure.mark);
    this.#merchantWait = new MerchantWait(deps.merchants, deps.merchantWaitMs);
    this.#encoder = new PredictionEncoder(tenure, schemas.idOf("predictions"));
    // A partition added to the transactions has no counterpart in the outputs; only dead letters come from there, the
    // rest is forwarded.
    const output = partition % topics.transactions.partitions;
    this.#predictions = new PartitionOutput(topics.predictions.name, output);
    this.#shadowPredictions = new PartitionOutput(topics.shadowPredictions.name, output);
    this.#deadLetters = new PartitionOutput(topics.deadLetters.name, output);
  }

  /**
   * Begins a tenure, in the order of ARCHITECTURE.md#guarantee-1: fence the former owner, then ask where it stood, then
   * catch up with control and with history.
   */
  static async open(deps: ScoringDeps, tenure: Tenure): Promise<{ handler: ScoringTenure; start: number | null }> {
    const producer = await TransactionalProducer.open(
      deps.cluster,
      scoringTransactionalId(deps.group, tenure.partition),
      { transactionTimeoutMs: deps.transactionTimeoutMs },
    );
    try {
      const start = await findStart(deps, tenure, producer);
      await deps.control.readToEnd().catch(unlessReplaced);
      await deps.deployments.settle(deps.control.state);
      const history = await deps.histories.open(tenure, start);
      return { handler: new ScoringTenure(deps, tenure, producer, history), start };
    } catch (error) {
      await producer.close();
      throw error;
    }
  }

  /**
   * Every later prediction of this partition carries this epoch or a later one; null: no deployment was ever in force.
   */
  get epoch(): number | null {
    return this.#scoringEpoch ?? this.#deps.deployments.epoch;
  }

  async process(records: FetchedRecords): Promise<void> {
    const { deployments } = this.#deps;
    const deployment = await deployments.acquire(this.#tenure.signal);
    this.#scoringEpoch = deployment.epoch;
    try {
      await this.#score(records, deployment);
    } finally {
      deployments.release(deployment);
    }
    // Not after an error: the outcome of the transaction is unknown until the next tenure, which then reports its own
    // epoch.
    this.#scoringEpoch = null;
  }

  close(): Promise<void> {
    this.#deps.histories.release(this.#history);
    return this.#producer.close();
  }

  async #score(records: FetchedRecords, deployment: LoadedDeployment): Promise<void> {
    const { schemas, histories, meter, conditions } = this.#deps;
    const startedAt = performance.now();
    const bench = this.#benchFor(deployment);

    const clockBefore = this.#history.cards.clock;
    this.#gaps.meet(records, clockBefore, Date.now());
    this.#begin(records, bench);

    await learnSchemas(records, bench.reader, schemas, {
      onLearnt: (key, unreadable) => this.#deps.unreadable.learnt(deployment.epoch, key, unreadable),
      mostUnknown: MOST_UNKNOWN,
    });
    const { batch } = bench;
    const { champion, rejections, counts } = await this.#scoreChampion(records, bench, startedAt);
    const shadows = await this.#scoreShadows(bench, champion, startedAt);

    const headersOf = replyHeaders(records, batch);
    this.#encoder.encode(batch, champion, records.offset, headersOf, this.#predictions);
    for (const shadow of shadows)
      this.#encoder.encode(batch, shadow, records.offset, headersOf, this.#shadowPredictions);
    this.#encodeDeadLetters(records, rejections);

    const all = [this.#predictions, this.#shadowPredictions, this.#deadLetters, ...this.#forwarded.values()];
    await this.#producer.commit(
      all.filter(({ count }) => count > 0),
      Date.now(),
    );
    this.#history.committed(records.nextOffset);
    histories.afterBatch(this.#history);
    const lostUntil = Math.max(this.#gaps.until, this.#deps.merchants.windows.lackingBelow * BUCKET_MS);
    this.#gaps.committed(batch, this.#history.cards.clock);
    meter.committed(records, counts, rejections, performance.now() - startedAt);
    conditions.committed(records, { clockBefore, clock: this.#history.cards.clock, lostUntil }, counts);
    for (const output of all) output.reset();
  }

  #begin({ nextOffset }: FetchedRecords, { shadows }: Bench): void {
    const { topic, partition } = this.#tenure;
    this.#producer.begin([this.#predictions, ...(shadows.length > 0 ? [this.#shadowPredictions] : [])], {
      group: this.#deps.group,
      topic,
      partition,
      offset: nextOffset,
      metadata: encodeMark(this.#tenure.mark),
    });
  }

  /** Steps 2 to 4, until every remaining transaction has a score. */
  async #scoreChampion(
    records: FetchedRecords,
    bench: Bench,
    startedAt: number,
  ): Promise<{ champion: ScoredBatch; rejections: Rejection[]; counts: BatchCounts }> {
    const { batch, deployment } = bench;
    const failed = new Map<number, Rejection>();
    for (;;) {
      const rejections = [
        ...failed.values(),
        ...decodeTransactions(records, bench.reader, batch, { without: failed, now: Date.now() }),
      ];
      const forwarded = this.#forward(records, batch, rejections);
      if (deployment.history.needsMerchants && batch.length > 0) await this.#waitForMerchants(records, bench);
      this.#history.begin();
      const { repeats, ...counts } = foldHistory(
        records,
        batch,
        this.#history.cards,
        deployment.history,
        this.#deps.merchants.windows,
        this.#gaps.until,
      );
      rejections.push(...repeats);
      const champion = await scoreChampion(bench.champion, batch, startedAt, {
        health: deployment.health,
        isRepeated: (record) => attemptOf(records, record) !== "1",
        isFirst: failed.size === 0,
        fallBack: (fault) => this.#fallBack(deployment, fault, false),
      });
      if (champion.fault !== null) await this.#fallBack(deployment, champion.fault, champion.useless);
      if (champion.rejections.length === 0)
        return { champion: champion.scored, rejections, counts: { transactions: batch.length, forwarded, ...counts } };
      this.#history.undo();
      for (const rejection of champion.rejections) failed.set(rejection.record, rejection);
    }
  }

  /**
   * The champion fails: if an earlier deployment works, that one scores this batch, in a new tenure. If none does,
   * payments without a score become dead letters; but nothing is consumed for a champion that scores no payment at all.
   *
   * @throws FraudstreamError `champion_out_of_force`, retriable
   */
  async #fallBack(deployment: LoadedDeployment, fault: string, useless: boolean): Promise<void> {
    const replaced = await this.#deps.deployments.putOutOfForce(deployment, fault, { unconditionally: useless });
    if (replaced)
      throw new FraudstreamError(
        "champion_out_of_force",
        `the batch is scored again: ${deployment.champion.model} of epoch ${deployment.epoch} is out of force`,
      );
  }

  /**
   * If the tenure ends meanwhile, the batch is left to the next one, which can wait: nothing becomes stale because of
   * that.
   */
  async #waitForMerchants(records: FetchedRecords, bench: Bench): Promise<void> {
    const { merchants } = this.#deps;
    const { signal } = this.#tenure;
    const {
      batch,
      deployment: { history },
    } = bench;
    await this.#merchantWait.until(neededBucket(batch), signal);
    const first = firstBucket(batch, this.#history.cards.clock, history);
    const forgotten = merchants.hasForgotten(first);
    if (!forgotten && !signal.aborted) return;
    // Reading them again may take longer than a Kafka transaction may stay open.
    await this.#producer.abort();
    await merchants.recall(first, signal);
    signal.throwIfAborted();
    this.#begin(records, bench);
  }

  /** Takes records of other partitions out of a batch and forwards them unchanged. @returns how many */
  #forward(records: FetchedRecords, batch: TransactionBatch, rejections: Rejection[]): number {
    const { name, partitions } = this.#deps.topics.transactions;
    for (const output of this.#forwarded.values()) output.reset();
    let sent = 0;
    for (const { record, partition, card } of takeMisplaced(records, batch, partitions)) {
      const headers = forwardedHeaders(records, record);
      const value = records.bytes.subarray(
        records.valueAt[record],
        records.valueAt[record] + records.valueLength[record],
      );
      // A compressed batch can bring a record that doesn't fit even on its own.
      if (card.length + value.length + headers.length > MAX_FORWARDED_BYTES) {
        rejections.push({
          record,
          step: "history",
          code: "misplaced_too_large",
          reason: `its card belongs to partition ${partition}, and it is too large to be sent there`,
        });
        continue;
      }
      let output = this.#forwarded.get(partition);
      if (output === undefined) this.#forwarded.set(partition, (output = new PartitionOutput(name, partition)));
      output.append(card, value, headers);
      sent += 1;
    }
    return sent;
  }

  #benchFor(deployment: LoadedDeployment): Bench {
    if (this.#bench?.deployment !== deployment) {
      const batch = new TransactionBatch(deployment.slots, deployment.history.size);
      this.#bench = {
        deployment,
        batch,
        reader: new TransactionReader(batch, this.#deps.cards, this.#deps.schemas.shapes.transactions),
        champion: new ModelScorer(deployment.champion, deployment),
        shadows: deployment.shadows.map((shadow) => new ModelScorer(shadow, deployment)),
      };
    }
    const bench = this.#bench;
    if (bench.shadows.length !== deployment.shadows.length)
      bench.shadows = bench.shadows.filter(({ model }) => deployment.shadows.includes(model));
    return bench;
  }

  /** A shadow that fails is dropped; it costs no transaction its prediction. */
  async #scoreShadows(bench: Bench, champion: ScoredBatch, startedAt: number): Promise<ScoredBatch[]> {
    const scored: ScoredBatch[] = [];
    for (const shadow of bench.shadows) {
      try {
        scored.push(await scoreShadow(shadow, bench.batch, champion, startedAt));
      } catch (error) {
        this.#deps.deployments.dropShadow(bench.deployment, shadow.model, messageOf(error));
      }
    }
    return scored;
  }

  #encodeDeadLetters(records: FetchedRecords, rejections: Rejection[]): void {
    rejections.sort((a, b) => a.record - b.record);
    for (const { record, ...cause } of rejections)
      appendDeadLetter(records, record, cause, this.#deadLetters, this.#deps.cards, this.#tenure.mark);
  }
}

/**
 * Known decisions stay in force if fraud.control was deleted and created again, or has lost its end: the follower has
 * reported it.
 */
export function unlessReplaced(error: unknown): void {
  if (!(error instanceof KafkaError && error.replaced)) throw error;
}

/**
 * Where a tenure begins: the group's position, or else the position that its outputs show. Null: the log's beginning.
 */
async function findStart(deps: ScoringDeps, tenure: Tenure, producer: TransactionalProducer): Promise<number | null> {
  const { offset: committed, why } = await tenure.committed();
  if (committed !== null || why === "recreated") return committed;
  const { cluster, group, log } = deps;
  const { topic, partition, mark } = tenure;
  // A record forwarded twice from an added partition is a repeat in the partition of its card.
  if (partition >= deps.topics.transactions.partitions) return null;
  const offset = await findProgress(deps, tenure);
  if (offset === null) return null;
  const message =
    `${topic}[${partition}]: ${why === "none" ? "Kafka has forgotten" : "Kafka's log does not reach"} where ` +
    `${group} stood; by its own predictions and dead letters it has scored everything before offset ${offset}, ` +
    "and it goes on there";
  log.warn({ topic, partition, offset }, message);
  if (why === "none") cluster.incidents.report({ kind: "forgotten", topic, partition, lost: 0, message });
  // No more records may come for a long time, and outputs are deleted eventually.
  producer.begin([], { group, topic, partition, offset, metadata: encodeMark(mark) });
  await producer.commit([], Date.now());
  return offset;
}

/** The reply-to header of each row's source, for its predictions. */
function replyHeaders(records: FetchedRecords, batch: TransactionBatch): (row: number) => Buffer | null {
  return (row) => {
    const replyTo = replyToOf(records, batch.record[row]);
    return replyTo === null ? null : encodeHeaders([[REPLY_TO, replyTo]]);
  };
}
