import { Type, type Static } from "@sinclair/typebox";
import { DriftReference } from "./evaluation/drift-reference.js";
import { FeatureSpec } from "./features/plan.js";
import type { ModelIo } from "./onnx/session.js";

const Metric = Type.Union([Type.Number(), Type.Null()]);

/** How a model did on rows that it was not trained on; null: can't be computed on them. */
export const OfflineMetrics = Type.Object(
  {
    rows: Type.Integer(),
    frauds: Type.Integer(),
    roc_auc: Metric,
    average_precision: Metric,
    /** At the manifest's review threshold, as are the next three. */
    precision: Metric,
    recall: Metric,
    f1: Metric,
    accuracy: Metric,
    alert_rate: Metric,
  },
  { title: "OfflineMetrics" },
);
export type OfflineMetrics = Static<typeof OfflineMetrics>;

/** What travels with an ONNX file, as `manifest.json` beside `model.onnx`. */
export const Manifest = Type.Object(
  {
    format: Type.Literal(1),
    /** name@version */
    model: Type.String({ pattern: "^[a-z0-9][a-z0-9-]{0,62}@[1-9][0-9]{0,8}$" }),
    algorithm: Type.String({ minLength: 1 }),
    /** Names of the ONNX graph's input and of its output that holds the probability of fraud. */
    input: Type.String({ minLength: 1 }),
    output: Type.String({ minLength: 1 }),
    /** Rows of every run, where the graph takes a fixed number. */
    batch: Type.Optional(Type.Integer({ minimum: 1 })),
    features: Type.Array(FeatureSpec, { minItems: 1 }),
    feature_hash: Type.String({ pattern: "^[0-9a-f]{64}$" }),
    /** Of model.onnx. */
    sha256: Type.String({ pattern: "^[0-9a-f]{64}$" }),
    thresholds: Type.Object({ review: Type.Number(), decline: Type.Number() }),
    training: Type.Object({
      source: Type.String(),
      rows: Type.Integer(),
      frauds: Type.Integer(),
      /**
       * First and last event time of the rows that it was made with, those that chose its thresholds included; epoch
       * milliseconds, 0: not stated by the uploader.
       */
      from: Type.Number(),
      to: Type.Number(),
      params: Type.Record(Type.String(), Type.Union([Type.Number(), Type.String(), Type.Boolean()])),
      seconds: Type.Number(),
    }),
    /**
     * On the rows that chose the thresholds and the number of trees, of a model made without them; and on the test
     * part.
     */
    validation: Type.Union([OfflineMetrics, Type.Null()]),
    test: Type.Union([OfflineMetrics, Type.Null()]),
    /**
     * What the training rows were like, for drift; absent where the model was trained elsewhere, or before there was
     * one.
     */
    drift: Type.Optional(DriftReference),
    /**
     * How an uploaded model's scores of its sample rows were beside the expected ones, and what its author let them
     * differ by; absent where the model was trained here, or uploaded before this was recorded.
     */
    check: Type.Optional(
      Type.Object({
        rows: Type.Integer(),
        greatest_difference: Type.Number(),
        differing_rows: Type.Integer(),
        tolerance: Type.Object({ differing_rows: Type.Integer(), difference: Type.Number() }),
      }),
    ),
    created_at: Type.String(),
  },
  { title: "Manifest" },
);
export type Manifest = Static<typeof Manifest>;

/** How a model's graph is called. */
export function modelIo({ input, output, features, batch }: Manifest): ModelIo {
  return { input, output, features: features.length, batch };
}
