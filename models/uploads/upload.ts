import { Type, type Static } from "@sinclair/typebox";
import { FraudstreamError } from "../../schemas/errors.js";
import { sha256 } from "../artifacts.js";
import { FeatureSpec, featureHash, type FeatureSource } from "../features/plan.js";
import type { Manifest } from "../manifest.js";
import type { NormalisedOnnx } from "./normalise-onnx.js";

/** Where a feature of this name comes from when its author doesn't say. */
const BASE_FEATURES: Readonly<Record<string, FeatureSource>> = {
  amount: { kind: "amount" },
  hour: { kind: "hour" },
  weekend: { kind: "weekend" },
  night: { kind: "night" },
};
const MOST_FEATURES = 2_000;
const LEAST_SAMPLES = 100;
const MOST_SAMPLES = 10_000;

const UploadedFeature = Type.Object(
  {
    ...FeatureSpec.properties,
    name: Type.String({ minLength: 1, maxLength: 200 }),
    source: Type.Optional(FeatureSpec.properties.source),
    default: Type.Optional(FeatureSpec.properties.default),
  },
  {
    additionalProperties: false,
    description:
      "Without a source: amount, hour, weekend and night are what they are called, any other name is the " +
      "attribute of that name. Without a default: missing (NaN).",
  },
);

/** What the author of a model says of it; version and hashes are ours to make. */
export const UploadedManifest = Type.Object(
  {
    name: Type.String({ pattern: "^[a-z0-9][a-z0-9-]{0,62}$" }),
    algorithm: Type.Optional(Type.String({ minLength: 1, maxLength: 100 })),
    input: Type.Optional(
      Type.String({ minLength: 1, maxLength: 200, description: "The graph's input; not needed when it has one." }),
    ),
    output: Type.Optional(
      Type.String({
        minLength: 1,
        maxLength: 200,
        description:
          "The output that holds the probability of fraud: a float tensor [N], [N, 1] or [N, 2], or a " +
          "ZipMap's. Not needed when only one can be.",
      }),
    ),
    features: Type.Array(UploadedFeature, {
      minItems: 1,
      maxItems: MOST_FEATURES,
      description: "In the order of the input's columns.",
    }),
    thresholds: Type.Object(
      { review: Type.Number({ minimum: 0 }), decline: Type.Number({ minimum: 0 }) },
      { additionalProperties: false },
    ),
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
  { additionalProperties: false },
);
export type UploadedManifest = Static<typeof UploadedManifest>;

/**
 * What `samplesOf` reads: written down for the documentation, checked by hand, since there may be millions of values.
 */
export const UploadedSamples = Type.Object(
  {
    columns: Type.Array(Type.String(), { description: "The features' names, in any order." }),
    rows: Type.Array(Type.Array(Type.Union([Type.Number(), Type.Boolean(), Type.Null()])), {
      minItems: LEAST_SAMPLES,
      maxItems: MOST_SAMPLES,
      description: "null: absent, the feature's default is taken.",
    }),
    scores: Type.Array(Type.Number({ minimum: 0, maximum: 1 }), {
      description: "The probability of fraud of each row, scored on float32 values.",
    }),
  },
  { additionalProperties: false },
);

/** Rows that the author has scored, as the model's input takes them. */
export interface Samples {
  rows: number;
  /** Row by row, in the order of the features. */
  values: Float32Array;
  scores: Float64Array;
}

/**
 * The features of an upload, whole.
 *
 * @throws FraudstreamError `manifest_invalid` where the parts don't fit each other
 */
export function featuresOf(manifest: UploadedManifest): FeatureSpec[] {
  const { review, decline } = manifest.thresholds;
  if (review > decline)
    throw new FraudstreamError(
      "manifest_invalid",
      `the review threshold ${review} is above the decline threshold ${decline}`,
    );
  const seen = new Set<string>();
  return manifest.features.map(({ name, type, source, default: missing }) => {
    if (seen.has(name))
      throw new FraudstreamError("manifest_invalid", `two features have the name ${JSON.stringify(name)}`);
    seen.add(name);
    const base = Object.hasOwn(BASE_FEATURES, name) ? BASE_FEATURES[name] : undefined;
    return { name, type, source: source ?? base ?? { kind: "attribute", attribute: name }, default: missing ?? null };
  });
}

/** The manifest of an uploaded model that was checked; the artifact gets its version when it is saved. */
export function manifestOfUpload(upload: UploadedManifest, checked: NormalisedOnnx): Manifest {
  const { name, algorithm = "onnx", thresholds, training = {} } = upload;
  const features = featuresOf(upload);
  const { source = "uploaded", rows = 0, frauds = 0, from = 0, to = 0, params = {}, seconds = 0 } = training;
  return {
    format: 1,
    model: `${name}@1`,
    algorithm,
    input: checked.input,
    output: checked.output,
    features,
    feature_hash: featureHash(features),
    sha256: sha256(checked.onnx),
    thresholds,
    training: { source, rows, frauds, from, to, params, seconds },
    validation: null,
    test: null,
    created_at: new Date().toISOString(),
  };
}

/**
 * The sample rows of an upload: `{"columns": [feature, …], "rows": [[value, …], …], "scores": [expected, …]}`, columns
 * in any order, null for an absent value (the feature's default is then taken).
 *
 * @throws FraudstreamError `samples_invalid`, `samples_too_few`, naming row and column
 */
export function samplesOf(json: unknown, features: readonly FeatureSpec[]): Samples {
  const { columns, rows, scores } = partsOf(json);
  const order = features.map(({ name }) => {
    const at = columns.indexOf(name);
    if (at < 0) throw invalid(`they have no column ${JSON.stringify(name)}`);
    return at;
  });
  if (columns.length !== features.length)
    throw invalid(`they have ${columns.length} columns for ${features.length} features`);
  if (scores.length !== rows.length) throw invalid(`they have ${rows.length} rows and ${scores.length} scores`);
  if (rows.length < LEAST_SAMPLES)
    throw new FraudstreamError(
      "samples_too_few",
      `there are ${rows.length} sample rows; at least ${LEAST_SAMPLES} are needed`,
    );
  if (rows.length > MOST_SAMPLES) throw invalid(`there are ${rows.length} of them; at most ${MOST_SAMPLES} are taken`);
  const width = features.length;
  const values = new Float32Array(rows.length * width);
  rows.forEach((cells, row) => {
    if (!Array.isArray(cells) || cells.length !== width) throw invalid(`row ${row} is not a list of ${width} values`);
    features.forEach((feature, i) => {
      values[row * width + i] = valueOf((cells as unknown[])[order[i]], feature, row);
    });
  });
  scores.forEach((score, row) => {
    if (typeof score !== "number" || !(score >= 0 && score <= 1))
      throw invalid(`the score of row ${row} is ${JSON.stringify(score)}; it must be a number from 0 to 1`);
  });
  return { rows: rows.length, values, scores: Float64Array.from(scores as number[]) };
}

function partsOf(json: unknown): { columns: unknown[]; rows: unknown[]; scores: unknown[] } {
  if (typeof json !== "object" || json === null || Array.isArray(json))
    throw invalid("they must be an object with columns, rows and scores");
  const { columns, rows, scores, ...others } = json as Record<string, unknown>;
  const [other] = Object.keys(others);
  if (other !== undefined)
    throw invalid(`${JSON.stringify(other.slice(0, 100))} is not one of columns, rows and scores`);
  if (!Array.isArray(columns) || !Array.isArray(rows) || !Array.isArray(scores))
    throw invalid("columns, rows and scores must be lists");
  return { columns, rows, scores };
}

/** As the stream makes a feature of an attribute: float32, booleans as 0 and 1, the default where it is absent. */
function valueOf(cell: unknown, { name, default: missing }: FeatureSpec, row: number): number {
  if (cell === null) return missing ?? NaN;
  if (typeof cell === "boolean") return cell ? 1 : 0;
  if (typeof cell !== "number" || !Number.isFinite(cell))
    throw invalid(`row ${row}, column ${JSON.stringify(name)}: a number, true, false or null is needed`);
  return cell;
}

function invalid(reason: string): FraudstreamError {
  return new FraudstreamError("samples_invalid", `the sample rows: ${reason}`);
}
