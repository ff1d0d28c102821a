import { Type, type Static } from "@sinclair/typebox";
import { FraudstreamError } from "../../schemas/errors.js";
import { sha256 } from "../artifacts.js";
import { FeatureSpec, featureHash, type FeatureSource } from "../features/plan.js";
import { ScoreTolerance } from "./compare-scores.js";
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
  { additionalProperties: false },
);
export type UploadedManifest = Static<typeof UploadedManifest>;

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
export function manifestOfUpload(
  upload: UploadedManifest,
  checked: NormalisedOnnx,
  check?: NonNullable<Manifest["check"]>,
): Manifest {
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
    ...(check === undefined ? {} : { check }),
    created_at: new Date().toISOString(),
  };
}
