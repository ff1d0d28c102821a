/**
 * The published protocol of the Fraud Detection Handbook through the whole system: trains on the training week,
 * deploys, streams everything through Kafka with labels a week late, reads the test week's scores back from ClickHouse.
 *
 *   npm run bench:handbook [-- --dataset FILE.csv.gz] [--algorithm logistic-regression] [--double-amounts]
 *
 * It also says how far the test week has drifted from the training week; with doubled amounts in the test week, it has.
 */
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { modelDrift } from "../../api/queries/drift.js";
import { createClickHouse, type ClickHouse } from "../../infra/clickhouse/client.js";
import { migrate } from "../../infra/clickhouse/migrate.js";
import { BatchProducer } from "../../infra/kafka/batch-producer.js";
import { ensureTopics } from "../../infra/kafka/client.js";
import { Schemas } from "../../infra/kafka/schemas.js";
import { configOrExit } from "../../infra/lifecycle/config-or-exit.js";
import { runCommand, type Lifecycle } from "../../infra/lifecycle/lifecycle.js";
import { startLocalStack } from "../../infra/local/stack.js";
import { createLogger } from "../../infra/logging.js";
import { saveNextVersion, type Artifact } from "../../models/artifacts.js";
import { buildModel } from "../../models/build-model.js";
import type { Dataset } from "../../models/datasets/dataset.js";
import { readCsv } from "../../models/datasets/read-csv.js";
import type { Algorithm } from "../../models/training/train.js";
import { LabelSchedule } from "../../pipelines/local/replay/label-schedule.js";
import { Pace } from "../../pipelines/local/replay/pace.js";
import { replayTransactions } from "../../pipelines/local/replay/replay-transactions.js";
import { startRole } from "../../pipelines/local/start/roles.js";
import { UsageError } from "../../schemas/errors.js";
import { topicNames } from "../../schemas/topics.js";
import { BenchCluster } from "./support/cluster.js";
import { readOptions } from "../support/options.js";
import { publicFile } from "../support/public-data.js";
import {
  HANDBOOK_FEATURES,
  protocolWeeks,
  type ProtocolWeeks,
  testWeekMetrics,
  type Week,
} from "./support/handbook-protocol.js";

const ALGORITHMS: readonly Algorithm[] = ["gradient-boosted-trees", "logistic-regression"];
const CARDS_A_DAY = 100;
/** Waiting ends when nothing has been stored for so long. */
const PATIENCE_MS = 120_000;

interface Stored {
  predictions: number;
  transactions: number;
  stale: number;
  labels: number;
  deadLetters: number;
  causes: string[];
}

const STORED = `
SELECT
  (SELECT count() FROM predictions FINAL WHERE model = {model: String}) AS predictions,
  (SELECT uniqExact(source_partition, source_offset) FROM predictions WHERE model = {model: String}) AS transactions,
  (SELECT countIf(stale) FROM predictions FINAL WHERE model = {model: String}) AS stale,
  (SELECT count() FROM labels FINAL) AS labels,
  (SELECT count() FROM dead_letters FINAL) AS deadLetters,
  (SELECT groupArray(3)(concat(code, ': ', reason)) FROM (SELECT code, any(reason) AS reason FROM dead_letters GROUP BY
    code)) AS causes`;

const print = (line: string): void => void process.stdout.write(`${line}\n`);
const progress = (line: string): void => void process.stderr.write(`${line}\n`);

const config = configOrExit();
const log = createLogger({ logLevel: "warn" }, "bench");
await runCommand(log, async (lifecycle) => {
  const { file, algorithm, doubled } = parse();
  const { signal } = lifecycle;
  const dataset = await readCsv(file, { signal });
  const weeks = protocolWeeks(dataset.eventTime[0], dataset.eventTime[dataset.length - 1]);
  print(
    `${file}: ${count(dataset.length)} transactions; trained on ${days(weeks.training)}, tested on ` +
      `${days(weeks.test)}${doubled ? ", where amounts are doubled" : ""}`,
  );

  const dataDir = join(config.dataDir, "bench", "handbook");
  await rm(dataDir, { recursive: true, force: true });
  const artifact = await train(dataset, weeks, algorithm, join(dataDir, "artifacts"), signal);

  if (doubled)
    dataset.amount.forEach(
      (amount, row) => dataset.eventTime[row] >= weeks.test.from && (dataset.amount[row] = 2 * amount),
    );
  const stack = await startLocalStack({
    config: { ...config, dataDir: join(config.dataDir, "bench") },
    log,
    progress,
    signal,
  });
  lifecycle.add("local stack", () => stack.stop());
  const run = `bench_handbook_${Date.now()}`;
  const bench = new BenchCluster(stack.kafka, `${run}.`, config.topicPartitions, log);
  const database = { ...stack.clickhouse, database: run };
  const clickhouse = createClickHouse(database);
  lifecycle.add("topics and tables", () => cleanUp(bench, clickhouse));
  await ensureTopics(bench.kafka, Object.values(bench.topics));
  await migrate(database, log, { signal });
  const schemas = { schemaRegistryUrl: null, schemasDir: null };
  await bench.deploy(artifact, schemas);
  // As fast as possible, merchants may be behind for longer than the two seconds that a live stream waits for them.
  const env = {
    TOPIC_PREFIX: bench.prefix,
    TOPIC_PARTITIONS: String(config.topicPartitions),
    CLICKHOUSE_DATABASE: run,
    ARTIFACTS: join(dataDir, "artifacts"),
    MERCHANT_WAIT_MS: "30000",
    LOG_LEVEL: "info",
  };
  for (const role of ["merchants", "scoring", "sink"] as const)
    await startRole(role, { ...config, dataDir }, stack, lifecycle, env);

  const started = performance.now();
  await stream(bench, dataset, new Schemas(schemas), signal);
  await stored(clickhouse, artifact.manifest.model, dataset.length, lifecycle);
  print(
    `streamed, scored and stored in ${((performance.now() - started) / 1000).toFixed(0)} s: each transaction ` +
      "has one prediction, none stale",
  );

  const result = await testWeekMetrics(clickhouse, artifact.manifest.model, weeks, CARDS_A_DAY);
  if (result.labelled !== result.evaluated || result.roc_auc === null || result.average_precision === null)
    throw new Error(
      `of ${result.evaluated} transactions of the test week ${result.labelled} are labelled, ` +
        `${result.frauds} as frauds: no metrics`,
    );
  print(await driftLine(clickhouse, artifact, weeks.test));
  print(
    `test week, without known cards: ${count(result.evaluated)} transactions, ${count(result.frauds)} ` +
      `frauds; cards caught by day: ${result.days.map(({ caught }) => caught).join(", ")}`,
  );
  print(
    `ROC AUC ${result.roc_auc.toFixed(4)}  average precision ${result.average_precision.toFixed(4)}  card ` +
      `precision@${CARDS_A_DAY} ${result.cardPrecision.toFixed(4)}`,
  );
});

function parse(): { file: string; algorithm: Algorithm; doubled: boolean } {
  const options = readOptions(
    {
      dataset: { type: "string", default: publicFile("card-transactions.csv.gz") },
      algorithm: { type: "string", default: ALGORITHMS[0] },
      "double-amounts": { type: "boolean", default: false },
    },
    `npm run bench:handbook -- [--dataset FILE.csv.gz] [--algorithm ${ALGORITHMS.join("|")}] [--double-amounts]`,
  );
  const algorithm = ALGORITHMS.find((known) => known === options.algorithm);
  if (algorithm === undefined)
    throw new UsageError("bad_option", `--algorithm is ${options.algorithm}; it must be ${ALGORITHMS.join(" or ")}`);
  return { file: options.dataset, algorithm, doubled: options["double-amounts"] };
}

/**
 * On the whole training week, as the protocol has it: the trainer keeps a part of it for the thresholds only until it
 * has chosen them.
 */
async function train(
  dataset: Dataset,
  { training }: ProtocolWeeks,
  algorithm: Algorithm,
  artifacts: string,
  signal: AbortSignal,
): Promise<Artifact> {
  let last = "";
  const onProgress = ({ phase }: { phase: string }): void => {
    if (phase !== last) progress(`training: ${phase}`);
    last = phase;
  };
  const options = { model: "handbook@1", algorithm, features: HANDBOOK_FEATURES, train: training, testFraction: 0 };
  const artifact = await saveNextVersion(
    artifacts,
    "handbook",
    await buildModel(dataset, options, { signal, onProgress }),
  );
  const { rows, frauds, seconds, params } = artifact.manifest.training;
  print(
    `${algorithm} with its defaults: ${count(rows)} transactions, ${count(frauds)} frauds, ` +
      `${artifact.manifest.features.length} features, ${seconds.toFixed(1)} s; ${JSON.stringify(params)}`,
  );
  return artifact;
}

async function stream(
  { cluster, topics }: BenchCluster,
  dataset: Dataset,
  schemas: Schemas,
  signal: AbortSignal,
): Promise<void> {
  const producer = await BatchProducer.open(cluster);
  const published = { transactions: 0, labels: 0 };
  const timer = setInterval(
    () => progress(`published: ${count(published.transactions)} transactions, ${count(published.labels)} labels`),
    5_000,
  );
  try {
    await replayTransactions({
      rows: [{ dataset, start: 0, end: dataset.length }],
      schedule: new LabelSchedule(),
      publisher: producer,
      pace: new Pace(null),
      signal,
      topics: { transactions: topics.transactions.name, labels: topics.labels.name },
      encode: {
        transaction: (value) => schemas.encode("transactions", value),
        label: (value) => schemas.encode("labels", value),
      },
      onAcknowledged: (what, number) => (published[what] += number),
    });
  } finally {
    clearInterval(timer);
    await producer.close();
  }
}

/**
 * Waits until ClickHouse has a prediction and a label of every transaction. @throws Error naming what is missing or
 * stale
 */
async function stored(clickhouse: ClickHouse, model: string, expected: number, lifecycle: Lifecycle): Promise<void> {
  let found: Stored | null = null;
  for (let since = Date.now(); Date.now() - since < PATIENCE_MS;) {
    lifecycle.signal.throwIfAborted();
    const [now] = await clickhouse.query<Stored>(STORED, { model });
    if (found === null || now.predictions + now.labels > found.predictions + found.labels) since = Date.now();
    found = now;
    if (now.predictions + now.deadLetters >= expected && now.labels >= expected) break;
    progress(`stored: ${count(now.predictions)} predictions, ${count(now.labels)} labels`);
    await sleep(2_000);
  }
  if (found === null) return;
  const { predictions, transactions, stale, labels, deadLetters, causes } = found;
  if (predictions === expected && transactions === expected && labels === expected && stale === 0) return;
  const what =
    `of ${count(expected)} transactions, ${count(transactions)} have a prediction (${count(predictions)} rows, ` +
    `${count(stale)} stale), ${count(labels)} a label; ${count(deadLetters)} dead letters`;
  throw new Error([what, ...causes].join("\n  "));
}

/** What GET /api/v1/models/{id}/drift says of a week. */
async function driftLine(
  clickhouse: ClickHouse,
  { manifest: { model, features, drift: reference } }: Artifact,
  week: Week,
): Promise<string> {
  if (reference === undefined) throw new Error("the model has no reference for drift");
  const drift = await modelDrift(clickhouse, {
    model,
    features: features.map(({ name }) => name),
    reference,
    ...week,
    bins: false,
  });
  const furthest = [...drift.features].sort((a, b) => (b.psi ?? 0) - (a.psi ?? 0)).slice(0, 3);
  return (
    `drift in the test week: ${drift.verdict ?? "no verdict"}; score ${drift.score?.psi?.toFixed(4)}, furthest ` +
    `${furthest.map(({ name, psi, verdict }) => `${name} ${psi?.toFixed(4)} (${verdict})`).join(", ")}`
  );
}

async function cleanUp(bench: BenchCluster, clickhouse: ClickHouse): Promise<void> {
  await clickhouse.command(`DROP DATABASE IF EXISTS ${clickhouse.database}`);
  await clickhouse.close();
  const admin = bench.kafka.admin();
  await admin.connect();
  await admin.deleteTopics({ topics: topicNames(bench.topics) });
  await admin.disconnect();
  await bench.close();
}

function count(number: number): string {
  return number.toLocaleString("en-US");
}

function days({ from, to }: { from: number; to: number }): string {
  return `${new Date(from).toISOString().slice(0, 10)} to ${new Date(to - 1).toISOString().slice(0, 10)}`;
}
