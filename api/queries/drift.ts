import type { ClickHouseReader } from "../../infra/clickhouse/client.js";
import { driftOf, worstVerdict } from "../../models/evaluation/drift.js";
import type { Bins, DriftReference } from "../../models/evaluation/drift-reference.js";
import { type StoredBins, storedBins } from "../../models/evaluation/stored-bins.js";
import { PREDICTION_TABLES } from "../../models/evaluation/stored-rows.js";
import type { ModelDrift } from "./drift-schema.js";

export interface DriftRequest {
  model: string;
  /** Names of the features, in the reference's order. */
  features: readonly string[];
  reference: DriftReference;
  /** Event times, epoch milliseconds, `to` exclusive. */
  from: number;
  to: number;
  /** Whether the answer has the shares of the bins. */
  bins: boolean;
}

export type WindowDrift = Pick<ModelDrift, "rows" | "reference_rows" | "verdict" | "cause" | "score" | "features">;

/**
 * How far the predictions of a model in a window, as champion or shadow, are from its training rows; counted by
 * ClickHouse.
 */
export async function modelDrift(
  clickhouse: ClickHouseReader,
  { model, features, reference, from, to, bins }: DriftRequest,
): Promise<WindowDrift> {
  const counted: StoredBins[] = [];
  for (const table of PREDICTION_TABLES)
    counted.push(await storedBins(clickhouse, { table, model, from, to }, reference));
  const drift = (ofReference: Bins, live: readonly number[][]) => {
    const counts = ofReference.counts.map((_, bin) => live.reduce((sum, each) => sum + each[bin], 0));
    return { ...driftOf(ofReference.counts, counts), ...(bins && { bins: sharesOf(ofReference, counts) }) };
  };
  const score = drift(
    reference.score,
    counted.map((each) => each.score),
  );
  const ofFeatures = features.map((name, i) => ({
    name,
    ...drift(
      reference.features[i],
      counted.map((each) => each.features[i]),
    ),
  }));
  const verdict = worstVerdict([score, ...ofFeatures].map((each) => each.verdict));
  const rows = counted.reduce((sum, each) => sum + each.rows, 0);
  const cause = verdict !== null ? null : rows === 0 ? "no_rows" : "too_few_rows";
  return { rows, reference_rows: reference.rows, verdict, cause, score, features: ofFeatures };
}

type BinShares = NonNullable<NonNullable<ModelDrift["score"]>["bins"]>;

function sharesOf({ edges, counts }: Bins, live: readonly number[]): BinShares {
  const share = (all: readonly number[], bin: number): number =>
    all[bin] /
    Math.max(
      1,
      all.reduce((sum, count) => sum + count, 0),
    );
  return counts.map((_, bin) => {
    const missing = bin === counts.length - 1;
    return {
      above: missing || bin === 0 ? null : edges[bin - 1],
      up_to: missing || bin === edges.length ? null : edges[bin],
      missing,
      reference: share(counts, bin),
      live: share(live, bin),
    };
  });
}
