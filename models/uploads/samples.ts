import { Type } from "@sinclair/typebox";
import { FraudstreamError } from "../../schemas/errors.js";
import type { FeatureSpec } from "../features/plan.js";
import type { ModelColumn } from "./columns.js";

const LEAST_SAMPLES = 100;
const MOST_SAMPLES = 10_000;

/**
 * What `samplesOf` reads: written down for the documentation, checked by hand, since there may be millions of values.
 */
export const UploadedSamples = Type.Object(
  {
    columns: Type.Array(Type.String(), { description: "The features' names, in any order." }),
    rows: Type.Array(Type.Array(Type.Union([Type.Number(), Type.Boolean(), Type.String(), Type.Null()])), {
      minItems: LEAST_SAMPLES,
      maxItems: MOST_SAMPLES,
      description: "Texts for categories. null: absent, the feature's default is taken.",
    }),
    scores: Type.Array(Type.Number({ minimum: 0, maximum: 1 }), {
      description: "The probability of fraud of each row, scored on float32 values.",
    }),
  },
  { additionalProperties: false },
);

/** Sample values that the stream, which has float32, can't have. */
interface InexactValues {
  count: number;
  rows: Set<number>;
  first: { row: number; feature: string; value: number } | null;
}

/** Rows that the author has scored, as the model's input takes them. */
export interface Samples {
  rows: number;
  /** Row by row, in the order of the features. */
  values: Float32Array;
  scores: Float64Array;
  /** Values that are no float32. */
  inexact?: InexactValues;
}

/**
 * The sample rows of an upload: `{"columns": [feature, …], "rows": [[value, …], …], "scores": [expected, …]}`, columns
 * in any order, null for an absent value (the feature's default is then taken).
 *
 * @throws FraudstreamError `samples_invalid`, `samples_too_few`, naming row and column
 */
export function samplesOf(json: unknown, model: readonly ModelColumn[]): Samples {
  const { columns, rows, scores } = partsOf(json);
  const order = model.map(({ name }) => {
    const at = columns.indexOf(name);
    if (at < 0) throw invalid(`they have no column ${JSON.stringify(name)}`);
    return at;
  });
  if (columns.length !== model.length)
    throw invalid(`they have ${columns.length} columns for ${model.length} features`);
  if (scores.length !== rows.length) throw invalid(`they have ${rows.length} rows and ${scores.length} scores`);
  if (rows.length < LEAST_SAMPLES)
    throw new FraudstreamError(
      "samples_too_few",
      `there are ${rows.length} sample rows; at least ${LEAST_SAMPLES} are needed`,
    );
  const values = valuesOf(rows, model, order);
  scores.forEach((score, row) => {
    if (typeof score !== "number" || !(score >= 0 && score <= 1))
      throw invalid(`the score of row ${row} is ${JSON.stringify(score)}; it must be a number from 0 to 1`);
  });
  return { rows: rows.length, ...values, scores: Float64Array.from(scores as number[]) };
}

/** The different texts of a column of sample rows that were not checked yet, in their order. */
export function textsOf(json: unknown, column: string): string[] {
  const { columns, rows } = partsOf(json ?? { columns: [], rows: [], scores: [] });
  const at = columns.indexOf(column);
  const texts = new Set<string>();
  for (const cells of rows) {
    const cell: unknown = Array.isArray(cells) ? cells[at] : undefined;
    if (typeof cell === "string") texts.add(cell);
  }
  return [...texts].sort();
}

function valuesOf(
  rows: readonly unknown[],
  model: readonly ModelColumn[],
  order: readonly number[],
): { values: Float32Array; inexact: InexactValues } {
  const width = model.reduce((sum, { features }) => sum + features.length, 0);
  const values = new Float32Array(rows.length * width);
  const inexact: InexactValues = { count: 0, rows: new Set(), first: null };
  let at = 0;
  for (const [row, cells] of rows.entries()) {
    if (!Array.isArray(cells) || cells.length !== model.length)
      throw invalid(`row ${row} is not a list of ${model.length} values`);
    for (const [i, { name, features, category }] of model.entries()) {
      const cell = (cells as unknown[])[order[i]];
      if (category !== null) {
        if (cell !== null && typeof cell !== "string")
          throw invalid(`row ${row}, column ${JSON.stringify(name)}: a text or null is needed`);
        for (const text of category.values) values[at++] = cell === null ? Number.NaN : Number(cell === text);
        continue;
      }
      const value = valueOf(cell, features[0], row);
      values[at++] = value;
      if (Object.is(Math.fround(value), value)) continue;
      inexact.count++;
      inexact.rows.add(row);
      inexact.first ??= { row, feature: name, value };
    }
  }
  return { values, inexact };
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
  if (rows.length > MOST_SAMPLES) throw invalid(`there are ${rows.length} of them; at most ${MOST_SAMPLES} are taken`);
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
