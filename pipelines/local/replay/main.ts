import { Command } from "commander";
import { readConfig } from "../../../infra/config/config.js";
import { BatchProducer } from "../../../infra/kafka/batch-producer.js";
import { createKafka, ensureTopics } from "../../../infra/kafka/client.js";
import { KafkaCluster } from "../../../infra/kafka/cluster.js";
import { Schemas } from "../../../infra/kafka/schemas.js";
import { checkReachable } from "../../../infra/reachable.js";
import { unknownSettings } from "../../../infra/config/unknown-settings.js";
import { runCommand } from "../../../infra/lifecycle/lifecycle.js";
import { createLogger } from "../../../infra/logging.js";
import { readCsv } from "../../../models/datasets/read-csv.js";
import { toReadingOptions } from "../../../models/datasets/reading-request.js";
import { operandAttributes } from "../../../models/features/features-file.js";
import { UsageError } from "../../../schemas/errors.js";
import { allTopics, subjectTopics, topicsFor } from "../../../schemas/topics.js";
import { readFeatures } from "../../runtime/features-flag.js";
import { addReadingFlags, names, readingRequestOf, type ReadingFlags } from "../../runtime/reading-flags.js";
import { parseDuration, parseRate } from "./arguments.js";
import { newestEventTimes, warningsOf } from "./before-replay.js";
import { LabelSchedule } from "./label-schedule.js";
import { Pace } from "./pace.js";
import { replayTransactions } from "./replay-transactions.js";
import { withTimeLimit } from "../../../infra/async/abort-signals.js";

interface Flags extends ReadingFlags {
  features?: string[];
  rate?: number;
  for?: number;
}

const command = addReadingFlags(new Command("npm run replay --"))
  .description(
    "Publishes the transactions of a file, in order of time, and each one's label a week of event time " +
      "later, into the Kafka cluster that KAFKA_BROKERS names.",
  )
  .argument("<file>", "a CSV file with a header (plain, gzipped, zipped or by zstd), or a Parquet file")
  .option("--rate <n>", "transactions a second (default: as fast as possible)", parseRate)
  .option(
    "--features <FILE.json>",
    "features that the model was trained with: columns that they are made of are published, whatever they hold",
    names,
  )
  .option("--for <duration>", "end after that time, such as 60s, 5m or 1h", parseDuration)
  .showHelpAfterError("(--help shows what there is)")
  .parse();

const PROGRESS_EVERY_MS = { terminal: 500, file: 5_000 };

const log = createLogger({ logLevel: "error" }, "replay");
await runCommand(log, async (lifecycle) => {
  const { signal } = lifecycle;
  const flags = command.opts<Flags>();
  const [file] = command.args;
  const config = readConfig();
  for (const line of unknownSettings()) process.stderr.write(`${line}\n`);
  if (config.kafka === null)
    throw new UsageError(
      "no_kafka",
      "KAFKA_BROKERS is not set: name the cluster to publish to; while npm start runs, DATA_DIR/stack.json " +
        "tells its address",
    );
  await checkReachable({ kafka: config.kafka, clickhouse: null });
  const operands = operandAttributes(flags.features === undefined ? [] : await readFeatures(flags.features));
  const dataset = await readCsv(file, { ...toReadingOptions(readingRequestOf(flags)), operands, signal });
  for (const note of dataset.notes) process.stderr.write(`${note}\n`);

  const topics = topicsFor(config.topicPrefix, config.topicPartitions);
  await ensureTopics(createKafka(config.kafka, "fraudstream-replay", log), allTopics(topics), {
    replication: config.kafka.replication,
    log,
  });
  const schemas = new Schemas(config);
  await schemas.register(subjectTopics(topics));
  const cluster = new KafkaCluster(config.kafka, "fraudstream-replay");
  lifecycle.add("Kafka connections", () => cluster.close());
  const newest = await newestEventTimes(cluster, topics.transactions, schemas);
  for (const line of warningsOf(dataset, newest, Date.now())) process.stderr.write(`${line}\n`);
  const producer = await BatchProducer.open(cluster);
  lifecycle.add("producer", () => producer.close());

  const acknowledged = { transactions: 0, labels: 0 };
  const started = performance.now();
  const { isTTY } = process.stderr;
  const show = (): void => {
    const seconds = (performance.now() - started) / 1000;
    const text =
      `${acknowledged.transactions} of ${dataset.length} transactions, ${acknowledged.labels} labels, ` +
      `${seconds.toFixed(0)} s, ${Math.round(acknowledged.transactions / seconds)} a second`;
    process.stderr.write(isTTY ? `\r\x1b[K${text}` : `${text}\n`);
  };
  const timer = setInterval(show, isTTY ? PROGRESS_EVERY_MS.terminal : PROGRESS_EVERY_MS.file);
  try {
    const run = replayTransactions({
      rows: [{ dataset, start: 0, end: dataset.length }],
      schedule: new LabelSchedule(),
      publisher: producer,
      topics: { transactions: topics.transactions.name, labels: topics.labels.name },
      encode: {
        transaction: (value) => schemas.encode("transactions", value),
        label: (value) => schemas.encode("labels", value),
      },
      pace: new Pace(flags.rate ?? null),
      signal: withTimeLimit(signal, flags.for ?? null),
      onAcknowledged: (what, count) => (acknowledged[what] += count),
    });
    // Ctrl-C ends the transactions; their labels still follow, before the connections close.
    lifecycle.add("replay", () =>
      run.then(
        () => undefined,
        () => undefined,
      ),
    );
    await run;
  } finally {
    clearInterval(timer);
    show();
    if (isTTY) process.stderr.write("\n");
  }
});
