/**
 * The features of the stream against those of training, over a whole file: `npm run test:parity [-- --rows N] [--
 * --dataset FILE.csv.gz]`.
 * The file is replayed with its labels through Kafka, two scoring workers, two merchants' processes and the sink, while
 * workers are killed with -9 within transactions, stopped until they are fenced, and partitions move. Then every stored
 * prediction's features are compared with the trainer's, bit for bit, and its card windows with SQL's window functions.
 * Exit code 1 on any difference.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { migrate } from "../../infra/clickhouse/migrate.js";
import { readConfig } from "../../infra/config/config.js";
import { runCommand } from "../../infra/lifecycle/lifecycle.js";
import { startLocalStack } from "../../infra/local/stack.js";
import { createLogger } from "../../infra/logging.js";
import { readCsv } from "../../models/datasets/read-csv.js";
import { UsageError } from "../../schemas/errors.js";
import { holds } from "../support/feature-parity.js";
import { publicFile } from "../support/public-data.js";
import { readOptions } from "../support/options.js";
import { RandomSource } from "../support/random-source.js";
import { PARITY_FEATURES, parityRun } from "./run.js";

const say = (line: string): void => void process.stdout.write(`${line}\n`);

const log = createLogger({ logLevel: "warn" }, "parity");
await runCommand(log, async (lifecycle) => {
  const values = readOptions(
    {
      dataset: { type: "string", default: publicFile("card-transactions.csv.gz") },
      rows: { type: "string" },
      seed: { type: "string" },
    },
    "npm run test:parity -- [--dataset FILE] [--rows N] [--seed N]",
  );
  const seed = Number(values.seed ?? Date.now() % 1_000_000);
  const all = await readCsv(values.dataset, { signal: lifecycle.signal });
  const dataset = { ...all, length: Math.min(all.length, Number(values.rows ?? all.length)) };
  if (!(dataset.length > 0) || !Number.isSafeInteger(seed))
    throw new UsageError("bad_option", "--rows and --seed are whole numbers");
  const dataDir = await mkdtemp(join(tmpdir(), "fraudstream-parity-"));
  lifecycle.add("data", () => rm(dataDir, { recursive: true, force: true }));
  const stack = await startLocalStack({
    config: { ...readConfig(), dataDir },
    log,
    progress: say,
    signal: lifecycle.signal,
  });
  lifecycle.add("stack", () => stack.stop());
  say(
    `${values.dataset}: ${count(dataset.length)} transactions, ${PARITY_FEATURES.length} features; seed ` +
      `${seed}, ${stack.how.kafka}, ${stack.how.clickhouse}`,
  );
  const started = Date.now();
  const progress = (line: string): void => say(`${((Date.now() - started) / 1000).toFixed(0).padStart(5)} s  ${line}`);
  const clickhouse = { ...stack.clickhouse, database: `parity_${process.pid}` };
  await migrate(clickhouse, log, { signal: lifecycle.signal });
  const { features, windows } = await parityRun({
    kafka: stack.kafka,
    clickhouse,
    prefix: `parity-${process.pid}.`,
    partitions: 4,
    dataset,
    kills: 6,
    stops: 3,
    share: 0.0005,
    calmMs: 15_000,
    random: new RandomSource(seed),
    progress,
  });
  const { predictions, stale, compared, different, unmatched, byFeature, examples } = features;
  say(
    `${count(predictions)} predictions, ${count(stale)} stale, ${count(unmatched)} unmatched; ` +
      `${count(compared)} features compared with the trainer's, bit for bit: ${count(different)} differ ` +
      `${JSON.stringify(byFeature)}`,
  );
  say(
    `${count(windows.compared)} card windows compared with SQL's window functions, to 1e-6: ` +
      `${count(windows.different)} differ ${windows.different === 0 ? "" : JSON.stringify(windows.byFeature)}`,
  );
  for (const example of examples) say(`  WRONG: ${example}`);
  const good = holds(features) && predictions === dataset.length && windows.different === 0 && windows.compared > 0;
  say(good ? "parity holds" : "parity FAILED");
  if (!good) process.exitCode = 1;
});

function count(number: number): string {
  return number.toLocaleString("en-US");
}
