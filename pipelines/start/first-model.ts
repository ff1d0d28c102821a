import type { Author } from "../../models/registry/decisions.js";
import { deploy, registerModel } from "../../models/registry/decisions.js";
import type { ControlLog } from "../../models/registry/control-log.js";
import { saveNextVersion } from "../../models/artifacts.js";
import { buildModel } from "../../models/build-model.js";
import type { Dataset } from "../../models/datasets/dataset.js";

export interface TrainAndDeployOptions {
  /** Of the model; it gets the next free version. */
  name: string;
  dataset: Dataset;
  artifactsDir: string;
  control: ControlLog;
  author: Author;
  /** Takes lines that stay, and what is being done at the moment. */
  progress: (line: string) => void;
  status: (text: string) => void;
  signal: AbortSignal;
}

/** Trains a model on a data set, all of it, stores, registers and deploys it as the champion; returns its id. */
export async function trainAndDeploy({ name, dataset, artifactsDir, control, author, progress, status, signal }: TrainAndDeployOptions): Promise<string> {
  const frauds = dataset.label.reduce((sum, label) => sum + label, 0);
  progress(`training on ${count(dataset.length)} transactions with ${count(frauds)} frauds, ${day(dataset.eventTime[0])} to ${day(dataset.eventTime[dataset.length - 1])}`);
  const onProgress = ({ phase, percent }: { phase: string; percent: number }): void => status(`  ${phase} ${percent.toFixed(0)} %`);
  // What is streamed later is the test.
  const built = await buildModel(dataset, { model: `${name}@1`, testFraction: 0 }, { onProgress, signal });
  signal.throwIfAborted();
  const { manifest, manifestSha256 } = await saveNextVersion(artifactsDir, name, built);
  await registerModel(control, author, { model: manifest.model, manifestSha256 });
  const epoch = await deploy(control, author, { champion: { model: manifest.model, ...manifest.thresholds }, shadows: [] });
  progress(
    `model ${manifest.model} is deployed (epoch ${epoch}): ${manifest.features.length} features, trained in ${manifest.training.seconds.toFixed(1)} s, ` +
      `validation ROC AUC ${manifest.validation?.roc_auc?.toFixed(3) ?? "-"}, average precision ${manifest.validation?.average_precision?.toFixed(3) ?? "-"}`,
  );
  return manifest.model;
}

function count(number: number): string {
  return number.toLocaleString("en-US");
}

function day(time: number): string {
  return new Date(time).toISOString().slice(0, 10);
}
