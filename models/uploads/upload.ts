import { Type, type Static } from "@sinclair/typebox";
import { FraudstreamError } from "../../schemas/errors.js";
import { sha256 } from "../artifacts.js";
import { featureHash } from "../features/plan.js";
import { UploadedFeature, columnsOf, type ModelColumn } from "./columns.js";
import { ScoreTolerance } from "./compare-scores.js";
import type { Manifest } from "../manifest.js";
import type { NormalisedOnnx } from "./normalise-onnx.js";
import { textsOf } from "./samples.js";
import { InputMapping, ScoreMap } from "./score-map.js";

/** Graphs have so many columns in their outputs. */
const MOST_COLUMNS = 1_000;

/** What the author of a model says of it; version and hashes are ours to make. */
export const UploadedManifest = Type.Object(
  {
    name: Type.String({ pattern: "^[a-z0-9][a-z0-9-]{0,62}$" }),
    algorithm: Type.Optional(Type.String({ minLength: 1, maxLength: 100 })),
    input: Type.Optional(
      Type.String({ minLength: 1, maxLength: 200, description: "The graph's input; not needed when it has one." }),
    ),
    inputs: Type.Optional(InputMapping),
    output: Type.Optional(
      Type.String({
        minLength: 1,
        maxLength: 200,
        description:
          "The output that holds the probability of fraud: a tensor of floats, [N] or with a column for each class, " +
          "or a ZipMap's. Not needed when only one can be.",
      }),
    ),
    fraud_class: Type.Optional(
      Type.Union([Type.String({ minLength: 1, maxLength: 200 }), Type.Integer()], {
        description: "The class that is fraud, as the model calls it. Not needed for 1 of 0 and 1, nor for Fraud.",
      }),
    ),
    fraud_column: Type.Optional(
      Type.Integer({
        minimum: 0,
        maximum: MOST_COLUMNS,
        description:
          "The output's column of fraud, counted from 0. Not needed for the second of two, nor with fraud_class.",
      }),
    ),
    score_map: Type.Optional(ScoreMap),
    features: Type.Array(UploadedFeature, {
      minItems: 1,
      maxItems: 2_000,
      description: "With one input, in the order of its columns.",
    }),
    thresholds: Type.Object(
      { review: Type.Number({ minimum: 0 }), decline: Type.Number({ minimum: 0 }) },
      { additionalProperties: false },
    ),
    tolerance: Type.Optional(ScoreTolerance),
    training: Type.Optional(
      Type.Object(
        {
          source: Type.Optional(Type.String({ maxLength: 500 })),
          rows: Type.Optional(Type.Integer({ minimum: 0 })),
          frauds: Type.Optional(Type.Integer({ minimum: 0 })),
          from: Type.Optional(
            Type.Number({ description: "Event time of the first training row, epoch milliseconds." }),
          ),
          to: Type.Optional(
            Type.Number({
              description:
                "Event time of the last training row, epoch milliseconds. Without it no job can tell whether " +
                "its model is better than this one.",
            }),
          ),
          params: Type.Optional(
            Type.Record(Type.String(), Type.Union([Type.Number(), Type.String(), Type.Boolean()]), {
              maxProperties: 200,
            }),
          ),
          seconds: Type.Optional(Type.Number({ minimum: 0 })),
        },
        { additionalProperties: false },
      ),
    ),
  },
  {
    additionalProperties: false,
    examples: [
      {
        name: "columns",
        features: [
          { name: "amount", type: "number" },
          { name: "channel", type: "category", categories: ["web", "pos"], default: "unknown" },
        ],
        fraud_class: "Fraud",
        thresholds: { review: 0.5, decline: 0.9 },
      },
    ],
  },
);
export type UploadedManifest = Static<typeof UploadedManifest>;

/**
 * The columns of an upload's model.
 *
 * @param samples as they came, for the texts of categories that the manifest doesn't name
 * @throws FraudstreamError `manifest_invalid` where the parts don't fit each other
 */
export function uploadedColumns(manifest: UploadedManifest, samples?: unknown): ModelColumn[] {
  const { thresholds, score_map: map } = manifest;
  const { review, decline } = thresholds;
  if (review > decline)
    throw new FraudstreamError(
      "manifest_invalid",
      `the review threshold ${review} is above the decline threshold ${decline}`,
    );
  if (map?.kind === "linear" && map.zero === map.one)
    throw new FraudstreamError("manifest_invalid", "score_map: zero and one must differ");
  return columnsOf(manifest.features, (name) => textsOf(samples, name));
}

/** The manifest of an uploaded model that was checked; the artifact gets its version when it is saved. */
export function manifestOfUpload(
  upload: UploadedManifest,
  columns: readonly ModelColumn[],
  checked: NormalisedOnnx,
  check?: NonNullable<Manifest["check"]>,
): Manifest {
  const { name, algorithm = "onnx", thresholds, training = {} } = upload;
  const features = columns.flatMap((column) => column.features);
  const { source = "uploaded", rows = 0, frauds = 0, from = 0, to = 0, params = {}, seconds = 0 } = training;
  return {
    format: 1,
    model: `${name}@1`,
    algorithm,
    input: checked.input,
    output: checked.output,
    ...(checked.batch === undefined ? {} : { batch: checked.batch }),
    features,
    feature_hash: featureHash(features),
    sha256: sha256(checked.onnx),
    thresholds,
    training: { source, rows, frauds, from, to, params, seconds },
    validation: null,
    test: null,
    ...(check === undefined ? {} : { check }),
    created_at: new Date().toISOString(),
  };
}
