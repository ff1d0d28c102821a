/**
 * What the history of cards costs.
 *
 *  - CPU of the scoring path on the 1,000,000 transactions of tests/bench/peers with 15 windowed features beside the 29
 *    others,
 *    against the 29 alone: two models of 100 trees of depth 6, in turn.
 *  - 1,000,000 cards with 10 transactions each at 100,000 merchants: memory, throughput against 10,000 cards,
 *    snapshots, and
 *    how long a worker takes from its start to its first score.
 *
 *   npm run bench -- history [--runs 3]
 */
import { setTimeout as sleep } from "node:timers/promises";
import { readdir, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { ensureTopics } from "../../infra/kafka/client.js";
import { PartitionReader } from "../../infra/kafka/partition-reader.js";
import { saveArtifact, sha256, type Artifact } from "../../models/artifacts.js";
import { featureHash, type FeatureSpec } from "../../models/features/plan.js";
import { INPUT, OUTPUT, writeOnnx } from "../../models/onnx/write.js";
import type { Tree } from "../../models/training/trees.js";
import { topicNames } from "../../schemas/topics.js";
import { RandomSource } from "../support/random-source.js";
import { publishMillion } from "./support/card-transactions.js";
import { median } from "./support/million.js";
import { startRole, type MeasuredProcess } from "./support/child.js";
import { BenchCluster } from "./support/cluster.js";
import type { BenchContext } from "./support/context.js";
import { Peers } from "./support/peers.js";

const PARTITIONS = 4;
const TREES = 100;
const DEPTH = 6;
const CARDS = 1_000_000;
const FEW_CARDS = 10_000;
const EVENTS_OF_A_CARD = 10;
/** Event time of a million transactions, in days: so that ten of each card lie within the longest window. */
const DAYS = { few: 300, many: 3 };

const amount: FeatureSpec = { name: "amount", type: "number", source: { kind: "amount" }, default: null };
const ATTRIBUTES = Array.from({ length: 28 }, (_, i): FeatureSpec => ({
  name: `v${i + 1}`,
  type: "number",
  source: { kind: "attribute", attribute: `v${i + 1}` },
  default: null,
}));
const WINDOWED = ["PT10M", "P1D", "P30D"].flatMap((window) =>
  (["count", "mean", "max", "std", "amount_over_mean"] as const).map((aggregate): FeatureSpec => ({
    name: `${aggregate} ${window}`,
    type: "number",
    source: { kind: "card", aggregate, window },
    default: null,
  })),
);

export async function benchHistory(context: BenchContext): Promise<void> {
  await cpuRatio(context);
  await manyCards(context);
}

async function cpuRatio({ config, kafka, log, print, options }: BenchContext): Promise<void> {
  const peers = await Peers.prepare(config.dataDir, print);
  const bench = new BenchCluster(kafka, "bench-scoring.", PARTITIONS, log);
  const schemasDir = join(config.dataDir, "schemas");
  await peers.writeSchemas(schemasDir);
  // The same trees in both, so that what differs is history and the longer vectors.
  const plain = [amount, ...ATTRIBUTES];
  const models = {
    without: await modelOf("without@1", plain, config.artifacts),
    with: await modelOf("with@1", [...plain, ...WINDOWED], config.artifacts, plain.length),
  };
  const cpu = { without: [] as number[], with: [] as number[] };
  const seconds = { without: [] as number[], with: [] as number[] };
  try {
    await bench.reset();
    let present = 0;
    await bench.readAll(bench.topics.transactions.name, (records) => (present += records.count));
    if (present === 0)
      await peers.runJava("bench.Gen", "--topic", bench.topics.transactions.name, "--bootstrap", bench.bootstrap);
    for (let round = 0; round < options.runs; round++) {
      for (const which of ["without", "with"] as const) {
        await bench.reset();
        await bench.deploy(models[which], { schemaRegistryUrl: null, schemasDir });
        const started = performance.now();
        const worker = startWorker(bench, config, { SCHEMAS_DIR: schemasDir });
        await bench.waitUntilScored();
        cpu[which].push(worker.cpuSeconds());
        seconds[which].push((performance.now() - started) / 1000);
        print(
          `  ${which}: ${worker.cpuSeconds().toFixed(1)} CPU-s, ${seconds[which].at(-1)?.toFixed(1)} s, peak ` +
            `${worker.peakResidentMb()} MB`,
        );
        await worker.stop();
      }
    }
    const ratio = median(cpu.with) / median(cpu.without);
    print(
      `history: ${median(cpu.with).toFixed(1)} CPU-seconds a million with ${WINDOWED.length} windowed ` +
        `features, ${median(cpu.without).toFixed(1)} without (median of ${options.runs}): ` +
        `${((ratio - 1) * 100).toFixed(0)}% more`,
    );
  } finally {
    await bench.close();
  }
}

async function manyCards({ config, kafka, log, print }: BenchContext): Promise<void> {
  const artifact = await modelOf("cards@1", [amount, ...WINDOWED], config.artifacts);
  const cpu: Record<string, number> = {};
  for (const [what, cards] of [
    ["few", FEW_CARDS],
    ["many", CARDS],
  ] as const) {
    const bench = new BenchCluster(kafka, `bench-history-${what}-${process.pid}.`, PARTITIONS, log);
    await ensureTopics(bench.kafka, Object.values(bench.topics));
    await bench.deploy(artifact, { schemaRegistryUrl: null, schemasDir: null });
    const own = { ...config, dataDir: join(config.dataDir, `history-${process.pid}`) };
    try {
      const rounds = what === "few" ? 1 : EVENTS_OF_A_CARD - 1;
      for (let round = 0; round < rounds; round++) await publishMillion(bench, { cards, round, days: DAYS[what] });
      let worker = startWorker(bench, own);
      await bench.waitUntilScored();
      const filled = { resident: worker.residentMb(), peak: worker.peakResidentMb() };
      const stopping = performance.now();
      await worker.stop();
      const stopSeconds = (performance.now() - stopping) / 1000;
      await publishMillion(bench, { cards, round: rounds, days: DAYS[what] });
      const before = await predictionsEnd(bench);
      const started = performance.now();
      worker = startWorker(bench, own);
      await untilScored(bench, before, 1);
      const firstSeconds = (performance.now() - started) / 1000;
      const restored = worker.residentMb();
      // By then every partition's history is restored and the code is warm.
      const begun = await untilScored(bench, before, 300_000);
      const measuring = performance.now();
      const cpuBefore = worker.cpuSeconds();
      await bench.waitUntilScored();
      const millions = (1_000_000 - begun) / 1e6;
      const rate = (millions * 1e6) / ((performance.now() - measuring) / 1000);
      cpu[what] = (worker.cpuSeconds() - cpuBefore) / millions;
      print(
        `  ${cards.toLocaleString("en")} cards, ${((rounds + 1) * 1e6).toLocaleString("en")} transactions: ` +
          `${cpu[what].toFixed(1)} CPU-s a million, ${Math.round(rate).toLocaleString("en")} a second; ` +
          `resident ${filled.resident} MB (peak ${filled.peak}), ${worker.residentMb()} at the end (peak ` +
          `${worker.peakResidentMb()}); stopped in ${stopSeconds.toFixed(1)} s with snapshots of ` +
          `${await megabytes(join(own.dataDir, "state"))} MB; first score ${firstSeconds.toFixed(1)} s after a ` +
          `start, with ${restored} MB`,
      );
      await worker.stop();
    } finally {
      const admin = bench.kafka.admin();
      await admin.connect();
      await admin.deleteTopics({ topics: topicNames(bench.topics) });
      await admin.disconnect();
      await bench.close();
      await rm(own.dataDir, { recursive: true, force: true });
    }
  }
  print(
    `history: by CPU, throughput with ${CARDS.toLocaleString("en")} cards is ` +
      `${((100 * cpu["few"]) / cpu["many"]).toFixed(0)}% of that with ${FEW_CARDS.toLocaleString("en")}`,
  );
}

function startWorker(
  bench: BenchCluster,
  { dataDir, artifacts }: { dataDir: string; artifacts: string },
  env: Record<string, string> = {},
): MeasuredProcess {
  return startRole(
    "pipelines/scoring/main",
    {
      KAFKA_BROKERS: bench.bootstrap,
      TOPIC_PREFIX: bench.prefix,
      TOPIC_PARTITIONS: String(PARTITIONS),
      DATA_DIR: dataDir,
      ARTIFACTS: artifacts,
      LOG_LEVEL: "info",
      ...env,
    },
    `${dataDir}-worker.log`,
  );
}

/** Where committed predictions end: the group's offsets can't be asked for while a transaction is open, so they lag. */
async function predictionsEnd(bench: BenchCluster): Promise<number> {
  let sum = 0;
  for (let partition = 0; partition < PARTITIONS; partition++) {
    const reader = new PartitionReader(bench.cluster, bench.topics.predictions.name, partition);
    sum += await reader.endOffset();
    await reader.close();
  }
  return sum;
}

/** Waits until so much has been scored beyond there. @returns how much it is */
async function untilScored(bench: BenchCluster, before: number, least: number): Promise<number> {
  for (;;) {
    const more = (await predictionsEnd(bench)) - before;
    if (more >= least) return more;
    await sleep(50);
  }
}

/**
 * A model of complete random trees: what it says means nothing, what it costs is a trained one's. No score raises an
 * alert.
 *
 * @param splitOn how many of its features the trees look at, the first ones
 */
async function modelOf(
  model: string,
  features: FeatureSpec[],
  artifacts: string,
  splitOn = features.length,
): Promise<Artifact> {
  const random = new RandomSource(5);
  const trees = Array.from({ length: TREES }, () => randomTree(random, features.slice(0, splitOn)));
  const onnx = writeOnnx(
    {
      algorithm: "gradient-boosted-trees",
      features: features.length,
      trees: { baseScore: -3, trees, features: features.length },
    } as Parameters<typeof writeOnnx>[0],
    features.map(({ name }) => name),
  );
  return saveArtifact(
    artifacts,
    {
      format: 1,
      model,
      algorithm: "gradient-boosted-trees",
      input: INPUT,
      output: OUTPUT,
      features,
      feature_hash: featureHash(features),
      sha256: sha256(onnx),
      thresholds: { review: 0.999, decline: 0.9999 },
      training: { source: "random trees", rows: 0, frauds: 0, from: 0, to: 0, params: {}, seconds: 0 },
      validation: null,
      test: null,
      created_at: "2026-01-01T00:00:00.000Z",
    },
    onnx,
  );
}

function randomTree(random: RandomSource, features: FeatureSpec[]): Tree {
  const inner = 2 ** DEPTH - 1;
  const nodes = 2 ** (DEPTH + 1) - 1;
  const branch = (i: number, child: number): number => (i < inner ? child : -1);
  const feature = Int32Array.from({ length: nodes }, (_, i) => (i < inner ? random.int(features.length) : 0));
  const scale = (i: number): number => (features[feature[i]].source.kind === "attribute" ? 2 : 30);
  return {
    feature,
    threshold: Float32Array.from({ length: nodes }, (_, i) =>
      i < inner ? (random.next() - (scale(i) === 2 ? 0.5 : 0)) * scale(i) : 0,
    ),
    left: Int32Array.from({ length: nodes }, (_, i) => branch(i, 2 * i + 1)),
    right: Int32Array.from({ length: nodes }, (_, i) => branch(i, 2 * i + 2)),
    missingLeft: new Uint8Array(nodes),
    value: Float32Array.from({ length: nodes }, (_, i) => (i < inner ? 0 : (random.next() - 0.5) / 20)),
    cover: new Uint32Array(nodes).fill(1),
  };
}

async function megabytes(dir: string): Promise<number> {
  const sizes = await Promise.all((await readdir(dir)).map(async (name) => (await stat(join(dir, name))).size));
  return Math.round(sizes.reduce((sum, size) => sum + size, 0) / 2 ** 20);
}
