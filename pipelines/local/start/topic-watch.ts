import { createRequire } from "node:module";
import type * as Avsc from "avsc";
import type { KafkaCluster } from "../../../infra/kafka/cluster.js";
import { PartitionReader } from "../../../infra/kafka/partition-reader.js";
import { readHeaders, type FetchedRecords } from "../../../infra/kafka/records.js";
import type { Schemas } from "../../../infra/kafka/schemas.js";
import { FraudstreamError } from "../../../schemas/errors.js";
import { predictionSchema } from "../../../schemas/generated.js";
import type { Topics, TopicSpec } from "../../../schemas/topics.js";
import { WIRE_HEAD_BYTES, schemaIdOf } from "../../../schemas/wire-format.js";
import type { Outcomes, SeenPrediction } from "./outcomes.js";
import type { TopicWindow } from "./summary-queries.js";

// avsc is CommonJS whose exports Node cannot name.
const avro = createRequire(import.meta.url)("avsc") as typeof Avsc;

/** The fields of a prediction that are looked at here; the rest is stepped over. */
const SEEN_FIELDS: ReadonlySet<string> = new Set<keyof SeenPrediction>([
  "transaction_id",
  "card_id",
  "merchant_id",
  "amount",
  "currency",
  "event_time",
  "score",
  "decision",
  "stale",
  "source_partition",
  "source_offset",
]);

interface Followed {
  reader: PartitionReader;
  start: number;
  next: number;
}

/**
 * Reads the predictions and dead letters topics, read_committed, from their ends on, as a consumer of ours would, and
 * tells `outcomes` of each record.
 */
export class TopicWatch {
  readonly #topics: Topics;
  readonly #schemas: Schemas;
  readonly #outcomes: Outcomes;
  readonly #predictions: Followed[];
  readonly #deadLetters: Followed[];
  readonly #resolvers = new Map<number, ReturnType<Avsc.Type["createResolver"]>>();
  readonly #seenType = avro.Type.forSchema({
    ...predictionSchema,
    fields: predictionSchema.fields.filter(({ name }) => SEEN_FIELDS.has(name)),
  } as never);
  #stopped = false;
  #loops: Promise<void>[] = [];

  private constructor(
    topics: Topics,
    schemas: Schemas,
    outcomes: Outcomes,
    predictions: Followed[],
    deadLetters: Followed[],
  ) {
    this.#topics = topics;
    this.#schemas = schemas;
    this.#outcomes = outcomes;
    this.#predictions = predictions;
    this.#deadLetters = deadLetters;
  }

  /**
   * Finds the topics' ends and begins to read. What is published after this has returned is seen.
   *
   * @param onFailure called when it can't read on
   */
  static async start(
    cluster: KafkaCluster,
    topics: Topics,
    schemas: Schemas,
    outcomes: Outcomes,
    onFailure: (error: unknown) => void,
  ): Promise<TopicWatch> {
    const watch = new TopicWatch(
      topics,
      schemas,
      outcomes,
      await followAll(cluster, topics.predictions),
      await followAll(cluster, topics.deadLetters),
    );
    watch.#loops = [...watch.#predictions, ...watch.#deadLetters].map((followed) =>
      watch.#follow(followed).catch((error: unknown) => {
        if (!watch.#stopped) onFailure(error);
      }),
    );
    return watch;
  }

  /** The part of the predictions topic that `outcomes` knows of. */
  get window(): TopicWindow {
    return {
      topic: this.#topics.predictions.name,
      starts: this.#predictions.map(({ start }) => start),
      ends: this.#predictions.map(({ next }) => next),
    };
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await Promise.all([...this.#predictions, ...this.#deadLetters].map(({ reader }) => reader.close()));
    await Promise.all(this.#loops);
  }

  async #follow(followed: Followed): Promise<void> {
    while (!this.#stopped) {
      const records = await followed.reader.fetch(followed.next);
      const now = Date.now();
      const isPredictions = records.topic === this.#topics.predictions.name;
      if (isPredictions) await this.#learnSchemas(records);
      // In one go with the new position, so that whoever looks finds counts and positions in step.
      if (isPredictions) this.#takePredictions(records, now);
      else this.#takeDeadLetters(records);
      followed.next = records.nextOffset;
    }
  }

  #takePredictions({ bytes, valueAt, valueLength, count, unread }: FetchedRecords, now: number): void {
    for (let i = 0; i < count; i++) {
      if (unread?.has(i)) continue;
      const resolver = this.#resolvers.get(schemaIdOf(bytes, valueAt[i], valueLength[i]) ?? -1);
      const value = bytes.subarray(valueAt[i] + WIRE_HEAD_BYTES, valueAt[i] + valueLength[i]);
      this.#outcomes.prediction(this.#seenType.fromBuffer(value, resolver) as SeenPrediction, now);
    }
  }

  async #learnSchemas({ bytes, valueAt, valueLength, count, unread }: FetchedRecords): Promise<void> {
    for (let i = 0; i < count; i++) {
      if (unread?.has(i)) continue;
      const id = schemaIdOf(bytes, valueAt[i], valueLength[i]);
      if (id !== null && this.#resolvers.has(id)) continue;
      const schema = id === null ? null : await this.#schemas.load(id);
      if (id === null || schema === null)
        throw new FraudstreamError("undecodable", `a record of ${this.#topics.predictions.name} has no known schema`);
      this.#resolvers.set(id, this.#seenType.createResolver(avro.Type.forSchema(schema as never)));
    }
  }

  #takeDeadLetters(records: FetchedRecords): void {
    for (let i = 0; i < records.count; i++) {
      const headers = new Map(readHeaders(records, i).map(([name, value]) => [name, value?.toString() ?? ""]));
      // Labels can be dead letters, too.
      if (headers.get("topic") !== this.#topics.transactions.name) continue;
      this.#outcomes.deadLetter(headers.get("code") ?? "", headers.get("reason") ?? "");
    }
  }
}

async function followAll(cluster: KafkaCluster, topic: TopicSpec): Promise<Followed[]> {
  return Promise.all(
    Array.from({ length: topic.partitions }, async (_, partition) => {
      const reader = new PartitionReader(cluster, topic.name, partition);
      const end = await reader.endOffset();
      return { reader, start: end, next: end };
    }),
  );
}

/** Where each partition of a topic ends now. */
export async function endOffsets(cluster: KafkaCluster, topic: TopicSpec): Promise<number[]> {
  const followed = await followAll(cluster, topic);
  await Promise.all(followed.map(({ reader }) => reader.close()));
  return followed.map(({ start }) => start);
}
