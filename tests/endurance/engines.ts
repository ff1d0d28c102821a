import { readConfig, type ClickHouseConfig, type KafkaConfig } from "../../infra/config/config.js";
import { canRunChdb, startChdb } from "../../infra/local/clickhouse-chdb.js";
import { DataDirLock, rememberPort } from "../../infra/local/data-dir.js";
import type { EngineStart, RunningEngine } from "../../infra/local/engine.js";
import { canRunJava, startJavaKafka } from "../../infra/local/kafka-java.js";
import { freePorts } from "../../infra/local/ports.js";
import { UsageError } from "../../schemas/errors.js";

/** Away from the ports that other stacks of this machine take: an engine that is away must find its own free again. */
const FIRST_PORT = 21_092;

/** One engine that can go away and come back, with its data and its address. */
export class Engine {
  readonly #start: () => Promise<RunningEngine>;
  #running: RunningEngine | null = null;
  address = "";

  constructor(start: () => Promise<RunningEngine>) {
    this.#start = start;
  }

  async start(): Promise<void> {
    this.#running = await this.#start();
    if (this.address !== "" && this.#running.address !== this.address)
      throw new Error(`an engine came back on ${this.#running.address}; it was on ${this.address}`);
    this.address = this.#running.address;
  }

  async stop(): Promise<void> {
    await this.#running?.stop();
    this.#running = null;
  }
}

/** Kafka and ClickHouse as child processes of this one, each of which can be stopped and started by itself. */
export class Engines {
  readonly kafka: Engine;
  readonly clickhouse: Engine;
  readonly #lock: DataDirLock;

  private constructor(lock: DataDirLock, kafka: Engine, clickhouse: Engine) {
    this.#lock = lock;
    this.kafka = kafka;
    this.clickhouse = clickhouse;
  }

  /** @throws UsageError `no_engines` where Java or chdb is missing */
  static async start({
    dataDir,
    progress,
    signal,
  }: {
    dataDir: string;
    progress: (line: string) => void;
    signal: AbortSignal;
  }): Promise<Engines> {
    const { cacheDir } = readConfig();
    if (!(await canRunJava(cacheDir)) || !canRunChdb())
      throw new UsageError(
        "no_engines",
        "this needs Java 17 or later (with Maven, or Kafka's jars in the cache) and the package chdb: it " +
          "stops and starts both engines itself",
      );
    const lock = await DataDirLock.take(dataDir);
    rememberPort(dataDir, "kafka", await freePorts(FIRST_PORT, 2));
    rememberPort(dataDir, "clickhouse", await freePorts(FIRST_PORT + 1_000, 1));
    const start: EngineStart = { dataDir, cacheDir, lock, progress, signal };
    const engines = new Engines(lock, new Engine(() => startJavaKafka(start)), new Engine(() => startChdb(start)));
    try {
      await Promise.all([engines.kafka.start(), engines.clickhouse.start()]);
      return engines;
    } catch (error) {
      await engines.stop();
      throw error;
    }
  }

  get kafkaConfig(): KafkaConfig {
    return { brokers: [this.kafka.address], ssl: false, sasl: null };
  }

  get clickhouseConfig(): ClickHouseConfig {
    return { url: this.clickhouse.address, username: "default", password: "", database: "fraud" };
  }

  async stop(): Promise<void> {
    await Promise.all([this.kafka.stop(), this.clickhouse.stop()]);
    this.#lock.release();
  }
}
