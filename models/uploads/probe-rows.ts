import { LARGEST_FLOAT32 } from "../features/attribute-slots.js";
import { FraudstreamError } from "../../schemas/errors.js";
import { mayBeMissing, type FeatureSpec } from "../features/plan.js";

/**
 * The largest value, positive or negative, that a model must have a score for. What is beyond is no amount and no
 * count: that a model gives no score there is said, but its upload isn't refused for it, and it isn't put out of force
 * for it (score-models.ts).
 */
const LARGEST_CHECKED = 1e12;
const MOST_NAMED = 5;

/** Rows that the stream may bring, whatever the sample rows of an upload are like. */
export interface Probe {
  /** For people: what kind of payment it is. */
  what: string;
  values: Float32Array;
  /** Whether a model without a score for it is refused. */
  required: boolean;
  /** What to do, when there is no score. */
  hint: string;
}

const IMPUTE =
  "let the model fill missing values in (in scikit-learn a SimpleImputer before the scaler), or give these " +
  "features a default in the manifest";
const BOUND = "let the model bound its input or its output (an ONNX Clip node), and give probabilities from 0 to 1";

/**
 * @param typical a row that the model scores, such as the first sample row
 */
export function probesOf(features: readonly FeatureSpec[], typical: Float32Array): Probe[] {
  const width = features.length;
  const whole = (value: number): Float32Array => new Float32Array(width).fill(value);
  const withOne = (at: number, value: number): Float32Array => typical.with(at, value);
  const probes: Probe[] = [];
  const optional = [...features.keys()].filter((at) => mayBeMissing(features[at].source));
  if (optional.length > 0) {
    const absent = typical.map((value, at) => (mayBeMissing(features[at].source) ? missing(features[at]) : value));
    probes.push({
      what: `a payment without ${listed(features, optional)}`,
      values: absent,
      required: true,
      hint: IMPUTE,
    });
  }
  for (const at of optional)
    probes.push({
      what: `a payment without ${listed(features, [at])}`,
      values: withOne(at, missing(features[at])),
      required: true,
      hint: IMPUTE,
    });
  for (const value of [0, -1, 1e6, LARGEST_CHECKED, -LARGEST_CHECKED])
    probes.push({ what: `a row of ${value} everywhere`, values: whole(value), required: true, hint: BOUND });
  features.forEach((feature, at) => {
    for (const value of [0, -100, 1e9, LARGEST_CHECKED, -LARGEST_CHECKED])
      probes.push({
        what: `a payment whose ${nameOf(feature)} is ${value}`,
        values: withOne(at, value),
        required: true,
        hint: BOUND,
      });
    for (const value of [LARGEST_FLOAT32, -LARGEST_FLOAT32])
      probes.push({
        what: `a payment whose ${nameOf(feature)} is ${value.toPrecision(2)}`,
        values: withOne(at, value),
        required: false,
        hint: BOUND,
      });
  });
  return probes;
}

/** The message for a model without a score for a probe. */
export function noScore({ what, hint }: Probe, score: number | string): FraudstreamError {
  const outcome =
    typeof score === "number" ? `the model gives ${score} instead of a score from 0 to 1` : "the model fails";
  const cause = typeof score === "number" ? "" : ` (${score})`;
  return new FraudstreamError("model_no_score", `${outcome} for ${what}, as the stream may bring it: ${hint}${cause}`);
}

function missing({ default: value }: FeatureSpec): number {
  return value ?? Number.NaN;
}

function nameOf({ name }: FeatureSpec): string {
  return JSON.stringify(name.slice(0, 60));
}

function listed(features: readonly FeatureSpec[], indexes: readonly number[]): string {
  const names = indexes.slice(0, MOST_NAMED).map((at) => nameOf(features[at]));
  return indexes.length > MOST_NAMED ? `${names.join(", ")} and ${indexes.length - MOST_NAMED} more` : names.join(", ");
}
