import type { ClickHouseConfig, Config, KafkaConfig } from "../config/config.js";
import type { Logger } from "../logging.js";
import { UsageError } from "../../schemas/errors.js";
import { canRunChdb, startChdb } from "./clickhouse-chdb.js";
import { DataDirLock } from "./data-dir.js";
import { dockerAnswers, startDockerClickHouse, startDockerKafka } from "./docker.js";
import type { EngineStart, RunningEngine } from "./engine.js";
import { canRunJava, startJavaKafka } from "./kafka-java.js";

export { writeStackFile } from "./data-dir.js";

/** Kafka and ClickHouse, ready to be used. */
export interface LocalStack {
  kafka: KafkaConfig;
  clickhouse: ClickHouseConfig;
  /** What was found or started, in words for people. */
  how: { kafka: string; clickhouse: string };
  /** Ends the engines that were started, and gives DATA_DIR free; those that were configured are left alone. */
  stop(): Promise<void>;
}

/**
 * Kafka and ClickHouse for one machine. Each is what the configuration names; or else a container where Docker answers;
 * or else Apache Kafka on Java 17+ (fetched with Maven) and `chdb`. Their data is in DATA_DIR, which one process at a
 * time may use. The engines end with this process, however it ends.
 *
 * @throws UsageError `no_engines` when there is none of the three ways, `stack_running` when DATA_DIR is in use
 * @throws FraudstreamError `engine_failed`, `kafka_download`, `aborted`
 */
export async function startLocalStack(options: {
  config: Config;
  log: Logger;
  progress: (line: string) => void;
  signal?: AbortSignal;
}): Promise<LocalStack> {
  const { config, log, progress, signal } = options;
  if (config.kafka !== null && config.clickhouse !== null) return configured(config.kafka, config.clickhouse);
  const starters = await findStarters(config);
  const lock = await DataDirLock.take(config.dataDir);
  const start: EngineStart = {
    dataDir: config.dataDir,
    cacheDir: config.cacheDir,
    lock,
    progress,
    ...(signal === undefined ? {} : { signal }),
  };
  // Both are waited for, so that a failure of one leaves nothing of the other behind.
  const [kafka, clickhouse] = await Promise.allSettled([starters.kafka?.(start), starters.clickhouse?.(start)]);
  const running = [kafka, clickhouse].flatMap((result) =>
    result.status === "fulfilled" && result.value !== undefined ? [result.value] : [],
  );
  let stopping = false;
  const stop = async (): Promise<void> => {
    if (stopping) return;
    stopping = true;
    await Promise.allSettled(running.map((engine) => engine.stop()));
    lock.release();
  };
  if (kafka.status === "rejected" || clickhouse.status === "rejected") {
    await stop();
    throw kafka.status === "rejected" ? kafka.reason : (clickhouse as PromiseRejectedResult).reason;
  }
  for (const engine of running) {
    void engine.ended.then((how) => {
      if (!stopping) log.error({ err: engine.failure(`ended (${how})`) }, "a local engine has ended");
    });
  }
  return {
    ...configured(
      config.kafka ?? { brokers: [kafka.value?.address ?? ""], ssl: false, sasl: null },
      config.clickhouse ?? {
        url: clickhouse.value?.address ?? "",
        username: "default",
        password: "",
        database: config.clickhouseDatabase,
      },
    ),
    how: {
      kafka: kafka.value?.how ?? kafkaName(config.kafka),
      clickhouse: clickhouse.value?.how ?? clickhouseName(config.clickhouse),
    },
    stop,
  };
}

type Starter = (start: EngineStart) => Promise<RunningEngine>;

/** How the engines that the configuration doesn't name are to be started. */
async function findStarters(config: Config): Promise<{ kafka: Starter | null; clickhouse: Starter | null }> {
  if (await dockerAnswers()) {
    return {
      kafka: config.kafka === null ? startDockerKafka : null,
      clickhouse: config.clickhouse === null ? startDockerClickHouse : null,
    };
  }
  const missing: string[] = [];
  if (config.kafka === null && !(await canRunJava(config.cacheDir))) missing.push("Kafka");
  if (config.clickhouse === null && !canRunChdb()) missing.push("ClickHouse");
  if (missing.length > 0) {
    throw new UsageError(
      "no_engines",
      [
        `There is no ${missing.join(" and no ")} to use. Three ways to mend that:`,
        "  1. Set KAFKA_BROKERS (host:port,…) and CLICKHOUSE_URL to servers that run already.",
        "  2. Start Docker: both then run in containers.",
        "  3. Install Java 17 or later and Maven for Kafka; ClickHouse comes with npm ci as the optional " +
          "package chdb (Linux with glibc, macOS).",
      ].join("\n"),
    );
  }
  return {
    kafka: config.kafka === null ? startJavaKafka : null,
    clickhouse: config.clickhouse === null ? startChdb : null,
  };
}

function configured(kafka: KafkaConfig, clickhouse: ClickHouseConfig): LocalStack {
  return {
    kafka,
    clickhouse,
    how: { kafka: kafkaName(kafka), clickhouse: clickhouseName(clickhouse) },
    stop: () => Promise.resolve(),
  };
}

function kafkaName(kafka: KafkaConfig | null): string {
  return `Kafka at ${kafka?.brokers.join(",")} (KAFKA_BROKERS)`;
}

function clickhouseName(clickhouse: ClickHouseConfig | null): string {
  return `ClickHouse at ${clickhouse?.url} (CLICKHOUSE_URL)`;
}
