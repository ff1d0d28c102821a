import { Type, type Static, type TSchema } from "@sinclair/typebox";
import { FraudstreamError } from "../../schemas/errors.js";
import type { Prediction } from "../../schemas/generated.js";
import type { ApiContext } from "../context.js";
import { ModelViews } from "../deployments/model-views.js";

const orNull = <T extends TSchema>(schema: T): ReturnType<typeof Type.Union<[T, ReturnType<typeof Type.Null>]>> =>
  Type.Union([schema, Type.Null()]);

export const Decision = Type.Union([Type.Literal("approve"), Type.Literal("review"), Type.Literal("decline")]);

const properties = {
  transaction_id: Type.String(),
  card_id: Type.String({ description: "A pseudonym, where CARD_ID_KEY is set." }),
  merchant_id: Type.String(),
  amount: Type.Number({ description: "In major units of the currency; a refund is negative." }),
  currency: Type.String({ description: "ISO 4217" }),
  event_time: Type.String({ format: "date-time" }),
  scored_at: Type.String({ format: "date-time" }),
  scoring_ms: Type.Number({ description: "Scoring time." }),
  score: Type.Number({ description: "Probability of fraud, 0 to 1." }),
  decision: Decision,
  model: Type.String({ description: "name@version" }),
  epoch: Type.Integer({ description: "The deployment that decided." }),
  features: Type.Array(orNull(Type.Number()), {
    description: "The model's input, in its manifest's order; null: missing.",
  }),
  named_features: orNull(
    Type.Record(Type.String(), orNull(Type.Number()), {
      description: "The same by name; null: the model's manifest cannot be read.",
    }),
  ),
  stale: Type.Boolean({ description: "The history that it was scored with was incomplete." }),
  reasons: orNull(
    Type.Array(
      Type.Object({ feature: Type.String(), contribution: Type.Number({ description: "To the log-odds." }) }),
      { description: "Of an alert: the features that raised the score most." },
    ),
  ),
};

export const PredictionAnswer = Type.Object(properties, {
  title: "Prediction",
  examples: [
    {
      transaction_id: "t-1",
      card_id: "c-1",
      merchant_id: "m-1",
      amount: 812.5,
      currency: "EUR",
      event_time: "2026-11-22T09:30:00.000Z",
      scored_at: "2026-11-22T09:30:00.007Z",
      scoring_ms: 0.4,
      score: 0.974,
      decision: "decline",
      model: "cards@1",
      epoch: 12,
      features: [812.5, 3, null],
      named_features: { amount: 812.5, card_count_1d: 3, merchant_fraud_share_30d: null },
      stale: false,
      reasons: [{ feature: "amount", contribution: 2.1 }],
    },
  ],
});
export type PredictionAnswer = Static<typeof PredictionAnswer>;

/** A prediction, but for where its transaction stands on Kafka. */
export type Shown = Omit<Prediction, "source_topic" | "source_partition" | "source_offset">;

/** A stored prediction with its last label. */
export interface LabelledRow extends Shown {
  labelled: boolean;
  is_fraud: boolean;
  label_time: number;
}

/** The columns of a LabelledRow, of predictions `p` that are joined with their labels `l`. */
export const LABELLED_COLUMNS = `
    p.transaction_id AS transaction_id, p.card_id AS card_id, merchant_id, amount, currency,
    toUnixTimestamp64Milli(p.event_time) AS event_time, toUnixTimestamp64Milli(p.scored_at) AS scored_at,
    scoring_ms, score, decision, model, epoch, features, stale, reasons,
    l.transaction_id != '' AS labelled, l.is_fraud AS is_fraud, toUnixTimestamp64Milli(l.label_time) AS label_time`;

/** How long a manifest that couldn't be read isn't asked for again. */
const UNREADABLE_MS = 30_000;

/** How predictions look from outside, with the names of their features. */
export class PredictionViews {
  readonly #context: Pick<ApiContext, "control" | "config">;
  readonly #views: ModelViews;
  readonly #names = new Map<string, readonly string[]>();
  readonly #unreadable = new Map<string, number>();

  constructor(context: Pick<ApiContext, "control" | "config">) {
    this.#context = context;
    this.#views = new ModelViews(context);
  }

  /** @returns label null: there is none yet */
  async showLabelled(
    row: LabelledRow,
  ): Promise<{ prediction: PredictionAnswer; label: { is_fraud: boolean; label_time: string } | null }> {
    const { labelled, is_fraud, label_time } = row;
    return {
      prediction: await this.show(row),
      label: labelled ? { is_fraud: Boolean(is_fraud), label_time: new Date(label_time).toISOString() } : null,
    };
  }

  async show(prediction: Shown): Promise<PredictionAnswer> {
    const {
      transaction_id,
      card_id,
      merchant_id,
      amount,
      currency,
      event_time,
      scored_at,
      scoring_ms,
      score,
      decision,
      model,
      epoch,
      features,
      reasons,
      stale,
    } = prediction;
    // JSON knows no NaN.
    const shown = features.every(Number.isFinite)
      ? features
      : features.map((value) => (Number.isFinite(value) ? value : null));
    const names = this.#names.get(model) ?? (await this.#load(model));
    return {
      transaction_id,
      card_id,
      merchant_id,
      amount,
      currency,
      event_time: new Date(event_time).toISOString(),
      scored_at: new Date(scored_at).toISOString(),
      scoring_ms,
      score,
      decision,
      model,
      epoch,
      features: shown,
      named_features:
        names?.length === shown.length ? Object.fromEntries(names.map((name, i) => [name, shown[i]])) : null,
      stale: Boolean(stale),
      reasons: reasons === null || reasons.length === 0 ? null : reasons,
    };
  }

  async #load(model: string): Promise<readonly string[] | null> {
    const registered = this.#context.control.state.models.get(model);
    if (registered === undefined || (this.#unreadable.get(model) ?? 0) > Date.now()) return null;
    try {
      const names = (await this.#views.manifestOf(registered)).features.map(({ name }) => name);
      this.#names.set(model, names);
      return names;
    } catch (error) {
      if (!(error instanceof FraudstreamError)) throw error;
      this.#unreadable.set(model, Date.now() + UNREADABLE_MS);
      return null;
    }
  }
}
