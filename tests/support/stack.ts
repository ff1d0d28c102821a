import { mkdtemp, rm } from "node:fs/promises";
import { existsSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestProject } from "vitest/node";
import { readConfig, type ClickHouseConfig, type KafkaConfig } from "../../infra/config/config.js";
import { dockerAnswers } from "../../infra/local/docker.js";
import { startLocalStack } from "../../infra/local/stack.js";
import { createLogger } from "../../infra/logging.js";
import { compiledModule } from "../../infra/package-root.js";
import { startContainers } from "./stack-containers.js";

declare module "vitest" {
  export interface ProvidedContext {
    kafka: KafkaConfig;
    clickhouse: ClickHouseConfig;
  }
}

/**
 * Vitest's global set-up: Kafka and ClickHouse, once for a whole run, found in the same way as by `npm start`, with
 * testcontainers for Docker. What KAFKA_BROKERS and CLICKHOUSE_URL name is used as it is.
 */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  if (!existsSync(compiledModule("infra/local/guard")))
    throw new Error("run `npm run build` first: the engines' processes run compiled code");
  const dataDir = await mkdtemp(join(tmpdir(), "fraudstream-tests-"));
  const config = { ...readConfig(), dataDir };
  const log = createLogger({ logLevel: "warn" }, "tests");
  const ours = config.kafka === null || config.clickhouse === null;
  const stack =
    ours && (await dockerAnswers())
      ? await startContainers(config)
      : await startLocalStack({ config, log, progress: (line) => process.stderr.write(`${line}\n`) });
  project.provide("kafka", stack.kafka);
  project.provide("clickhouse", stack.clickhouse);
  return async () => {
    await stack.stop();
    await rm(dataDir, { recursive: true, force: true });
  };
}
