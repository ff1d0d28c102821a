import { type Static, type TSchema, Type } from "@sinclair/typebox";

const orNull = <Schema extends TSchema>(schema: Schema) => Type.Union([schema, Type.Null()]);
const Count = Type.Integer({ minimum: 0 });
const Share = orNull(Type.Number({ minimum: 0, maximum: 1 }));
const Milliseconds = orNull(Type.Number());
const named = <Schema extends TSchema>(schema: Schema, description: string): Schema => ({ ...schema, description });

/** What a model did. An alert (review or decline) is the positive class; null: can't be computed. */
export const figures = {
  rows: named(Count, "Predictions, with a verdict or without."),
  evaluated: named(Count, "Those with a verdict: labelled, or counted as genuine."),
  labelled: named(Count, "Those with a label."),
  precision: Share,
  recall: Share,
  accuracy: Share,
  roc_auc: Share,
  f1: Share,
  time_ms: named(Milliseconds, "Mean scoring time, of all rows."),
  scoring_ms_p50: Milliseconds,
  scoring_ms_p99: Milliseconds,
  average_precision: Share,
  baseline_accuracy: named(Share, "The accuracy of approving everything."),
  alert_rate: named(Share, "Alerts among all rows."),
  confusion: Type.Object(
    { true_positives: Count, false_positives: Count, false_negatives: Count, true_negatives: Count },
    { description: "Of those with a verdict." },
  ),
  false_positives_per_fraud_caught: orNull(Type.Number({ minimum: 0 })),
  recall_by_value: named(
    Share,
    "The share of the frauds' value that was alerted on; null if frauds are in several currencies. A refund " +
      "has no value.",
  ),
  value: Type.Array(
    Type.Object({ currency: Type.String(), detected: Type.Number(), missed: Type.Number(), recall: Share }),
    { description: "The frauds' value in each currency, in major units." },
  ),
  declined: Type.Object(
    { rows: Count, labelled: Count, frauds: Count },
    { description: "Declined transactions, which are counted above, too; the true outcome of few of them is known." },
  ),
};

export const SliceMetrics = Type.Object(figures);
export type SliceMetrics = Static<typeof SliceMetrics>;

export const SeriesMetrics = Type.Object(
  { at: Type.String({ format: "date-time", description: "The beginning of the hour or day, in UTC." }), ...figures },
  { title: "SeriesMetrics" },
);
export type SeriesMetrics = Static<typeof SeriesMetrics>;

const series = Type.Optional(Type.Array(SeriesMetrics, { description: "With by: each hour or day that has rows." }));

const GroupMetrics = Type.Object(
  { currency: Type.Optional(Type.String()), decision: Type.Optional(Type.String()), ...figures, series },
  { title: "GroupMetrics" },
);
type GroupMetrics = Static<typeof GroupMetrics>;

export const CardPrecision = Type.Object(
  {
    k: Type.Integer({ minimum: 1 }),
    mean: named(Share, "Of the days."),
    days: Type.Array(
      Type.Object({
        at: Type.String({ format: "date-time", description: "The beginning of the day, in UTC." }),
        cards: named(Count, "Cards that were examined: k, or all if there are fewer."),
        caught: named(Count, "Those of them with a fraud that day."),
        precision: Type.Number({ minimum: 0, maximum: 1, description: "caught / k" }),
      }),
      { description: "Days that have a transaction with a verdict; the first and the last may be cut by the window." },
    ),
  },
  {
    description:
      "With card_precision: for each day the k cards with the highest scores, and how many of them had a " +
      "fraud that day; a card that was caught is not examined again (Fraud Detection Handbook, 2022).",
  },
);
export type CardPrecision = Static<typeof CardPrecision>;

/** Of one model, without what its manifest says. */
export const WindowMetrics = Type.Object({
  ...figures,
  exact: Type.Boolean({
    description:
      "False: there are more than ten million rows, and scores were binned for roc_auc and average_precision.",
  }),
  series,
  card_precision: Type.Optional(CardPrecision),
  groups: Type.Optional(
    Type.Array(GroupMetrics, { description: "With group: each currency or decision that has rows." }),
  ),
});
export type WindowMetrics = Static<typeof WindowMetrics>;

export const ModelMetrics = Type.Object(
  {
    model: Type.String({ description: "name@version" }),
    role: Type.Union([Type.Literal("champion"), Type.Literal("shadow")]),
    training_seconds: named(orNull(Type.Number()), "From the manifest."),
    ...WindowMetrics.properties,
  },
  { title: "ModelMetrics" },
);
export type ModelMetrics = Static<typeof ModelMetrics>;
