import { setTimeout as sleep } from "node:timers/promises";
import type { Kafka } from "kafkajs";
import type { Config, KafkaConfig } from "../../../infra/config/config.js";
import { BatchProducer } from "../../../infra/kafka/batch-producer.js";
import { createKafka, ensureTopics } from "../../../infra/kafka/client.js";
import { KafkaCluster } from "../../../infra/kafka/cluster.js";
import { committedOffset } from "../../../infra/kafka/group-membership.js";
import { PartitionReader } from "../../../infra/kafka/partition-reader.js";
import type { FetchedRecords } from "../../../infra/kafka/records.js";
import { Schemas } from "../../../infra/kafka/schemas.js";
import type { Logger } from "../../../infra/logging.js";
import type { Artifact } from "../../../models/artifacts.js";
import { ControlLog } from "../../../models/control/log.js";
import { deploy, registerModel, type Author } from "../../../models/control/decisions.js";
import { topicNames, topicsFor, type Topics } from "../../../schemas/topics.js";

/** What benchmarks do to a Kafka cluster. */
export class BenchCluster {
  readonly cluster: KafkaCluster;
  readonly kafka: Kafka;
  readonly topics: Topics;
  readonly group: string;
  readonly #log: Logger;

  constructor(
    readonly config: KafkaConfig,
    readonly prefix: string,
    partitions: number,
    log: Logger,
  ) {
    this.cluster = new KafkaCluster(config, "bench");
    this.kafka = createKafka(config, "bench", log);
    this.topics = topicsFor(prefix, partitions);
    this.group = `${prefix}scoring`;
    this.#log = log;
  }

  get bootstrap(): string {
    return this.config.brokers[0];
  }

  /** Everything but the transactions starts afresh. */
  async reset(): Promise<void> {
    const admin = this.kafka.admin();
    await admin.connect();
    const existing = new Set(await admin.listTopics());
    const outputs = topicNames(this.topics).filter(
      (name) => name !== this.topics.transactions.name && existing.has(name),
    );
    if (outputs.length > 0) await admin.deleteTopics({ topics: outputs });
    await admin.deleteGroups([this.group]).catch(() => {});
    await admin.disconnect();
    // The deletion of a topic is seen everywhere only a little later.
    await sleep(2_000);
    await ensureTopics(this.kafka, Object.values(this.topics));
  }

  /** Registers a model and makes it the champion. @returns the epoch */
  deploy(artifact: Artifact, config: Pick<Config, "schemaRegistryUrl" | "schemasDir">): Promise<number> {
    const { model, thresholds } = artifact.manifest;
    return this.#decide(artifact, config, (control, author) =>
      deploy(control, author, { champion: { model, ...thresholds }, shadows: [] }),
    );
  }

  /** Registers a model, unless it is. */
  register(artifact: Artifact, config: Pick<Config, "schemaRegistryUrl" | "schemasDir">): Promise<void> {
    return this.#decide(artifact, config, () => Promise.resolve());
  }

  async #decide<T>(
    artifact: Artifact,
    config: Pick<Config, "schemaRegistryUrl" | "schemasDir">,
    decide: (control: ControlLog, author: Author) => Promise<T>,
  ): Promise<T> {
    const control = new ControlLog({
      cluster: this.cluster,
      topic: this.topics.control.name,
      schemas: new Schemas(config),
      log: this.#log,
    });
    const producer = await BatchProducer.open(this.cluster);
    try {
      await control.readToEnd();
      const author = { who: "system:bench", producer };
      const { model } = artifact.manifest;
      if (!control.state.models.has(model))
        await registerModel(control, author, { model, manifestSha256: artifact.manifestSha256 });
      return await decide(control, author);
    } finally {
      await producer.close();
      await control.close();
    }
  }

  /** Waits until the scoring group has committed every transaction. */
  async waitUntilScored(): Promise<void> {
    const { name, partitions } = this.topics.transactions;
    for (let partition = 0; partition < partitions; partition++) {
      const reader = new PartitionReader(this.cluster, name, partition);
      const end = await reader.endOffset();
      await reader.close();
      while (((await committedOffset(this.cluster, this.group, { topic: name, partition })) ?? 0) < end)
        await sleep(100);
    }
  }

  /** Every committed record of a topic. */
  async readAll(topic: string, onRecords: (records: FetchedRecords) => void): Promise<void> {
    const partitions = await this.cluster.partitionsOf(topic);
    for (let partition = 0; partition < partitions; partition++) {
      const reader = new PartitionReader(this.cluster, topic, partition);
      const end = await reader.endOffset();
      for (let offset = await reader.firstOffset(); offset < end;) {
        const records = await reader.fetch(offset);
        onRecords(records);
        offset = records.nextOffset;
      }
      await reader.close();
    }
  }

  close(): Promise<void> {
    return this.cluster.close();
  }
}
