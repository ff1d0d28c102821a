import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { KafkaConfig } from "../../infra/config/config.js";
import { BatchProducer, type OutgoingRecord } from "../../infra/kafka/batch-producer.js";
import { createKafka, ensureTopics } from "../../infra/kafka/client.js";
import { KafkaCluster } from "../../infra/kafka/cluster.js";
import { committedOffset } from "../../infra/kafka/group-membership.js";
import { PartitionReader } from "../../infra/kafka/partition-reader.js";
import { readHeaders } from "../../infra/kafka/records.js";
import { Schemas } from "../../infra/kafka/schemas.js";
import { createLogger } from "../../infra/logging.js";
import { readHeartbeat } from "../../models/control/heartbeats.js";
import { ControlLog } from "../../models/control/log.js";
import { deploy, registerModel } from "../../models/control/decisions.js";
import type { DeployedModel, Prediction, WorkerHeartbeat } from "../../schemas/generated.js";
import { topicsFor, type TopicSpec, type Topics } from "../../schemas/topics.js";
import { eventually } from "./eventually.js";
import { manifestOf, writeArtifact, type TestModel } from "./models.js";
import { settledEnd } from "./settled.js";
import { readPrediction } from "./transactions.js";
import { RoleProcess, type WorkerExit } from "./workers.js";

/** A record as a read_committed reader finds it. */
export interface ReadRecord {
  partition: number;
  offset: number;
  timestamp: number;
  key: Buffer | null;
  value: Buffer | null;
  headers: Record<string, string>;
}

export interface ReadPrediction extends ReadRecord {
  prediction: Prediction;
}

/** Topics, models and scoring workers of one test, under a prefix of its own. */
export class TestSystem {
  readonly prefix: string;
  readonly topics: Topics;
  readonly group: string;
  readonly cluster: KafkaCluster;
  readonly producer: BatchProducer;
  readonly control: ControlLog;
  readonly artifacts: string;
  readonly workers: RoleProcess[] = [];
  /** Settings of its roles beside the usual ones. */
  readonly further: Record<string, string> = {};
  readonly #kafka: KafkaConfig;
  readonly #schemas: Schemas;

  private constructor(
    kafka: KafkaConfig,
    prefix: string,
    topics: Topics,
    cluster: KafkaCluster,
    producer: BatchProducer,
    artifacts: string,
  ) {
    this.#kafka = kafka;
    this.prefix = prefix;
    this.topics = topics;
    this.group = `${prefix}scoring`;
    this.cluster = cluster;
    this.producer = producer;
    this.artifacts = artifacts;
    this.#schemas = new Schemas({ schemaRegistryUrl: null, schemasDir: null });
    this.control = new ControlLog({
      cluster,
      topic: topics.control.name,
      schemas: this.#schemas,
      log: createLogger({ logLevel: "silent" }, "test"),
    });
  }

  static async open({
    kafka,
    prefix,
    partitions = 2,
  }: {
    kafka: KafkaConfig;
    prefix: string;
    partitions?: number;
  }): Promise<TestSystem> {
    const topics = topicsFor(prefix, partitions);
    await ensureTopics(createKafka(kafka, prefix, createLogger({ logLevel: "silent" }, "test")), Object.values(topics));
    const cluster = new KafkaCluster(kafka, prefix);
    const system = new TestSystem(
      kafka,
      prefix,
      topics,
      cluster,
      await BatchProducer.open(cluster),
      await mkdtemp(join(tmpdir(), "fraudstream-artifacts-")),
    );
    await system.control.readToEnd();
    return system;
  }

  get kafka(): KafkaConfig {
    return this.#kafka;
  }

  get partitions(): number {
    return this.topics.transactions.partitions;
  }

  /** The settings of a role in this system. */
  get settings(): Record<string, string> {
    return {
      KAFKA_BROKERS: this.#kafka.brokers.join(","),
      TOPIC_PREFIX: this.prefix,
      TOPIC_PARTITIONS: String(this.partitions),
      ARTIFACTS: this.artifacts,
      DATA_DIR: this.dataDir,
      LOG_LEVEL: "info",
      ...this.further,
    };
  }

  /** Where its roles keep their snapshots. */
  get dataDir(): string {
    return `${this.artifacts}-data`;
  }

  /** Starts a scoring worker; it is killed when the system closes. */
  startWorker(settings: Record<string, string> = {}): RoleProcess {
    const worker = new RoleProcess("scoring", { ...this.settings, ...settings });
    this.workers.push(worker);
    return worker;
  }

  /** Stores a model's artifact and registers it. */
  async register(id: string, model: TestModel): Promise<void> {
    await this.registerFiles(id, await writeArtifact(this.artifacts, manifestOf(id, model), model.onnx));
  }

  /** Registers a model whatever its files are like. */
  registerFiles(id: string, manifestSha256: string): Promise<void> {
    return registerModel(this.control, { who: "system:test", producer: this.producer }, { model: id, manifestSha256 });
  }

  /** Deploys models by their ids, with thresholds of 0.5 and 0.9. @returns the epoch */
  deploy(champion: string | DeployedModel | null, shadows: (string | DeployedModel)[] = []): Promise<number> {
    const deployed = (model: string | DeployedModel): DeployedModel =>
      typeof model === "string" ? { model, review: 0.5, decline: 0.9 } : model;
    return deploy(
      this.control,
      { who: "system:test", producer: this.producer },
      { champion: champion === null ? null : deployed(champion), shadows: shadows.map(deployed) },
    );
  }

  /** Publishes transactions by their keys. */
  publish(records: readonly OutgoingRecord[]): Promise<void> {
    return this.producer.publish(this.topics.transactions.name, records);
  }

  /** Publishes transactions as one batch. @returns the offset of the first */
  publishTo(partition: number, records: readonly OutgoingRecord[]): Promise<number> {
    return this.producer.publishTo(this.topics.transactions.name, partition, records);
  }

  /** All that a read_committed reader finds in a topic, from an offset on. */
  async read({ name, partitions }: TopicSpec, from = 0): Promise<ReadRecord[]> {
    const found: ReadRecord[] = [];
    for (let partition = 0; partition < partitions; partition++) {
      const reader = new PartitionReader(this.cluster, name, partition);
      const end = await reader.endOffset();
      for (let offset = Math.max(from, await reader.firstOffset()); offset < end;) {
        const records = await reader.fetch(offset);
        const part = (at: number, length: number): Buffer | null =>
          length < 0 ? null : Buffer.from(records.bytes.subarray(at, at + length));
        for (let i = 0; i < records.count; i++) {
          found.push({
            partition,
            offset: records.offset[i],
            timestamp: records.timestamp[i],
            key: part(records.keyAt[i], records.keyLength[i]),
            value: part(records.valueAt[i], records.valueLength[i]),
            headers: Object.fromEntries(
              readHeaders(records, i).map(([header, value]) => [header, value?.toString() ?? ""]),
            ),
          });
        }
        offset = records.nextOffset;
      }
      await reader.close();
    }
    return found;
  }

  async predictions(topic: TopicSpec = this.topics.predictions): Promise<ReadPrediction[]> {
    return (await this.read(topic)).map((record) => ({
      ...record,
      prediction: readPrediction(record.value as Buffer),
    }));
  }

  deadLetters(): Promise<ReadRecord[]> {
    return this.read(this.topics.deadLetters);
  }

  /**
   * Waits until the group has consumed all that is published, what it forwarded itself included, and readers can see
   * what came of it.
   */
  async consumed(): Promise<void> {
    for (let before = ""; ;) {
      const ends: number[] = [];
      for (let partition = 0; partition < this.partitions; partition++) ends.push(await this.#consumed(partition));
      for (const { name, partitions } of [
        this.topics.predictions,
        this.topics.shadowPredictions,
        this.topics.deadLetters,
      ]) {
        for (let partition = 0; partition < partitions; partition++) await settledEnd(this.cluster, name, partition);
      }
      // A batch of one partition may have forwarded records to another that had been looked at before.
      if (ends.join() === before) return;
      before = ends.join();
    }
  }

  /**
   * Waits until no record that can be seen is left behind the group's offset in a partition. @returns the partition's
   * end
   */
  async #consumed(partition: number): Promise<number> {
    const topic = this.topics.transactions.name;
    const end = await settledEnd(this.cluster, topic, partition);
    const reader = new PartitionReader(this.cluster, topic, partition, { maxWaitMs: 1 });
    await eventually(`the group stands at ${end} in partition ${partition}`, async () => {
      const ended = this.workers.find(({ exit }) => exit !== null && exit.code !== 0 && exit.signal === null);
      if (ended !== undefined) throw new Error(`a worker ended with ${JSON.stringify(ended.exit)}: ${ended.tail()}`);
      let next = (await committedOffset(this.cluster, this.group, { topic, partition })) ?? 0;
      // What a worker forwarded in a transaction that was aborted, and markers, are passed over; nothing is committed
      // for them.
      while (next < end) {
        const records = await reader.fetch(next);
        if (records.count > 0) return false;
        next = records.nextOffset;
      }
      return true;
    });
    await reader.close();
    return end;
  }

  /** Heartbeats from an offset of the workers' topic on, with where the next begin. */
  async heartbeats(from = 0): Promise<{ beats: (WorkerHeartbeat & { offset: number })[]; next: number }> {
    const reader = new PartitionReader(this.cluster, this.topics.workers.name, 0);
    const end = await reader.endOffset();
    const beats: (WorkerHeartbeat & { offset: number })[] = [];
    for (let offset = Math.max(from, await reader.firstOffset()); offset < end;) {
      const records = await reader.fetch(offset);
      for (let i = 0; i < records.count; i++)
        beats.push({ ...(await readHeartbeat(this.#schemas, records, i)), offset: records.offset[i] });
      offset = records.nextOffset;
    }
    await reader.close();
    return { beats, next: (beats.at(-1)?.offset ?? from - 1) + 1 };
  }

  /** The last heartbeat of a worker (of the only one, when none is named), once it satisfies a condition. */
  heartbeat(
    what: string,
    condition: (beat: WorkerHeartbeat) => boolean,
    worker?: RoleProcess,
  ): Promise<WorkerHeartbeat & { offset: number }> {
    return eventually(`a heartbeat says ${what}`, async () => {
      const { beats } = await this.heartbeats();
      const last = beats.filter((beat) => worker === undefined || beat.worker.includes(`-${worker.pid}-`)).at(-1);
      return last !== undefined && condition(last) ? last : undefined;
    });
  }

  /** Asks every worker that runs to stop, once it has started. @returns how they ended */
  stopWorkers(): Promise<WorkerExit[]> {
    const running = this.workers.filter(({ exit }) => exit === null);
    return Promise.all(running.map((worker) => worker.logged("scoring").then(() => worker.stop())));
  }

  async close(): Promise<void> {
    for (const worker of this.workers) await worker.kill();
    await this.control.close();
    await this.producer.close();
    await this.cluster.close();
    for (const dir of [this.artifacts, this.dataDir]) await rm(dir, { recursive: true, force: true });
  }
}
