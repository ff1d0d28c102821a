import type { Connection } from "@platformatic/kafka";
import type { Kafka } from "kafkajs";
import { onTestFinished } from "vitest";
import { createKafka, ensureTopics } from "../../infra/kafka/client.js";
import { KafkaCluster, type BrokerAddress } from "../../infra/kafka/cluster.js";
import { PartitionReader } from "../../infra/kafka/partition-reader.js";
import { createLogger } from "../../infra/logging.js";
import { cuttableProxy, type CuttableProxy } from "./cuttable-proxy.js";
import { kafkaConfig, uniquePrefix } from "./engines.js";
import { settledEnd } from "./settled.js";

export const silent = createLogger({ logLevel: "silent" }, "test");

/** The cluster behind a proxy that can be cut, whatever addresses the brokers give of themselves. */
class ProxiedCluster extends KafkaCluster {
  readonly #proxy: CuttableProxy;

  constructor(proxy: CuttableProxy) {
    super({ ...kafkaConfig(), brokers: [`127.0.0.1:${proxy.port}`] }, "proxied-test");
    this.#proxy = proxy;
  }

  override open(_address: BrokerAddress): Promise<Connection> {
    return super.open({ host: "127.0.0.1", port: this.#proxy.port });
  }
}

export interface TestKafka {
  prefix: string;
  kafka: Kafka;
  cluster: KafkaCluster;
  /** Makes a topic of the test's own, whose leaders know of it, and gives its name. */
  topic: (name: string, partitions?: number, settings?: Record<string, string>) => Promise<string>;
  /** Every committed record's value in a partition, as text, once no transaction is open there. */
  values: (topic: string, partition?: number) => Promise<string[]>;
  /** Those that can be seen now. */
  visible: (topic: string, partition?: number) => Promise<string[]>;
  /** The cluster behind a proxy. */
  proxied: () => Promise<{ proxy: CuttableProxy; cluster: KafkaCluster }>;
}

/** The run's Kafka for one test, which leaves no connection behind. */
export function testKafka(): TestKafka {
  const prefix = uniquePrefix(".");
  const kafka = createKafka(kafkaConfig(), `${prefix}test`, silent);
  const cluster = new KafkaCluster(kafkaConfig(), `${prefix}test`);
  onTestFinished(() => cluster.close());
  const visible = async (topic: string, partition = 0): Promise<string[]> => {
    const reader = new PartitionReader(cluster, topic, partition);
    const texts: string[] = [];
    const end = await reader.endOffset();
    for (let next = await reader.firstOffset(); next < end;) {
      const records = await reader.fetch(next);
      for (let i = 0; i < records.count; i++)
        texts.push(records.bytes.toString("utf8", records.valueAt[i], records.valueAt[i] + records.valueLength[i]));
      next = records.nextOffset;
    }
    await reader.close();
    return texts;
  };
  return {
    prefix,
    kafka,
    cluster,
    async topic(name, partitions = 1, settings = {}) {
      const full = `${prefix}${name}`;
      await ensureTopics(kafka, [{ name: full, partitions, settings }]);
      for (let partition = 0; partition < partitions; partition++) await settledEnd(cluster, full, partition);
      return full;
    },
    async values(topic, partition = 0) {
      await settledEnd(cluster, topic, partition);
      return visible(topic, partition);
    },
    visible,
    async proxied() {
      const [host = "", port] = (kafkaConfig().brokers[0] ?? "").split(":");
      const proxy = await cuttableProxy({ host, port: Number(port) });
      const behind = new ProxiedCluster(proxy);
      onTestFinished(async () => {
        await behind.close();
        await proxy.close();
      });
      return { proxy, cluster: behind };
    },
  };
}
