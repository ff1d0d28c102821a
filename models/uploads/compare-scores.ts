import { Type, type Static } from "@sinclair/typebox";
import { FraudstreamError } from "../../schemas/errors.js";
import type { FeatureSpec } from "../features/plan.js";
import { TOLERANCE } from "../onnx/verify.js";
import { scalesOf, tiesOf, type ScoreRows, type Tie } from "./threshold-ties.js";
import type { Samples } from "./samples.js";

/** Share of the sample rows that may differ, if the manifest says so: at thresholds, not throughout. */
const MOST_DIFFERING_SHARE = 0.01;

/** What its author lets a model differ by from the expected scores. */
export const ScoreTolerance = Type.Object(
  {
    differing_rows: Type.Optional(
      Type.Integer({
        minimum: 0,
        maximum: 100,
        default: 0,
        description:
          "Sample rows that may get another score, at most 1% of them (of fewer than 200, one): a value at a " +
          "threshold of a tree falls on one side or the other by rounding.",
      }),
    ),
    difference: Type.Optional(
      Type.Number({
        minimum: TOLERANCE,
        maximum: 0.01,
        default: TOLERANCE,
        description: "Greatest difference of all other rows; more than the default suits models in float16.",
      }),
    ),
  },
  { additionalProperties: false },
);
export type ScoreTolerance = Static<typeof ScoreTolerance>;

/** How a model's scores of the sample rows are beside the expected ones. */
export interface ScoreComparison {
  /** Of the rows that are near enough. */
  greatestDifference: number;
  /** The others. */
  differing: number[];
}

export function compareScores(
  got: Float32Array,
  { scores }: Samples,
  { difference: most = TOLERANCE }: ScoreTolerance,
): ScoreComparison {
  let greatestDifference = 0;
  const differing: number[] = [];
  scores.forEach((expected, row) => {
    const difference = Math.abs(got[row] - expected);
    if (difference <= most) greatestDifference = Math.max(greatestDifference, difference);
    else differing.push(row);
  });
  return { greatestDifference, differing };
}

/** How many of the sample rows may differ: what the author declares, within its bound. */
export function mostDiffering(rows: number, { differing_rows = 0 }: ScoreTolerance): number {
  return Math.min(differing_rows, Math.max(1, Math.floor(rows * MOST_DIFFERING_SHARE)));
}

const MOST_NAMED = 3;

/** What a model's scores differ by, and why: with what to do about it. */
export async function scoresDiffer(
  score: ScoreRows,
  request: { features: readonly FeatureSpec[]; samples: Samples; tolerance: ScoreTolerance },
  got: Float32Array,
  differing: readonly number[],
  how: string,
): Promise<FraudstreamError> {
  const { features, samples, tolerance } = request;
  const named = differing
    .slice(0, MOST_NAMED)
    .map((row) => `row ${row} ${got[row]} instead of ${samples.scores[row]}`)
    .join(", ");
  const allowed = mostDiffering(samples.rows, tolerance);
  return new FraudstreamError(
    "scores_differ",
    `scored ${how}, ${differing.length} of ${samples.rows} sample rows are more than ` +
      `${tolerance.difference ?? TOLERANCE} off${allowed > 0 ? ` (${allowed} may be)` : ""}: ${named}. ` +
      (await causeOf(score, features, samples, got, differing)),
  );
}

async function causeOf(
  score: ScoreRows,
  features: readonly FeatureSpec[],
  samples: Samples,
  got: Float32Array,
  differing: readonly number[],
): Promise<string> {
  const outside = got.findIndex((value) => value < 0 || value > 1);
  if (outside >= 0)
    return (
      `The output is no probability (row ${outside} gives ${got[outside]}): take an output of probabilities, or map ` +
      "it to 0..1 with the manifest's score_map"
    );
  const ties = await tiesIn(score, features.length, samples, differing.slice(0, MOST_NAMED));
  if (ties !== null) return tieCause(ties, features, samples, differing.length);
  const others = differing.filter((row) => Math.abs(1 - got[row] - samples.scores[row]) <= TOLERANCE).length;
  if (others > 1 && others > differing.length / 2)
    return (
      "The expected scores are those of the other class: name fraud's with the manifest's fraud_class or " +
      "fraud_column"
    );
  const { count = 0, first = null } = samples.inexact ?? {};
  if (first !== null)
    return (
      `The stream has float32 features, and ${count} sample values are no float32 (row ${first.row}, ` +
      `${JSON.stringify(first.feature)} is ${first.value}, in float32 ${Math.fround(first.value)}): score the ` +
      "samples on float32 values (X.astype(numpy.float32))"
    );
  return (
    "The sample values are float32, and the rows aren't at thresholds: compare the order of the features, what is " +
    "done to them before the model, which output and class is taken, and what onnxruntime gives in Python"
  );
}

interface RowTies {
  row: number;
  ties: Tie[];
}

/** The ties of rows; null when the difference of one has another cause. */
async function tiesIn(
  score: ScoreRows,
  width: number,
  { values, scores }: Samples,
  rows: readonly number[],
): Promise<RowTies[] | null> {
  const scales = scalesOf(values, width);
  const found: RowTies[] = [];
  for (const row of rows) {
    const ties = await tiesOf(score, values.slice(row * width, (row + 1) * width), scales, scores[row]);
    if (ties === null) return null;
    found.push({ row, ties });
  }
  return found;
}

function tieCause(
  found: readonly RowTies[],
  features: readonly FeatureSpec[],
  { rows, inexact }: Samples,
  differing: number,
): string {
  const named = found
    .map(({ row, ties: [{ feature, value, from, to }] }) => {
      const name = JSON.stringify(features[feature].name.slice(0, 60));
      return `in row ${row} ${name} is ${value}, and the score changes between ${from} and ${to}`;
    })
    .join("; ");
  const ties =
    "They are ties at a threshold of the model's trees, which float32 and float64 put on different sides: " +
    `${named}. `;
  if (found.every(({ row }) => inexact?.rows.has(row) === true))
    return (
      `${ties}The values of ${found.length === 1 ? "this row" : "these rows"} are no float32, which the stream has: ` +
      "score the samples on float32 values (X.astype(numpy.float32))"
    );
  const most = mostDiffering(rows, { differing_rows: rows });
  return (
    `${ties}The sample values are float32 already; what the library computes before its trees is rounded otherwise ` +
    "in ONNX. Export it in the library's own arithmetic (skl2onnx: options={StandardScaler: {'div': 'div'}}, since " +
    "scikit-learn divides where ONNX's Scaler multiplies), or train the trees on unscaled values, which they do as " +
    "well with" +
    (differing <= most ? `, or let the manifest accept it: "tolerance": {"differing_rows": ${differing}}` : "")
  );
}
