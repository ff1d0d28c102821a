import { once } from "node:events";
import { createClickHouse } from "../../infra/clickhouse/client.js";
import { migrate } from "../../infra/clickhouse/migrate.js";
import { readConfig } from "../../infra/config.js";
import { BatchProducer } from "../../infra/kafka/batch-producer.js";
import { createKafka, ensureTopics } from "../../infra/kafka/client.js";
import { KafkaCluster } from "../../infra/kafka/cluster.js";
import { Schemas } from "../../infra/kafka/schemas.js";
import { runCommand, type Lifecycle } from "../../infra/lifecycle/lifecycle.js";
import { startLocalStack, writeStackFile } from "../../infra/local/stack.js";
import { createLogger, type Logger } from "../../infra/logging.js";
import { ControlLog } from "../../models/registry/control-log.js";
import { subjectTopics, topicsFor } from "../../schemas/topics.js";
import { withTimeLimit } from "../replay/time-limit.js";
import { trainAndDeploy } from "./first-model.js";
import { readStartOptions } from "./options.js";
import { Screen } from "./panel.js";
import { startRole } from "./roles.js";
import { ScoringHeartbeats } from "./scoring-live.js";
import { prepareSource } from "./source.js";
import { stream } from "./stream.js";
import { problemsOf, summarise, summaryLines } from "./summary.js";
import { endOffsets } from "./topic-watch.js";

/**
 * `npm start`, in this order:
 *
 * 1. the source of transactions: a file is read, or the simulation is begun or continued;
 * 2. Kafka and ClickHouse, topics and tables;
 * 3. a first model, if none is deployed or the source is a file;
 * 4. the roles, each a process of its own;
 * 5. the stream, until it ends or is ended;
 * 6. the summary, once every transaction has come back and ClickHouse has caught up;
 * 7. everything is stopped, in reverse order.
 */
async function start(lifecycle: Lifecycle, log: Logger, screen: Screen): Promise<void> {
  const options = readStartOptions(process.argv);
  const config = readConfig();
  const { signal } = lifecycle;
  const say = (line: string): void => screen.line(line);

  const source = await prepareSource(options, config.dataDir, say, signal);

  const stack = await startLocalStack({ config, log, progress: say, signal });
  lifecycle.add("local stack", () => stack.stop());
  say(`${stack.how.kafka}; ${stack.how.clickhouse}`);
  const topics = topicsFor(config.topicPrefix, config.topicPartitions);
  await ensureTopics(createKafka(stack.kafka, "fraudstream-start", log), Object.values(topics));
  await migrate(stack.clickhouse, log, { signal });

  const cluster = new KafkaCluster(stack.kafka, "fraudstream-start");
  lifecycle.add("Kafka connections", () => cluster.close());
  const clickhouse = createClickHouse(stack.clickhouse);
  lifecycle.add("ClickHouse connections", () => clickhouse.close());
  const schemas = new Schemas(config);
  await schemas.register(subjectTopics(topics));

  const control = new ControlLog({ cluster, topic: topics.control.name, schemas, log });
  lifecycle.add("control log", () => control.close());
  await control.readToEnd();
  const champion = control.state.deployment?.champion ?? null;
  if (champion === null || source.alwaysTrain) {
    const producer = await BatchProducer.open(cluster);
    lifecycle.add("control producer", () => producer.close());
    await trainAndDeploy({
      name: source.modelName, dataset: source.trainingData(), artifactsDir: config.artifacts,
      control, author: { who: "system:start", producer }, progress: say, status: (text) => screen.status(text), signal,
    });
  } else {
    say(`model ${champion.model} is deployed already`);
  }

  signal.throwIfAborted();
  const heartbeats = await ScoringHeartbeats.open(cluster, topics, schemas);
  lifecycle.add("heartbeats", () => heartbeats.close());
  screen.status("  scoring and sink are starting");
  await startRole("scoring", config, stack, lifecycle);
  await startRole("sink", config, stack, lifecycle);
  await heartbeats.live(control.state.deployment?.epoch ?? 0, signal);
  writeStackFile(config.dataDir, { kafka: stack.kafka.brokers.join(","), clickhouse: stack.clickhouse.url });
  say(`everything is up; addresses in ${config.dataDir}/stack.json, logs in ${config.dataDir}/logs`);

  const run = streamAndSummarise();
  // Ctrl-C ends the transactions; the rest of the run comes before the roles are stopped.
  lifecycle.add("stream", () => run.catch(() => undefined));
  await run;
  if (!options.once && options.forMs === null && !signal.aborted) {
    say("that was all; the system stays up until Ctrl-C");
    await once(signal, "abort");
  }

  async function streamAndSummarise(): Promise<void> {
    const broken = new AbortController();
    signal.addEventListener("abort", () => {
      if (lifecycle.failure !== null) broken.abort(lifecycle.failure);
    });
    const enough = withTimeLimit(signal, options.forMs);
    const labelStarts = await endOffsets(cluster, topics.labels);
    const { outcomes, watch, seconds, labels, until } = await stream({
      source: source.title, rows: source.rows(enough), schedule: source.schedule, rate: options.rate,
      topics, schemas, cluster, clickhouse, screen, enough, broken: broken.signal,
    });
    try {
      await source.finish(until);
      const labelWindow = { topic: topics.labels.name, starts: labelStarts, ends: await endOffsets(cluster, topics.labels) };
      const summary = await summarise({ clickhouse, outcomes, predictions: watch.window, labels: labelWindow, labelsPublished: labels, seconds, broken: broken.signal });
      if (broken.signal.aborted) return;
      for (const line of ["", ...summaryLines(summary)]) say(line);
      const problems = problemsOf(summary.counts);
      if (problems.length === 0) say("Every transaction has exactly one prediction, on the topic and in ClickHouse.");
      else process.exitCode = 1;
      for (const problem of problems) say(`NOT RIGHT: ${problem}`);
    } finally {
      await watch.stop();
    }
  }
}

const log = createLogger({ logLevel: "error" }, "start");
await runCommand(log, (lifecycle) => start(lifecycle, log, new Screen(process.stdout)));
