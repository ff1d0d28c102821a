import type { Config, KafkaConfig } from "../../infra/config/config.js";
import { BatchProducer } from "../../infra/kafka/batch-producer.js";
import { createKafka, ensureTopics } from "../../infra/kafka/client.js";
import { KafkaCluster } from "../../infra/kafka/cluster.js";
import { Schemas } from "../../infra/kafka/schemas.js";
import type { Logger } from "../../infra/logging.js";
import type { Artifact } from "../../models/artifacts.js";
import { ControlLog } from "../../models/control/log.js";
import { registerModel } from "../../models/control/decisions.js";
import { subjectTopics, topicsFor } from "../../schemas/topics.js";

/** Registers a stored artifact in fraud.control, from outside of any role. @returns a line for people */
export async function registerArtifact(
  config: Config,
  kafkaConfig: KafkaConfig,
  log: Logger,
  artifact: Artifact,
): Promise<string> {
  const topics = topicsFor(config.topicPrefix, config.topicPartitions);
  await ensureTopics(createKafka(kafkaConfig, "train", log), [topics.control], {
    replication: kafkaConfig.replication,
    log,
  });
  const cluster = new KafkaCluster(kafkaConfig, "train");
  const schemas = new Schemas(config);
  await schemas.register(subjectTopics(topics));
  const control = new ControlLog({ cluster, topic: topics.control.name, schemas, log });
  const producer = await BatchProducer.open(cluster);
  try {
    await control.readToEnd();
    const { model } = artifact.manifest;
    await registerModel(control, { who: "system:train", producer }, { model, manifestSha256: artifact.manifestSha256 });
    return `registered ${model} in ${topics.control.name}`;
  } finally {
    await producer.close();
    await control.close();
    await cluster.close();
  }
}
