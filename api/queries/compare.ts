import type { ClickHouseReader } from "../../infra/clickhouse/client.js";
import { lastPlacement } from "../../infra/clickhouse/label-placement.js";
import { type Comparison, ModelPairs, modelRows, type PairSum } from "../../models/evaluation/comparison.js";
import { DECISIONS, type Labels } from "../../models/evaluation/stored-rows.js";
import type { ModelComparison } from "./compare-schema.js";
import { EXACT_ROWS, NOTHING, sliceMetrics } from "./metrics.js";
import type { SliceMetrics } from "./metrics-schema.js";

export interface ComparisonRequest extends Comparison {
  /**
   * A transaction without a label counts as genuine when it is older than this, epoch milliseconds; null: it has no
   * verdict.
   */
  maturedBefore: number | null;
}

export type WindowComparison = Omit<ModelComparison, "from" | "to" | "newest_event" | "labels">;
type Decision = (typeof DECISIONS)[number];

const APPROVE = 1;
const DECLINE = 3;

/** Each pair has two scores to rank. */
const EXACT_PAIRS = EXACT_ROWS / 2;

/**
 * Two models on the transactions that both scored, whether as champion or shadow, joined by the coordinates of the
 * record that they scored; computed by ClickHouse.
 *
 * @param exactPairs beyond so many transactions scores are binned
 */
export async function compareModels(
  clickhouse: ClickHouseReader,
  request: ComparisonRequest,
  exactPairs = EXACT_PAIRS,
): Promise<WindowComparison> {
  const { a, b, maturedBefore } = request;
  const [ofA, ofB] = [await modelRows(clickhouse, a, request), await modelRows(clickhouse, b, request)];
  const { currencies } = ofA;
  if (ofA.rows === 0 || ofB.rows === 0)
    return answerOf(request, [ofA.rows, ofB.rows], [], [NOTHING_MEASURED, NOTHING_MEASURED], [], true);
  const labels: Labels = { placement: await lastPlacement(clickhouse), rows: ofA.rows, maturedBefore };
  const pairs = new ModelPairs(clickhouse, request, { a: ofA.tables, b: ofB.tables });
  const { sums, times } = await pairs.sums(labels, currencies);
  const rows = countOf(sums);
  const exact = rows <= exactPairs;
  const outcomes = await pairs.outcomes(labels, { currencies, binned: !exact });
  const metrics = (["a", "b"] as const).map((side, i) => {
    const scoring = {
      rows,
      alerts: countOf(sums, (sum) => sum[side] !== APPROVE),
      declined: countOf(sums, (sum) => sum[side] === DECLINE),
      ...(times?.[side] ?? NO_TIMES),
    };
    return sliceMetrics(
      scoring,
      outcomes.filter(({ grp }) => grp === i + 1),
      currencies,
    );
  });
  return answerOf(request, [ofA.rows, ofB.rows], sums, [metrics[0], metrics[1]], currencies, exact);
}

const NO_TIMES = { time_ms: null, p50: null, p99: null };
const NOTHING_MEASURED = sliceMetrics(NOTHING, [], []);

function answerOf(
  { a, b }: Comparison,
  [rowsA, rowsB]: [number, number],
  sums: readonly PairSum[],
  [ofA, ofB]: [SliceMetrics, SliceMetrics],
  currencies: readonly string[],
  exact: boolean,
): WindowComparison {
  const rows = countOf(sums);
  const byDecision = <T>(of: (place: number) => T): Record<Decision, T> =>
    Object.fromEntries(DECISIONS.map((decision, i) => [decision, of(i + 1)])) as Record<Decision, T>;
  return {
    rows,
    exact,
    // Counted by another query: rows may have arrived in between.
    a: { model: a, only: Math.max(0, rowsA - rows), ...ofA },
    b: { model: b, only: Math.max(0, rowsB - rows), ...ofB },
    decisions: byDecision((byA) => byDecision((byB) => countOf(sums, (sum) => sum.a === byA && sum.b === byB))),
    differing: countOf(sums, (sum) => sum.a !== sum.b),
    moved: currencies.flatMap((currency, i) => {
      const inCurrency = sums.filter((sum) => sum.currency === i + 1);
      if (inCurrency.length === 0) return [];
      return [
        {
          currency,
          alerted_by_a_only: moved(inCurrency.filter((sum) => sum.a !== APPROVE && sum.b === APPROVE)),
          alerted_by_b_only: moved(inCurrency.filter((sum) => sum.a === APPROVE && sum.b !== APPROVE)),
        },
      ];
    }),
  };
}

type MovedByOutcome = WindowComparison["moved"][number]["alerted_by_a_only"];

function moved(sums: readonly PairSum[]): MovedByOutcome {
  const of = (outcome: PairSum["outcome"]): MovedByOutcome["frauds"] => {
    const those = sums.filter((sum) => sum.outcome === outcome);
    return { rows: countOf(those), value: those.reduce((value, sum) => value + sum.value, 0) };
  };
  return { frauds: of("fraud"), genuine: of("genuine"), unknown: of("unknown") };
}

function countOf(sums: readonly PairSum[], which: (sum: PairSum) => boolean = () => true): number {
  return sums.reduce((count, sum) => count + (which(sum) ? sum.rows : 0), 0);
}
