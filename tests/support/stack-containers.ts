import { GenericContainer, Wait, type StartedTestContainer } from "testcontainers";
import type { Config } from "../../infra/config/config.js";
import { CLICKHOUSE_IMAGE, KAFKA_IMAGE } from "../../infra/local/docker.js";
import { newClusterId } from "../../infra/local/kafka-java.js";
import { brokerProperties } from "../../infra/local/kafka-properties.js";
import { freePorts } from "../../infra/local/ports.js";
import type { LocalStack } from "../../infra/local/stack.js";

/**
 * The tests' Kafka and ClickHouse through testcontainers, for where Docker answers; what the configuration names is
 * used as it is. Testcontainers' own reaper ends the containers when the run is killed.
 */
export async function startContainers(config: Config): Promise<LocalStack> {
  const started: StartedTestContainer[] = [];
  const stop = async (): Promise<void> => {
    await Promise.all(started.map((container) => container.stop()));
  };
  try {
    const kafka = config.kafka ?? (await startKafka(started));
    const clickhouse = config.clickhouse ?? {
      url: await startClickHouse(started),
      username: "default",
      password: "",
      database: config.clickhouseDatabase,
    };
    return {
      kafka,
      clickhouse,
      how: { kafka: `Kafka at ${kafka.brokers.join(",")}`, clickhouse: `ClickHouse at ${clickhouse.url}` },
      stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** The broker has to tell its clients the port under which they reach it, so that port is chosen first. */
async function startKafka(started: StartedTestContainer[]): Promise<LocalStack["kafka"]> {
  const port = await freePorts(29_092, 1);
  const properties = brokerProperties({
    bind: "0.0.0.0",
    port: 9092,
    controllerPort: 9093,
    advertised: `127.0.0.1:${port}`,
    logDir: "/tmp/kafka",
  });
  const script =
    `/opt/kafka/bin/kafka-storage.sh format -t ${newClusterId()} -c /tmp/server.properties && exec ` +
    "/opt/kafka/bin/kafka-server-start.sh /tmp/server.properties";
  const container = await new GenericContainer(KAFKA_IMAGE)
    .withExposedPorts({ container: 9092, host: port })
    .withCopyContentToContainer([{ content: properties, target: "/tmp/server.properties", mode: 0o644 }])
    .withEnvironment({ KAFKA_HEAP_OPTS: "-Xms512m -Xmx512m" })
    .withEntrypoint(["/bin/sh", "-c"])
    .withCommand([script])
    .withWaitStrategy(Wait.forLogMessage(/Kafka Server started/))
    .withStartupTimeout(120_000)
    .start();
  started.push(container);
  return { brokers: [`127.0.0.1:${port}`], ssl: false, sasl: null };
}

async function startClickHouse(started: StartedTestContainer[]): Promise<string> {
  const container = await new GenericContainer(CLICKHOUSE_IMAGE)
    .withExposedPorts(8123)
    .withEnvironment({ CLICKHOUSE_SKIP_USER_SETUP: "1" })
    .withUlimits({ nofile: { hard: 262_144, soft: 262_144 } })
    .withWaitStrategy(Wait.forHttp("/ping", 8123).forStatusCode(200))
    .withStartupTimeout(120_000)
    .start();
  started.push(container);
  return `http://${container.getHost()}:${container.getMappedPort(8123)}`;
}
