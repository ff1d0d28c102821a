import type { ClickHouseConfig, TrainingConfig } from "../../infra/config/config.js";
import type { Manifest } from "../../models/manifest.js";
import type { JobMetrics, TrainingRequest } from "../../models/control/training-request.js";
import type { ErrorCode } from "../../schemas/error-codes.js";

/** What a job's process receives at its start. */
export interface JobSpec {
  request: TrainingRequest;
  /** Its own, for the download. */
  folder: string;
  artifactsDir: string;
  /** Null: stored transactions can't be had. */
  clickhouse: ClickHouseConfig | null;
  limits: TrainingConfig;
  /** How old an unlabelled transaction must be to count as genuine, milliseconds. */
  maturityMs: number;
  /** Whether card ids are pseudonyms where transactions are scored. */
  hidesCards: boolean;
}

/** What is deployed: what a new model is compared with. */
export interface Incumbent {
  /** Epoch of the deployment; -1: nothing was ever deployed. */
  epoch: number;
  champion: { model: string; manifestSha256: string; /** From which score on it alerts. */ review: number } | null;
}

export interface JobProgress {
  phase: string;
  /** Of the whole job. */ percent: number;
  rows: number;
}

export interface JobResult {
  /** Of the model; its version is given when it is stored. */
  name: string;
  manifest: Manifest;
  onnx: Uint8Array;
  metrics: Omit<JobMetrics, "manifest_sha256">;
}

export type ToJob = { kind: "start"; spec: JobSpec } | { kind: "incumbent"; incumbent: Incumbent };

export type FromJob =
  | ({ kind: "progress" } & JobProgress)
  /** Asks what is deployed by now. */
  | { kind: "incumbent?" }
  | { kind: "built"; result: JobResult }
  | { kind: "failed"; code: ErrorCode; message: string };
