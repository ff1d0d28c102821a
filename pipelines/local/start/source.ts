import { createHash } from "node:crypto";
import { createReadStream, existsSync } from "node:fs";
import { rename } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import { pipeline } from "node:stream/promises";
import type { Config } from "../../../infra/config/config.js";
import { modelNameOf } from "../../../models/artifacts.js";
import { readCsv } from "../../../models/datasets/read-csv.js";
import { operandAttributes, type FeatureEntry } from "../../../models/features/features-file.js";
import { toReadingOptions, type ReadingRequest } from "../../../models/datasets/reading-request.js";
import { splitByTime, type RowRange } from "../../../models/datasets/split.js";
import { readFeatures } from "../../runtime/features-flag.js";
import type { TrainingRequest } from "../../../models/control/training-request.js";
import { LABEL_DELAY_MS, simulate } from "../simulator/simulate.js";
import { RequestError, UsageError, messageOf } from "../../../schemas/errors.js";
import { LabelSchedule, type Rows } from "../replay/label-schedule.js";
import { ONCE_ROWS, type StartOptions } from "./options.js";
import { count } from "./panel.js";
import { continueOrBegin, presentRows, simulatedRows, trainingRange, unlabelledRows } from "./simulated-rows.js";
import { readStartState, writeStartState, type StartState } from "./start-state.js";
import { writeCsv } from "./write-csv.js";

/** Where the transactions of a run come from. */
export interface Source {
  /** In a few words. */
  title: string;
  /** Of the model that is trained on it. */
  modelName: string;
  /** Whether it gets a model of its own, whatever is deployed. */
  alwaysTrain: boolean;
  /** What that model is trained on, as a file is trained on over HTTP; one of the source's own is written here. */
  trainingFile(): Promise<TrainingFile>;
  /** Labels that an earlier run left. */
  schedule: LabelSchedule;
  /**
   * What comes before `rows`, for cards and merchants to have a history: scored, not counted. To be called once, first;
   * notes durably what is about to be published.
   */
  history(signal: AbortSignal): AsyncIterable<Rows>;
  /** To be called once, after the history; notes durably what is about to be published. */
  rows(signal: AbortSignal): AsyncIterable<Rows>;
  /** To be called when all transactions before an event time, and their labels, have been published. */
  finish(until: number | null): Promise<void>;
}

/** A CSV file, and what a training request has to say of it. */
interface TrainingFile {
  file: string;
  request: Pick<
    TrainingRequest,
    keyof ReadingRequest | "before" | "features" | "review_capacity" | "decline_precision"
  >;
}

/** Simulated payments whose labels are still to come, an hour of them: each takes memory until then. */
const LABELS_KEPT = 1_000_000;
/** Part of a file, by time, that the model is trained on. */
const TRAINING_SHARE = 0.7;

/**
 * Prepares what `npm start` was asked to stream; a file is read here, so that what is wrong with it is said first.
 *
 * @throws UsageError `dataset_replayed`, `another_simulation`, `another_world`, `another_key`, those of `readCsv` and
 *   `readStartState`
 */
export async function prepareSource(
  options: StartOptions,
  { dataDir, cardIdKey }: Pick<Config, "dataDir" | "cardIdKey">,
  progress: (line: string) => void,
  signal: AbortSignal,
): Promise<Source> {
  const state = withKey(await readStartState(dataDir), dataDir, cardIdKey);
  const features = options.features === null ? null : await readFeatures(options.features);
  return options.dataset === null
    ? simulatedSource(options, features, state, dataDir)
    : datasetSource(options.dataset, { options, features, state, dataDir }, progress, signal);
}

/** What was stored under one key, or none, isn't found under another. */
function withKey(state: StartState, dataDir: string, key: string | null): StartState {
  const cardIds =
    key === null
      ? "plain"
      : `sha256:${createHash("sha256").update("fraudstream card ids\n").update(key).digest("hex").slice(0, 16)}`;
  const known = state.card_ids ?? cardIds;
  if (known !== cardIds) {
    const was = known === "plain" ? "without CARD_ID_KEY" : "with another CARD_ID_KEY";
    throw new UsageError(
      "another_key",
      `${dataDir} was begun ${was}: what is stored of its cards would not be found again. ` +
        `${known === "plain" ? "Leave CARD_ID_KEY unset" : "Set the same key"}, or use another DATA_DIR`,
    );
  }
  return { ...state, card_ids: cardIds };
}

function simulatedSource(
  options: StartOptions,
  features: FeatureEntry[] | null,
  state: StartState,
  dataDir: string,
): Source {
  const [replayed] = Object.values(state.datasets);
  if ((replayed as typeof replayed | undefined) !== undefined) {
    throw new UsageError(
      "another_world",
      `${dataDir} has the payments of ${replayed.file}, and a model of them: simulated ones would be scored ` +
        "by it. Use another DATA_DIR: DATA_DIR=.data-2 npm start",
    );
  }
  let town = continueOrBegin(state.simulated, options, Date.now());
  const schedule = new LabelSchedule(LABEL_DELAY_MS, LABELS_KEPT);
  const note = async (until: number, labelledUntil: number): Promise<void> => {
    town = { ...town, until, labelled_until: labelledUntil };
    await writeStartState(dataDir, { ...state, simulated: town });
  };
  // A run that is killed leaves a gap in the payments, but never publishes one twice; its labels follow in the next.
  const reserve = (until: number): Promise<void> => note(until, schedule.next ?? town.until);
  return {
    title: `simulated payments of ${count(town.customers)} cards (seed ${town.seed})`,
    modelName: "simulated",
    alwaysTrain: false,
    async trainingFile() {
      const file = join(dataDir, "training", "simulated.csv");
      // As it was made when the first model was trained.
      if (!existsSync(file)) {
        await writeCsv(`${file}.new`, simulate(trainingRange(town)));
        await rename(`${file}.new`, file);
      }
      return { file, request: { ...options.thresholds, ...(features && { features }) } };
    },
    schedule,
    history(ended) {
      for (const rows of unlabelledRows(town)) schedule.add(rows);
      return simulatedRows({ state: town, limit: null, wait: false, reserve, signal: ended });
    },
    rows(ended) {
      return presentRows({
        state: town,
        limit: options.once && options.forMs === null ? ONCE_ROWS : null,
        reserve,
        signal: ended,
      });
    },
    finish: (until) => note(until ?? town.until, until ?? town.until),
  };
}

async function datasetSource(
  path: string,
  {
    options,
    features,
    state,
    dataDir,
  }: { options: StartOptions; features: FeatureEntry[] | null; state: StartState; dataDir: string },
  progress: (line: string) => void,
  signal: AbortSignal,
): Promise<Source> {
  const file = resolve(path);
  const sha256 = await fileSha256(path, signal);
  const before = state.datasets[sha256] as StartState["datasets"][string] | undefined;
  if (before !== undefined) {
    throw new UsageError(
      "dataset_replayed",
      `${path} was replayed into ${dataDir} on ${before.at.slice(0, 10)} already: its transactions would ` +
        `come twice. Use another DATA_DIR: DATA_DIR=.data-2 npm start -- --dataset ${path}`,
    );
  }
  const other = state.simulated === null ? Object.values(state.datasets).at(0)?.file : "simulated cards";
  if (other !== undefined) {
    throw new UsageError(
      "another_world",
      `${dataDir} has the payments of ${other}, which ${path} would be mixed with. Use another DATA_DIR: ` +
        `DATA_DIR=.data-2 npm start -- --dataset ${path}`,
    );
  }
  const operands = operandAttributes(features ?? []);
  const dataset = await readCsv(file, { ...toReadingOptions(options.reading), operands, signal });
  progress(`${path}: ${count(dataset.length)} transactions`);
  for (const line of dataset.notes) progress(`  ${line}`);
  const rest = restByTime(dataset.eventTime, path);
  return {
    title: `${basename(path)}, the last ${count(rest.end - rest.start)} of ${count(dataset.length)} transactions`,
    modelName: modelNameOf(path, "file"),
    alwaysTrain: true,
    trainingFile: () =>
      Promise.resolve({
        file,
        request: {
          ...options.thresholds,
          ...options.reading,
          ...(features && { features }),
          before: new Date(dataset.eventTime[rest.start]).toISOString(),
        },
      }),
    schedule: new LabelSchedule(),
    async *history() {
      await writeStartState(dataDir, {
        ...state,
        datasets: { ...state.datasets, [sha256]: { file, at: new Date().toISOString() } },
      });
      yield { dataset, start: 0, end: rest.start };
    },
    // eslint-disable-next-line @typescript-eslint/require-await -- a generator that has all at once
    async *rows() {
      yield { dataset, ...rest };
    },
    finish: () => Promise.resolve(),
  };
}

/**
 * The rows behind the training part, moved on to where a later time begins: no row that is trained on is as late as one
 * of these. Where none is later, moved back.
 */
function restByTime(times: Float64Array, path: string): RowRange {
  const { after } = splitByTime(times, TRAINING_SHARE);
  let start = after.start;
  while (start < after.end && times[start] === times[start - 1]) start++;
  if (start === after.end) for (start = after.start; start > 0 && times[start] === times[start - 1]; start--);
  if (start === 0)
    throw new RequestError(
      "dataset_one_moment",
      `${path}: all transactions have the same time; there is no part to train on that is earlier than the rest`,
    );
  return { start, end: after.end };
}

async function fileSha256(file: string, signal: AbortSignal): Promise<string> {
  const hash = createHash("sha256");
  try {
    await pipeline(createReadStream(file), hash, { signal });
  } catch (cause) {
    throw new RequestError("file_unreadable", `${file} can't be read: ${messageOf(cause)}`, { cause });
  }
  return hash.digest("hex");
}
