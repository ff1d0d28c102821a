import { Command, InvalidArgumentError } from "commander";
import { parseDuration, parseRate } from "../replay/arguments.js";
import { DEFAULT_CUSTOMERS, DEFAULT_SEED } from "./simulated-rows.js";
import { DEFAULT_DECLINE_PRECISION, DEFAULT_REVIEW_CAPACITY } from "../../../models/evaluation/thresholds.js";
import type { TrainingRequest } from "../../../models/control/training-request.js";
import type { ReadingRequest } from "../../../models/datasets/reading-request.js";
import { addReadingFlags, names, readingRequestOf, type ReadingFlags } from "../../runtime/reading-flags.js";

/** What `npm start` was asked for. */
export interface StartOptions {
  /** A CSV file to take the transactions from; null: they are simulated. */
  dataset: string | null;
  /** How it is to be read. */
  reading: ReadingRequest;
  /** Names and files of the features to train the first model with; null: the default ones. */
  features: readonly string[] | null;
  /** Transactions a second; null: as fast as possible. */
  rate: number | null;
  /** Ends the stream after so many milliseconds. */
  forMs: number | null;
  /** Ends it after all of a file, or so many simulated transactions. */
  once: boolean;
  /** Deploys a first model even if it is too good to be true. */
  yes: boolean;
  /** Of the simulated payments, and their cards; null: not given. */
  seed: number | null;
  customers: number | null;
  /** What the first model's thresholds are chosen for, where it was given. */
  thresholds: Pick<TrainingRequest, "review_capacity" | "decline_precision">;
}

/** A stream that a person can follow. */
export const WATCHABLE_RATE = 300;
/** Transactions of `--once` from the simulator. */
export const ONCE_ROWS = 20_000;

interface Flags extends ReadingFlags {
  features?: string[];
  dataset?: string;
  rate?: number;
  for?: number;
  once: boolean;
  yes: boolean;
  seed?: number;
  customers?: number;
  reviewCapacity?: number;
  declinePrecision?: number;
}

/** Reads the command line; with --help or a mistake in it, it says so and ends the process. */
export function readStartOptions(argv: readonly string[]): StartOptions {
  const command = addReadingFlags(new Command("npm start --"))
    .description(
      "Brings up Kafka and ClickHouse, trains a first model, scores a stream of transactions and shows what happens.",
    )
    .option(
      "--dataset <file>",
      "a CSV file with a header (plain, gzipped, zipped or by zstd), or a Parquet file: train on its first 70 % by " +
        "time, replay the rest (default: simulated payments)",
    )
    .option("--features <name,...>", "of the first model: names, or a FILE.json (default: what the data offers)", names)
    .option(
      "--rate <n>",
      `transactions a second (default: as fast as possible with --dataset or --once, else ${WATCHABLE_RATE})`,
      parseRate,
    )
    .option("--for <duration>", "end after that time, such as 60s, 5m or 1h", parseDuration)
    .option(
      "--once",
      `end after the whole file, or ${ONCE_ROWS.toLocaleString("en-US")} simulated transactions; exit code 0 ` +
        "only if each has exactly one prediction",
      false,
    )
    .option("--yes", "deploy the first model even if its metrics are too good to be true", false)
    .option(
      "--seed <n>",
      `of the simulated payments (default: ${DEFAULT_SEED}; a DATA_DIR keeps to its first)`,
      parseWhole,
    )
    .option(
      "--customers <n>",
      `cards of the simulated town (default: ${DEFAULT_CUSTOMERS.toLocaleString("en-US")}; a DATA_DIR keeps ` +
        "to its first)",
      parseWhole,
    )
    .option(
      "--review-capacity <share>",
      "share of the transactions that people can review: the review threshold is chosen for it (default: " +
        `${DEFAULT_REVIEW_CAPACITY})`,
      parseShare,
    )
    .option(
      "--decline-precision <share>",
      `least share of frauds among the transactions to decline (default: ${DEFAULT_DECLINE_PRECISION})`,
      parseShare,
    )
    .showHelpAfterError("(--help shows what there is)")
    .allowExcessArguments(false)
    .parse(argv);
  const flags = command.opts<Flags>();
  const { dataset = null, once, seed = null, customers = null } = flags;
  const { reviewCapacity: review_capacity, declinePrecision: decline_precision } = flags;
  const thresholds = {
    ...(review_capacity === undefined ? {} : { review_capacity }),
    ...(decline_precision === undefined ? {} : { decline_precision }),
  };
  const rate = flags.rate ?? (once || dataset !== null ? null : WATCHABLE_RATE);
  return {
    dataset,
    reading: readingRequestOf(flags),
    features: flags.features ?? null,
    rate,
    forMs: flags.for ?? null,
    once,
    yes: flags.yes,
    seed,
    customers,
    thresholds,
  };
}

function parseShare(text: string): number {
  const number = Number(text);
  if (!(number > 0 && number <= 1))
    throw new InvalidArgumentError("It must be a share over 0 and up to 1, such as 0.005.");
  return number;
}

function parseWhole(text: string): number {
  const number = Number(text);
  if (!/^\d+$/.test(text) || number < 1 || number > 1_000_000)
    throw new InvalidArgumentError("It must be a whole number from 1 to 1,000,000.");
  return number;
}
