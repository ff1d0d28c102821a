import { Type } from "@sinclair/typebox";

interface Aggregate {
  /** What the walk adds up only where an aggregate needs it: it costs more than the rest. */
  needs?: "squares" | "distinct";
  /** For people: the value (n transactions in the window, x the amount), and what a card's first one gets. */
  formula: string;
  first: string;
  /** The value in ClickHouse's words, which the tests hold the fold to. `over` puts an aggregate over the window. */
  sql: (over: (aggregate: string) => string) => string;
}

/** What is computed of a card's transactions in a window; `writeWindow` gives each its value. */
const AGGREGATES = {
  count: {
    formula: "n: the card's transactions in (t − w, t], this one included",
    first: "1",
    sql: (over) => over("count()"),
  },
  sum: {
    formula: "Σ x, major units",
    first: "x",
    sql: (over) => over("sum(amount)"),
  },
  mean: {
    formula: "Σ x / n, major units",
    first: "x",
    sql: (over) => over("avg(amount)"),
  },
  max: {
    formula: "the greatest x, major units",
    first: "x",
    sql: (over) => over("max(amount)"),
  },
  std: {
    needs: "squares",
    formula: "√(Σ (x − mean)² / n), major units",
    first: "0",
    sql: (over) => over("stddevPopStable(amount)"),
  },
  distinct_merchants: {
    needs: "distinct",
    formula: "different merchant ids",
    first: "1",
    sql: (over) => over("uniqExact(merchant_id)"),
  },
  amount_over_mean: {
    formula: "x / mean; missing where the mean is not above zero",
    first: "1",
    sql: (over) => `if(${over("avg(amount)")} > 0, amount / ${over("avg(amount)")}, nan)`,
  },
} as const satisfies Record<string, Aggregate>;

export type CardAggregate = keyof typeof AGGREGATES;

export const CARD_AGGREGATES: Readonly<Record<CardAggregate, Aggregate>> = AGGREGATES;
export const CARD_AGGREGATE_NAMES = Object.keys(AGGREGATES) as readonly CardAggregate[];

/** As a manifest names them. */
export const CardAggregateName = Type.Unsafe<CardAggregate>(
  Type.Union(CARD_AGGREGATE_NAMES.map((name) => Type.Literal(name))),
);

export function isCardAggregate(name: string): name is CardAggregate {
  return Object.hasOwn(AGGREGATES, name);
}

const [COUNT, SUM, MEAN, MAX, STD, DISTINCT, OVER_MEAN] = CARD_AGGREGATE_NAMES.map((_, place) => place);

/**
 * Writes the values that a set of models asks of one window.
 *
 * @param aggregates places in `CARD_AGGREGATE_NAMES`; `slots` has the slot of each
 * @param values room for the value of every aggregate
 * @param amount of the newest transaction; the others are of all in the window, this one included
 * @param squares sum of squared distances from the mean
 * @param out slot `i` is written to `out[at + i]`
 */
export function writeWindow(
  { aggregates, slots }: { aggregates: Uint8Array; slots: Uint16Array },
  values: Float64Array,
  amount: number,
  count: number,
  sum: number,
  max: number,
  squares: number,
  distinct: number,
  out: Float64Array,
  at: number,
): void {
  const mean = sum / count;
  values[COUNT] = count;
  values[SUM] = sum;
  values[MEAN] = mean;
  values[MAX] = max;
  values[STD] = Math.sqrt(squares / count);
  values[DISTINCT] = distinct;
  values[OVER_MEAN] = sum > 0 ? amount / mean : Number.NaN;
  for (let i = 0; i < aggregates.length; i++) out[at + slots[i]] = values[aggregates[i]];
}
