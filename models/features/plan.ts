import { createHash } from "node:crypto";
import { Type, type Static } from "@sinclair/typebox";
import { FraudstreamError } from "../../schemas/errors.js";
import { slotKey, type AttributeSlot } from "./attribute-slots.js";
import { ColumnSource, columnDefinition, isColumnSource, operandSlots } from "./column-sources.js";
import { ColumnFeature } from "./column-values.js";
import { historyKey, type HistorySlot } from "./history-plan.js";
import { CardSource, HISTORY_TERMS, MerchantSource, historyTerm } from "./history-terms.js";

/** Where a feature's value comes from. `equals` turns a text attribute into 1 (it has this value) or 0. */
export const FeatureSource = Type.Union([
  Type.Object({ kind: Type.Literal("amount") }, { additionalProperties: false }),
  Type.Object({ kind: Type.Literal("hour") }, { additionalProperties: false }),
  Type.Object({ kind: Type.Literal("weekend") }, { additionalProperties: false }),
  Type.Object({ kind: Type.Literal("night") }, { additionalProperties: false }),
  Type.Object(
    { kind: Type.Literal("attribute"), attribute: Type.String({ minLength: 1 }), equals: Type.Optional(Type.String()) },
    { additionalProperties: false },
  ),
  ...CardSource.anyOf,
  MerchantSource,
  ...ColumnSource.anyOf,
]);
export type FeatureSource = Static<typeof FeatureSource>;
export const FEATURE_KINDS: ReadonlySet<string> = new Set(
  FeatureSource.anyOf.map(({ properties }) => properties.kind.const),
);

/** Whether a payment may come without a value for such a feature. */
export function mayBeMissing({ kind }: FeatureSource): boolean {
  return kind !== "amount" && kind !== "hour" && kind !== "weekend" && kind !== "night";
}

/** One input of a model. */
export const FeatureSpec = Type.Object(
  {
    name: Type.String({ minLength: 1 }),
    type: Type.Union([Type.Literal("number"), Type.Literal("boolean")]),
    source: FeatureSource,
    /** Taken when the attribute is absent, or when history gives no value; null: missing (NaN), which trees handle. */
    default: Type.Union([Type.Number(), Type.Null()]),
  },
  { additionalProperties: false },
);
export type FeatureSpec = Static<typeof FeatureSpec>;

/** Transactions column by column: what features are computed from, in the stream and in training. */
export interface TransactionColumns {
  readonly length: number;
  /** Epoch milliseconds. */
  readonly eventTime: Float64Array;
  /** Major units. */
  readonly amount: Float64Array;
  /** Attribute values, row by row: `slots[row * slotCount + slot]`; NaN where the attribute is absent. */
  readonly slots: Float64Array;
  readonly slotCount: number;
  /**
   * What history says, row by row, as a HistoryPlan has written it: `history[row * historyCount + slot]`; NaN: nothing.
   */
  readonly history: Float64Array;
  readonly historyCount: number;
}

/**
 * sha256 over what defines the features; equal hashes mean equal vectors for equal transactions with equal histories.
 *
 * @throws FraudstreamError `unknown_feature` for a window, delay or bucket that is not computed
 */
export function featureHash(specs: readonly FeatureSpec[]): string {
  const canonical = specs.map(({ name, type, source, default: missing }) => {
    return [name, type, definitionOf(source), missing];
  });
  return createHash("sha256").update(JSON.stringify(canonical)).digest("hex");
}

function definitionOf(source: FeatureSource): (string | number | null)[] {
  if (source.kind === "attribute") return [source.kind, source.attribute, source.equals ?? null];
  if (isColumnSource(source)) return columnDefinition(source);
  if (source.kind !== "card" && source.kind !== "merchant") return [source.kind];
  const { aggregate, windowMs } = historyTerm(source);
  return [source.kind, aggregate, windowMs, ...HISTORY_TERMS];
}

/** The slots that a set of models reads, each once, in a stable order. */
export function slotsOf(models: readonly (readonly FeatureSpec[])[]): AttributeSlot[] {
  const slots = new Map<string, AttributeSlot>();
  for (const specs of models)
    for (const spec of specs) for (const slot of slotsOfFeature(spec)) slots.set(slotKey(slot), slot);
  return [...slots.values()];
}

function slotsOfFeature({ source, type }: FeatureSpec): AttributeSlot[] {
  if (isColumnSource(source)) return operandSlots(source).filter((slot) => slot !== null);
  if (source.kind !== "attribute") return [];
  const { attribute, equals } = source;
  return [{ attribute, type, ...(equals === undefined ? {} : { equals }) }];
}

type Column =
  | { from: "amount" | "hour" | "weekend" | "night" }
  | { from: "slot" | "history"; slot: number; missing: number }
  | { from: "columns"; feature: ColumnFeature };

/** Computes one model's feature vectors: the single definition of features, for training and for the stream. */
export class FeaturePlan {
  /** Features in a vector. */
  readonly size: number;
  readonly #columns: Column[];

  /**
   * @param specs the model's features, in its input's order
   * @param slots what the columns' slots hold; must include every one of `slotsOf([specs])`
   * @param history what the columns' history holds; must include every card's and merchant's value of `specs`
   * @throws FraudstreamError `unknown_feature`
   */
  constructor(specs: readonly FeatureSpec[], slots: readonly AttributeSlot[], history: readonly HistorySlot[] = []) {
    const index = new Map(slots.map((slot, i) => [slotKey(slot), i]));
    const historyIndex = new Map(history.map((slot, i) => [historyKey(slot), i]));
    this.size = specs.length;
    this.#columns = specs.map((spec): Column => {
      const { name, source } = spec;
      const missing = spec.default ?? Number.NaN;
      const slotOf = (slot: AttributeSlot): number => {
        const found = index.get(slotKey(slot));
        if (found === undefined)
          throw new FraudstreamError(
            "unknown_feature",
            `feature ${name} reads attribute ${slot.attribute}, which has no slot`,
          );
        return found;
      };
      if (source.kind === "card" || source.kind === "merchant") {
        const slot = historyIndex.get(historyKey(source));
        if (slot === undefined)
          throw new FraudstreamError(
            "unknown_feature",
            `feature ${name} reads the history of the ${source.kind}, which has no slot`,
          );
        return { from: "history", slot, missing };
      }
      if (isColumnSource(source)) return { from: "columns", feature: new ColumnFeature(source, slotOf, missing) };
      if (source.kind !== "attribute") return { from: source.kind };
      return { from: "slot", slot: slotOf(slotsOfFeature(spec)[0]), missing };
    });
  }

  /**
   * @param out at least `columns.length * size` floats; filled row by row
   */
  compute(columns: TransactionColumns, out: Float32Array): void {
    const { length, slots, slotCount, history, historyCount } = columns;
    const size = this.size;
    for (let feature = 0; feature < size; feature++) {
      const column = this.#columns[feature];
      if (column.from === "columns") {
        column.feature.compute(columns, out, feature, size);
        continue;
      }
      if (column.from !== "slot" && column.from !== "history") {
        computeBase(column.from, columns, out, feature, size);
        continue;
      }
      const [values, stride] = column.from === "slot" ? [slots, slotCount] : [history, historyCount];
      const { slot, missing } = column;
      for (let row = 0, at = feature, from = slot; row < length; row++, at += size, from += stride) {
        const value = values[from];
        out[at] = Number.isNaN(value) ? missing : value;
      }
    }
  }
}

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
/** The last hour of the night, as in the Fraud Detection Handbook's baseline features: 00:00 to 06:59 UTC. */
const LAST_NIGHT_HOUR = 6;
/** 1970-01-01 was a Thursday; 0 is Sunday. */
const EPOCH_WEEKDAY = 4;

function computeBase(
  from: "amount" | "hour" | "weekend" | "night",
  columns: TransactionColumns,
  out: Float32Array,
  feature: number,
  size: number,
): void {
  const { length, amount, eventTime } = columns;
  for (let row = 0, at = feature; row < length; row++, at += size) {
    if (from === "amount") {
      out[at] = amount[row];
      continue;
    }
    const day = Math.floor(eventTime[row] / DAY_MS);
    if (from === "weekend") {
      const weekday = (((day + EPOCH_WEEKDAY) % 7) + 7) % 7;
      out[at] = weekday === 0 || weekday === 6 ? 1 : 0;
      continue;
    }
    const hour = Math.floor((eventTime[row] - day * DAY_MS) / HOUR_MS);
    out[at] = from === "hour" ? hour : hour <= LAST_NIGHT_HOUR ? 1 : 0;
  }
}
