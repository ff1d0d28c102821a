/**
 * Faults against a running system, and what must hold afterwards: `npm run test:faults [-- kills] [-- stops]`.
 *
 *  kills   two workers and the sink; a worker is killed with -9 ten times while it scores, the sink three times
 *  stops   two workers; one is stopped with SIGSTOP until its partitions have moved, then goes on, six times
 *
 * Transactions stream in all the while. KAFKA_BROKERS and CLICKHOUSE_URL are used where they are set, else a stack of
 * its own. Prints figures and a verdict; the exit code is 1 when something was lost, doubled or out of order.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createClickHouse } from "../../infra/clickhouse/client.js";
import { readConfig } from "../../infra/config.js";
import { runCommand } from "../../infra/lifecycle/lifecycle.js";
import { startLocalStack, type LocalStack } from "../../infra/local/stack.js";
import { createLogger } from "../../infra/logging.js";
import { UsageError } from "../../schemas/errors.js";
import { logistic } from "../support/models.js";
import { RoleProcess } from "../support/workers.js";
import { TestSystem } from "../support/workers-system.js";
import { checkClickHouse } from "./clickhouse-check.js";
import { SinkHolder, killWorkers, seeded, stopWorkers } from "./faults.js";
import { checkKafka } from "./kafka-check.js";
import { TransactionStream } from "./stream.js";

const PER_SECOND = 5_000;
const LEAST_TRANSACTIONS = 60_000;
const SCENARIOS = ["kills", "stops"] as const;
type Scenario = (typeof SCENARIOS)[number];

const say = (line: string): void => void process.stdout.write(`${line}\n`);

/** One scenario from an empty system to its verdict. @returns whether everything held */
async function run(scenario: Scenario, stack: LocalStack, seed: number): Promise<boolean> {
  const started = Date.now();
  const prefix = `faults-${process.pid}-${scenario}.`;
  const database = { ...stack.clickhouse, database: `faults_${process.pid}_${scenario}` };
  const system = await TestSystem.open({ kafka: stack.kafka, prefix, partitions: 4 });
  const clickhouse = createClickHouse(database);
  const settings = { ...system.settings, CLICKHOUSE_URL: database.url, CLICKHOUSE_USER: database.username, CLICKHOUSE_PASSWORD: database.password, CLICKHOUSE_DATABASE: database.database };
  const sink = new SinkHolder(() => new RoleProcess("sink", settings));
  const seconds = (): string => `${((Date.now() - started) / 1000).toFixed(0)} s`.padStart(6);
  const progress = (line: string): void => say(`${seconds()}  ${line}`);
  let stream: TransactionStream | null = null;
  try {
    await system.register("champion@1", logistic());
    await system.register("shadow@1", logistic());
    await system.deploy("champion@1", ["shadow@1"]);
    stream = new TransactionStream(system, PER_SECOND);
    const random = seeded(seed);
    const report = scenario === "kills" ? await killWorkers(system, { kills: 10, random, sink, progress }) : await stopWorkers(system, { stops: 6, random, progress });
    await stream.reached(LEAST_TRANSACTIONS);
    await stream.stop();
    await system.consumed();
    progress(`${stream.acknowledged} transactions are published and consumed`);
    const exits = await system.stopWorkers();
    const stored = await checkClickHouse(clickhouse, stream.acknowledged);
    await sink.stop();
    const kafka = await checkKafka(system, stream.acknowledged);
    const wrong = [...kafka.wrong, ...stored.wrong, ...exits.filter(({ code }) => code !== 0).map((exit) => `a worker ended with ${JSON.stringify(exit)}`)];
    progress("counted");
    say(`  ${scenario}: ${JSON.stringify(report)}`);
    say(`  Kafka, read_committed: ${kafka.acknowledged} transactions acknowledged, ${kafka.predictions} predictions + ${kafka.deadLetters} dead letters; ${kafka.abortedPredictions} predictions were written and given up`);
    say(`  ClickHouse, FINAL: ${JSON.stringify(stored.rows)}; with repeats ${JSON.stringify(stored.rowsWithRepeats)}`);
    for (const each of wrong) say(`  WRONG: ${each}`);
    say(wrong.length === 0 ? `  ${scenario}: nothing lost, nothing doubled, in order` : `  ${scenario}: FAILED`);
    return wrong.length === 0;
  } finally {
    await stream?.stop().catch(() => {}); // told already, if it is why we are here
    await sink.kill();
    await system.close();
    await clickhouse.command(`DROP DATABASE IF EXISTS ${database.database}`);
    await clickhouse.close();
  }
}

const log = createLogger({ logLevel: "warn" }, "faults");
await runCommand(log, async (lifecycle) => {
  const asked = process.argv.slice(2);
  const unknown = asked.find((name) => !SCENARIOS.some((scenario) => scenario === name));
  if (unknown !== undefined) throw new UsageError("usage", `there is no scenario ${JSON.stringify(unknown)}; there are ${SCENARIOS.join(" and ")}`);
  const dataDir = await mkdtemp(join(tmpdir(), "fraudstream-faults-"));
  lifecycle.add("data", () => rm(dataDir, { recursive: true, force: true }));
  const stack = await startLocalStack({ config: { ...readConfig(), dataDir }, log, progress: say, signal: lifecycle.signal });
  lifecycle.add("stack", () => stack.stop());
  const seed = Date.now() % 1_000_000;
  say(`seed ${seed}, ${stack.how.kafka}, ${stack.how.clickhouse}`);
  for (const scenario of SCENARIOS) {
    if (asked.length > 0 && !asked.includes(scenario)) continue;
    if (!(await run(scenario, stack, seed))) process.exitCode = 1;
  }
});
