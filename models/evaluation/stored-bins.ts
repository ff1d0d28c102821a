import type { ClickHouseReader } from "../../infra/clickhouse/client.js";
import type { Bins, DriftReference } from "./drift-reference.js";
import { conditionOf, type Scope, scopeParams, SETTINGS } from "./stored-rows.js";

/** Rows of a scope by the bins of a reference: counts as in `Bins`. */
export interface StoredBins {
  rows: number;
  features: number[][];
  score: number[];
}

/** Features that one query counts, so that it stays under 100 KB; a model with more is counted in several. */
const MOST_FEATURES = 100;

/**
 * Counts a scope's predictions by the bins of a reference, in one pass over their feature vectors: for every edge the
 * values that are not above it, as plain comparisons of a column with a number, which ClickHouse does many at a time.
 */
export async function storedBins(
  clickhouse: ClickHouseReader,
  scope: Scope,
  { features, score }: DriftReference,
): Promise<StoredBins> {
  const all: StoredBins = { rows: 0, features: [], score: [] };
  for (let first = 0; first < features.length; first += MOST_FEATURES) {
    const taken = features.slice(first, first + MOST_FEATURES);
    const columns = [
      { value: "score", bins: score },
      ...taken.map((bins, i) => ({ value: `features[${first + i + 1}]`, bins })),
    ];
    const { rows, counts } = await countBelow(clickhouse, scope, columns);
    const [ofScore, ...ofFeatures] = columns.map(({ bins }, i) => byBin(bins, counts[i], rows));
    all.rows = rows;
    all.score = ofScore;
    all.features.push(...ofFeatures);
  }
  return all;
}

/**
 * Of each column, the rows that are not above each edge, then those without a value. Edges are numbers of a checked
 * manifest: too many for parameters, which go by the URL.
 */
async function countBelow(
  clickhouse: ClickHouseReader,
  scope: Scope,
  columns: readonly { value: string; bins: Bins }[],
): Promise<{ rows: number; counts: number[][] }> {
  const counts = columns.map(
    ({ value, bins }) =>
      `[${[...bins.edges.map((edge) => `countIf(${value} <= ${edge})`), `countIf(isNaN(${value}))`].join(", ")}]`,
  );
  const sql =
    `SELECT count() AS rows, [${counts.join(",\n  ")}] AS counts\nFROM ${scope.table} FINAL\nWHERE ` +
    `${conditionOf(scope)}`;
  const [row] = await clickhouse.query<{ rows: number; counts: number[][] }>(sql, scopeParams(scope), {
    settings: SETTINGS,
  });
  return row;
}

function byBin({ edges }: Bins, below: readonly number[], rows: number): number[] {
  const missing = below[edges.length];
  const bins = edges.map((_, i) => below[i] - (i === 0 ? 0 : below[i - 1]));
  return [...bins, rows - missing - (edges.length === 0 ? 0 : below[edges.length - 1]), missing];
}
