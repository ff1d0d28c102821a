import { type Static, Type } from "@sinclair/typebox";
import { figures } from "./metrics-schema.js";
import { LabelsChoice, shownWindowFields } from "./window-query.js";

const Count = Type.Integer({ minimum: 0 });

const Side = Type.Object({
  model: Type.String({ description: "name@version" }),
  only: {
    ...Count,
    description: "Transactions of the window that only this model scored; they are not counted anywhere else here.",
  },
  ...figures,
});

const byB = Type.Object({ approve: Count, review: Count, decline: Count }, { description: "By what b decided." });

const Moved = Type.Object({
  rows: Count,
  value: Type.Number({ minimum: 0, description: "In major units; a refund has no value." }),
});
const MovedByOutcome = Type.Object({ frauds: Moved, genuine: Moved, unknown: Moved });

export const ModelComparison = Type.Object(
  {
    ...shownWindowFields,
    labels: LabelsChoice,
    rows: { ...Count, description: "Transactions of the window that both models scored." },
    exact: Type.Boolean({
      description:
        "False: there are more than five million of them, and scores were binned for roc_auc and average_precision.",
    }),
    a: Side,
    b: Side,
    decisions: Type.Object(
      { approve: byB, review: byB, decline: byB },
      { description: "Transactions by the decisions of a and b." },
    ),
    differing: { ...Count, description: "Transactions on which their decisions differ." },
    moved: Type.Array(
      Type.Object({
        currency: Type.String(),
        alerted_by_a_only: { ...MovedByOutcome, description: "Approved by b, reviewed or declined by a." },
        alerted_by_b_only: { ...MovedByOutcome, description: "Approved by a, reviewed or declined by b." },
      }),
      {
        description:
          "What would move if one took the other's place, in each currency of the transactions; unknown: " +
          "those without a verdict.",
      },
    ),
  },
  { description: "Two models on the same transactions." },
);
export type ModelComparison = Static<typeof ModelComparison>;
