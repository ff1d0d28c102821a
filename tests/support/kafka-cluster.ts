import { setTimeout as sleep } from "node:timers/promises";
import type { Connection } from "@platformatic/kafka";
import type { Kafka } from "kafkajs";
import { onTestFinished } from "vitest";
import { createKafka, ensureTopics } from "../../infra/kafka/client.js";
import { KafkaCluster, type BrokerAddress } from "../../infra/kafka/cluster.js";
import { PartitionReader } from "../../infra/kafka/partition-reader.js";
import { createLogger } from "../../infra/logging.js";
import { cuttableProxy, type CuttableProxy } from "./cuttable-proxy.js";
import { kafkaConfig, uniquePrefix } from "./engines.js";

export const silent = createLogger({ logLevel: "silent" }, "test");

/** The cluster behind a proxy that can be cut, whatever addresses the brokers give of themselves. */
export class ProxiedCluster extends KafkaCluster {
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
  /** Makes a topic of the test's own and gives its name. */
  topic: (name: string, partitions?: number, settings?: Record<string, string>) => Promise<string>;
  /** Every committed record's value in a partition, as text. */
  values: (topic: string, partition?: number) => Promise<string[]>;
  /** The cluster behind a proxy. */
  proxied: () => Promise<{ proxy: CuttableProxy; cluster: KafkaCluster }>;
}

/** The run's Kafka for one test, which leaves no connection behind. */
export function testKafka(): TestKafka {
  const prefix = uniquePrefix(".");
  const kafka = createKafka(kafkaConfig(), `${prefix}test`, silent);
  const cluster = new KafkaCluster(kafkaConfig(), `${prefix}test`);
  onTestFinished(() => cluster.close());
  return {
    prefix, kafka, cluster,
    async topic(name, partitions = 1, settings = {}) {
      await ensureTopics(kafka, [{ name: `${prefix}${name}`, partitions, settings }]);
      return `${prefix}${name}`;
    },
    async values(topic, partition = 0) {
      const reader = new PartitionReader(cluster, topic, partition);
      const texts: string[] = [];
      const end = await reader.endOffset();
      for (let next = await reader.firstOffset(); next < end; ) {
        const records = await reader.fetch(next);
        for (let i = 0; i < records.count; i++) texts.push(records.bytes.toString("utf8", records.valueAt[i], records.valueAt[i] + records.valueLength[i]));
        next = records.nextOffset;
      }
      await reader.close();
      return texts;
    },
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

export async function eventually(check: () => boolean | Promise<boolean>): Promise<void> {
  for (let round = 0; !(await check()); round++) {
    if (round > 1_000) throw new Error("it never came to be");
    await sleep(20);
  }
}
