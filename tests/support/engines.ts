import { randomBytes } from "node:crypto";
import { inject } from "vitest";
import type { ClickHouseConfig, KafkaConfig } from "../../infra/config/config.js";

/** The Kafka of this test run. */
export function kafkaConfig(): KafkaConfig {
  return inject("kafka");
}

/** The ClickHouse of this test run, with a database of the test's own; the test creates it. */
export function clickhouseConfig(database: string): ClickHouseConfig {
  return { ...inject("clickhouse"), database };
}

/** A prefix for topics, groups and databases that no other test has: `t3f9a1c22e0.`, or with `_` for a database. */
export function uniquePrefix(separator: "." | "_" = "."): string {
  return `t${randomBytes(5).toString("hex")}${separator}`;
}
