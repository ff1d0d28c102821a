import { type Static, type TSchema, Type } from "@sinclair/typebox";
import { DRIFT_THRESHOLDS } from "../../models/evaluation/drift.js";
import { shownWindowFields } from "./window-query.js";

const orNull = <Schema extends TSchema>(schema: Schema, description: string) =>
  Type.Union([schema, Type.Null()], { description });
const Share = Type.Number({ minimum: 0, maximum: 1 });

const Verdict = orNull(
  Type.Union([Type.Literal("stable"), Type.Literal("watch"), Type.Literal("drifted")]),
  `PSI below ${DRIFT_THRESHOLDS.watch} is stable, above ${DRIFT_THRESHOLDS.drifted} drifted, watch between ` +
    "them (Siddiqi, Credit Risk Scorecards, 2006). Null: can't be told.",
);

const Bin = Type.Object(
  {
    above: orNull(Type.Number(), "Null: open."),
    up_to: orNull(Type.Number(), "Included; null: open."),
    missing: Type.Boolean({ description: "True: rows without a value." }),
    reference: Share,
    live: Share,
  },
  { description: "Shares of the training rows and of the window's rows." },
);

const drift = {
  psi: orNull(
    Type.Number(),
    "The population stability index, Σ (live − reference) · ln(live / reference) over the bins. A bin that " +
      "is empty on one side counts as half a row there. Null: the window has no rows.",
  ),
  verdict: Verdict,
  by_chance: orNull(
    Type.Number({ minimum: 0 }),
    "What chance alone passes once in a hundred windows of so many independent rows (Yurdakul, Statistical " +
      `Properties of Population Stability Index, 2018). Above ${DRIFT_THRESHOLDS.watch} there is no verdict.`,
  ),
  bins: Type.Optional(Type.Array(Bin, { description: "With bins=true." })),
};

export const ModelDrift = Type.Object({
  model: Type.String({ description: "name@version" }),
  ...shownWindowFields,
  rows: orNull(
    Type.Integer({ minimum: 0 }),
    "The model's predictions in the window, as champion or shadow; null without a reference.",
  ),
  reference_rows: orNull(Type.Integer({ minimum: 0 }), "The model's training rows."),
  verdict: { ...Verdict, description: "The worst of the score's and the features'." },
  cause: orNull(
    Type.String(),
    "Why there is no verdict: no_reference (the model's manifest has none: it was trained elsewhere), " +
      "no_rows, too_few_rows, or what is wrong with the model's artifact.",
  ),
  thresholds: Type.Object({ watch: Type.Number(), drifted: Type.Number() }),
  score: orNull(Type.Object(drift), "Null without a reference."),
  features: Type.Array(Type.Object({ name: Type.String(), ...drift }), {
    description: "In the manifest's order; empty without a reference.",
  }),
});
export type ModelDrift = Static<typeof ModelDrift>;
