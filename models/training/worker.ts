import { parentPort, workerData } from "node:worker_threads";
import { FraudstreamError } from "../../schemas/errors.js";
import { boost, type Report } from "./boost.js";
import { fitLogistic } from "./logistic.js";
import { resolveLogisticParams, resolveTreeParams } from "./params.js";
import type { FromWorker, TrainedModel, TrainRequest } from "./train.js";

/** The training thread: trains what `workerData` says, sends progress, then the model or why there is none. */
function send(message: FromWorker): void {
  parentPort?.postMessage(message);
}

function train(request: TrainRequest): TrainedModel {
  const started = performance.now();
  const cpu = process.cpuUsage();
  const spent = (): { seconds: number; cpuSeconds: number } => {
    const { user, system } = process.cpuUsage(cpu);
    return { seconds: (performance.now() - started) / 1000, cpuSeconds: (user + system) / 1e6 };
  };
  let sent = -1;
  const report: Report = (phase, percent) => {
    if (percent < 100 && percent < sent + 0.5) return;
    sent = percent;
    send({ kind: "progress", phase, percent });
  };
  const { algorithm, validation } = request;
  const part = { matrix: request.train, labels: request.labels };
  const { features } = request.train;
  if (algorithm === "logistic-regression") {
    const params = resolveLogisticParams(request.params);
    const { model, iterations } = fitLogistic(part, params, report);
    return { algorithm, params, features, linear: model, iterations, ...spent() };
  }
  const params = resolveTreeParams(request.params);
  const trees = boost(part, validation, params, report);
  return { algorithm, params, features, trees, iterations: trees.trees.length, ...spent() };
}

try {
  send({ kind: "trained", model: train(workerData as TrainRequest) });
} catch (error) {
  if (!(error instanceof FraudstreamError)) throw error;
  send({ kind: "failed", code: error.code, message: error.message });
}
