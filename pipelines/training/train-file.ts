import { resolve } from "node:path";
import { Command, InvalidArgumentError, Option } from "commander";
import { configOrExit } from "../../infra/lifecycle/config-or-exit.js";
import { runCommand } from "../../infra/lifecycle/lifecycle.js";
import { createLogger } from "../../infra/logging.js";
import { checkReachable } from "../../infra/reachable.js";
import type { Artifact } from "../../models/artifacts.js";
import { lookAt, lookLines } from "../../models/datasets/look.js";
import { DEFAULT_CURRENCY, readCsv } from "../../models/datasets/read-csv.js";
import { toReadingOptions } from "../../models/datasets/reading-request.js";
import { parseDateTime } from "../../models/datasets/times/date-text.js";
import { parseNumber } from "../../models/datasets/values.js";
import { DEFAULT_DECLINE_PRECISION, DEFAULT_REVIEW_CAPACITY } from "../../models/evaluation/thresholds.js";
import { operandAttributes } from "../../models/features/features-file.js";
import type { Algorithm } from "../../models/training/train.js";
import { UsageError } from "../../schemas/errors.js";
import { readFeatures } from "../runtime/features-flag.js";
import { addReadingFlags, names, readingRequestOf, type ReadingFlags } from "../runtime/reading-flags.js";
import { registerArtifact } from "./register-artifact.js";
import { trainFile } from "./train-command.js";

type Param = number | string | boolean;

interface Flags extends ReadingFlags {
  look: boolean;
  register?: boolean;
  name?: string;
  algorithm: Algorithm;
  param?: Record<string, Param>;
  features?: string[];
  train?: EventTimes;
  test?: EventTimes;
  currency: string;
  reviewCapacity: number;
  declinePrecision: number;
  out?: string;
}

const command = addReadingFlags(new Command("npm run train --"))
  .description("Trains a model on labelled transactions, and stores it as an artifact.")
  .argument("<file>", "a CSV file with a header (plain, gzipped, zipped or by zstd), or a Parquet file")
  .option("--look", "only show how the file is read: nothing is trained", false)
  .option("--register", "make the model known to the system, so that it can be deployed")
  .option("--name <name>", "of the model (default: made from the file's name)")
  .addOption(
    new Option("--algorithm <algorithm>", "what to train")
      .choices(["gradient-boosted-trees", "logistic-regression"])
      .default("gradient-boosted-trees"),
  )
  .option(
    "--param <name=value>",
    "of the training, by LightGBM's names: num_iterations, learning_rate, num_leaves, ... (repeatable)",
    collectParam,
  )
  .option(
    "--features <name,...>",
    "which to use, windowed ones such as card_mean_7d, merchant_fraud_share_30d included, or a FILE.json that also " +
      "says what others are made of (default: what the file offers)",
    names,
  )
  .option("--train <from/to>", "event times of the rows to train on; earlier ones are only their history", eventRange)
  .option("--test <from/to>", "event times of the rows to test on (default: the latest 30 %)", eventRange)
  .option("--currency <code>", "of transactions that don't name theirs (ISO 4217)", DEFAULT_CURRENCY)
  .option(
    "--review-capacity <share>",
    "share of the transactions that people can review, beside what is declined",
    share,
    DEFAULT_REVIEW_CAPACITY,
  )
  .option(
    "--decline-precision <share>",
    "least share of frauds among the transactions to decline",
    share,
    DEFAULT_DECLINE_PRECISION,
  )
  .option("--out <folder>", "where to store the artifact (default: ARTIFACTS)")
  .showHelpAfterError("(--help shows what there is)");
command.parse();

const config = configOrExit();
const log = createLogger({ logLevel: "error" }, "train");
await runCommand(log, async (lifecycle) => {
  const flags = command.opts<Flags>();
  if (flags.register === true && flags.out !== undefined)
    throw new UsageError(
      "bad_option",
      "--register needs the artifact where the roles look for it (ARTIFACTS): leave out --out",
    );
  const progress = showProgress(process.stderr);
  const features = flags.features === undefined ? undefined : await readFeatures(flags.features);
  const operands = operandAttributes(features ?? []);
  const reading = { operands, ...toReadingOptions(readingRequestOf(flags)), currency: flags.currency };
  try {
    if (flags.look) {
      const onProgress = (percent: number): void => progress.show("reading", percent);
      const dataset = await readCsv(command.args[0], { ...reading, onProgress, signal: lifecycle.signal });
      progress.clear();
      for (const line of lookLines(lookAt(dataset))) process.stdout.write(`${line}\n`);
      return;
    }
    await trainFile(
      command.args[0],
      {
        algorithm: flags.algorithm,
        params: flags.param ?? {},
        reading,
        hidesCards: config.cardIdKey !== null,
        reviewCapacity: flags.reviewCapacity,
        declinePrecision: flags.declinePrecision,
        artifactsDir: flags.out === undefined ? config.artifacts : resolve(flags.out),
        ...(flags.name === undefined ? {} : { name: flags.name }),
        ...(features === undefined ? {} : { features }),
        ...(flags.train === undefined ? {} : { train: flags.train }),
        ...(flags.test === undefined ? {} : { test: flags.test }),
      },
      {
        print: (line) => {
          progress.clear();
          process.stdout.write(`${line}\n`);
        },
        onProgress: progress.show,
        register: flags.register === true ? await registrar() : null,
        signal: lifecycle.signal,
      },
    );
  } finally {
    progress.clear();
  }
});

/** @throws UsageError when no cluster is named or reached, before anything is trained */
async function registrar(): Promise<(artifact: Artifact) => Promise<string>> {
  const { kafka } = config;
  if (kafka === null)
    throw new UsageError(
      "no_kafka",
      "--register needs KAFKA_BROKERS; while npm start runs, DATA_DIR/stack.json says which they are",
    );
  await checkReachable({ kafka, clickhouse: null });
  return (artifact) => registerArtifact(config, kafka, log, artifact);
}

function collectParam(text: string, previous: Record<string, Param> = {}): Record<string, Param> {
  const equals = text.indexOf("=");
  if (equals < 1) throw new InvalidArgumentError("It must be name=value.");
  const value = text.slice(equals + 1).trim();
  const number = parseNumber(value);
  return {
    ...previous,
    [text.slice(0, equals).trim()]:
      value === "true" || value === "false" ? value === "true" : Number.isNaN(number) ? value : number,
  };
}

interface EventTimes {
  from: number;
  to: number;
}

function eventRange(text: string): EventTimes {
  const [from, to] = text.split("/").map(parseDateTime);
  if (text.split("/").length !== 2 || !(from < to))
    throw new InvalidArgumentError("It must be two times, such as 2018-07-25/2018-08-01; the second is not included.");
  return { from, to };
}

function share(text: string): number {
  const number = parseNumber(text);
  if (!(number > 0 && number <= 1))
    throw new InvalidArgumentError("It must be a share over 0 and up to 1, such as 0.005.");
  return number;
}

/** Says on a terminal, in one line, or in a file, in a few, what takes longer than two seconds. */
function showProgress(stream: NodeJS.WriteStream): {
  show: (phase: string, percent: number) => void;
  clear: () => void;
} {
  const started = Date.now();
  let phase = "";
  let at = 0;
  let shown = false;
  return {
    show(current, percent) {
      const now = Date.now();
      const due = current !== phase || now - at >= (stream.isTTY ? 200 : 5000);
      if (now - started < 2000 || !due) return;
      const text = `${current} ${Math.floor(percent)} %`;
      stream.write(stream.isTTY ? `\r\x1b[K${text}` : `${text}\n`);
      [phase, at, shown] = [current, now, true];
    },
    clear() {
      if (shown && stream.isTTY) stream.write("\r\x1b[K");
      shown = false;
    },
  };
}
