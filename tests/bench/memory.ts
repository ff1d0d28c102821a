/**
 * The worker's resident memory over ten million transactions of 10,000 cards: a million at a time, published while it
 * runs, each in forty days of event time, so that the history of the one before is forgotten.
 *
 *   npm run bench -- memory
 */
import { join } from "node:path";
import { publishMillion } from "./support/card-transactions.js";
import { startRole } from "./support/child.js";
import { BenchCluster } from "./support/cluster.js";
import type { BenchContext } from "./support/context.js";
import { topicNames } from "../../schemas/topics.js";
import { Peers } from "./support/peers.js";

const MILLIONS = 10;
const PARTITIONS = 4;
const CARDS = 10_000;
const DAYS = 40;

export async function benchMemory(context: BenchContext): Promise<void> {
  const { config, log, print } = context;
  const peers = await Peers.prepare(config.dataDir, print);
  const bench = new BenchCluster(context.kafka, `bench-memory-${Date.now()}.`, PARTITIONS, log);
  const schemasDir = join(config.dataDir, "schemas");
  await peers.writeSchemas(schemasDir);
  await bench.reset();
  const artifact = await peers.artifact(config.artifacts);
  await bench.deploy(artifact, { schemaRegistryUrl: null, schemasDir });
  const worker = startRole(
    "pipelines/scoring/main",
    {
      KAFKA_BROKERS: bench.bootstrap,
      TOPIC_PREFIX: bench.prefix,
      DATA_DIR: config.dataDir,
      ARTIFACTS: config.artifacts,
      SCHEMAS_DIR: schemasDir,
      LOG_LEVEL: "warn",
    },
    join(config.dataDir, "bench-memory-worker.log"),
  );
  const resident: number[] = [];
  try {
    for (let million = 1; million <= MILLIONS; million++) {
      await publishMillion(bench, { cards: CARDS, round: million - 1, days: DAYS });
      await bench.waitUntilScored();
      resident.push(worker.residentMb());
    }
    print(
      `memory: resident after each of ${MILLIONS} million transactions ${resident.join(", ")} MB; peak ` +
        `${worker.peakResidentMb()} MB`,
    );
  } finally {
    await worker.stop();
    const admin = bench.kafka.admin();
    await admin.connect();
    await admin.deleteTopics({ topics: topicNames(bench.topics) });
    await admin.disconnect();
    await bench.close();
  }
}
