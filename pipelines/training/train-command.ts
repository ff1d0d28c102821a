import { checkModelName, saveNextVersion, tableName, type Artifact } from "../../models/artifacts.js";
import { buildModel, type BuildOptions, type BuiltModel } from "../../models/build-model.js";
import type { Dataset } from "../../models/datasets/dataset.js";
import { readCsv } from "../../models/datasets/read-csv.js";
import type { ReadingOptions } from "../../models/datasets/reading-options.js";
import { checkThresholdOptions, NEVER } from "../../models/evaluation/thresholds.js";
import type { AlertMetrics } from "../../models/evaluation/metrics.js";
import type { OfflineMetrics } from "../../models/manifest.js";
import { resolveLogisticParams, resolveTreeParams } from "../../models/training/params.js";

export interface TrainFileOptions extends Omit<BuildOptions, "model"> {
  /** @default made from the file's name */
  name?: string;
  reading?: ReadingOptions;
  artifactsDir: string;
}

export interface TrainFileDeps {
  /** Takes lines of the result. */
  print: (line: string) => void;
  /** Takes what is being done, often. */
  onProgress: (phase: string, percent: number) => void;
  /** Makes a stored model known to the system, and says so in a line; null: it is only stored. */
  register: ((artifact: Artifact) => Promise<string>) | null;
  signal: AbortSignal;
}

/**
 * From a CSV file to a stored model: reads, builds, stores, registers, and prints what came of it. Nothing is stored
 * when the signal aborts.
 *
 * @throws RequestError as `readCsv` and `buildModel`; `model_name_invalid`
 */
export async function trainFile(file: string, options: TrainFileOptions, deps: TrainFileDeps): Promise<Artifact> {
  const { print, signal } = deps;
  const name = options.name ?? nameOf(file);
  // What is wrong with the command is said before a large file is read.
  checkModelName(name);
  checkThresholdOptions(options);
  (options.algorithm === "logistic-regression" ? resolveLogisticParams : resolveTreeParams)(options.params ?? {});

  const dataset = await readCsv(file, {
    onProgress: (percent) => deps.onProgress("reading", percent),
    signal,
    ...options.reading,
  });
  for (const line of describe(file, dataset)) print(line);

  const built = await buildModel(
    dataset,
    { ...options, model: `${name}@1` },
    { signal, onProgress: ({ phase, percent }) => deps.onProgress(phase, percent) },
  );
  for (const note of built.notes) print(`  ${note}`);
  signal.throwIfAborted();
  const artifact = await saveNextVersion(options.artifactsDir, name, built);
  print("");
  for (const line of resultLines(artifact, built)) print(line);
  print(`model ${artifact.manifest.model}: ${artifact.folder}`);
  if (deps.register !== null) print(await deps.register(artifact));
  return artifact;
}

/** `Card Transactions.csv.gz` → `card-transactions` */
function nameOf(file: string): string {
  return (
    tableName(file)
      .replace(/[^a-z0-9]+/g, "-")
      .replace(/^-+|-+$/g, "")
      .slice(0, 63) || "fraud"
  );
}

function describe(file: string, dataset: Dataset): string[] {
  const frauds = dataset.label.reduce((sum, label) => sum + label, 0);
  const [first, last] = [dataset.eventTime[0], dataset.eventTime[dataset.length - 1]].map((time) =>
    new Date(time).toISOString().slice(0, 10),
  );
  return [
    `${file}: ${count(dataset.length)} transactions, ${count(frauds)} frauds, ${first} to ${last}`,
    ...dataset.notes.map((note) => `  ${note}`),
  ];
}

function resultLines({ manifest }: Artifact, { atDecline }: BuiltModel): string[] {
  const { training, validation, test, thresholds } = manifest;
  const measured = (part: string, metrics: OfflineMetrics | null): string[][] =>
    metrics === null
      ? []
      : [[part, count(metrics.rows), count(metrics.frauds), fixed(metrics.roc_auc), fixed(metrics.average_precision)]];
  const at = (threshold: string, part: string, metrics: AlertMetrics | null): string[][] =>
    metrics === null
      ? []
      : [
          [
            threshold,
            part,
            fixed(metrics.precision),
            fixed(metrics.recall),
            metrics.alert_rate === null ? "-" : `${(metrics.alert_rate * 100).toFixed(2)} %`,
          ],
        ];
  const decline = thresholds.decline === NEVER ? "decline (never)" : `decline from ${thresholds.decline.toFixed(4)}`;
  return [
    ...table([
      ["part", "rows", "frauds", "ROC AUC", "average precision"],
      ["training", count(training.rows), count(training.frauds), "", ""],
      ...measured("validation", validation),
      ...measured("test", test),
    ]),
    "",
    ...table([
      ["threshold", "part", "precision", "recall", "alerts"],
      ...at(`review from ${thresholds.review.toFixed(4)}`, "validation", validation),
      ...at("", "test", test),
      ...at(decline, "validation", atDecline.validation),
      ...at("", "test", atDecline.test),
    ]),
    "",
  ];
}

/** Columns as wide as their widest cell; numbers to the right. */
function table(rows: readonly string[][]): string[] {
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  const aligned = (text: string, column: number): string =>
    /^[\d-]/.test(rows[1][column]) || /^[\d-]/.test(rows.at(-1)?.[column] ?? "")
      ? text.padStart(widths[column])
      : text.padEnd(widths[column]);
  return rows.map((row) => row.map(aligned).join("  ").trimEnd());
}

function count(number: number): string {
  return number.toLocaleString("en-US");
}

/** "-": can't be computed. */
function fixed(metric: number | null): string {
  return metric === null ? "-" : metric.toFixed(4);
}
