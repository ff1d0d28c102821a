import { Type, type Static } from "@sinclair/typebox";
import { FraudstreamError } from "../../schemas/errors.js";
import { FeatureSpec, type FeatureSource } from "../features/plan.js";

/** Where a feature of this name comes from when its author doesn't say. */
const BASE_FEATURES: Readonly<Record<string, FeatureSource>> = {
  amount: { kind: "amount" },
  hour: { kind: "hour" },
  weekend: { kind: "weekend" },
  night: { kind: "night" },
};
/** Of features, each category counted as one: so many numbers each prediction carries. */
const MOST_FEATURES = 2_000;
const LONGEST_CATEGORY = 200;

export const UploadedFeature = Type.Object(
  {
    name: Type.String({ minLength: 1, maxLength: 200 }),
    type: Type.Union([Type.Literal("number"), Type.Literal("boolean"), Type.Literal("category")]),
    source: Type.Optional(FeatureSpec.properties.source),
    default: Type.Optional(
      Type.Union([Type.Number(), Type.String({ maxLength: LONGEST_CATEGORY }), Type.Null()], {
        description: "What the model gets when the attribute is absent. null: NaN; of a category, the empty text.",
      }),
    ),
    categories: Type.Optional(
      Type.Array(Type.String({ maxLength: LONGEST_CATEGORY }), {
        minItems: 1,
        maxItems: MOST_FEATURES,
        uniqueItems: true,
        description: "The texts that the model knows. Default: those of the sample rows.",
      }),
    ),
    unknown: Type.Optional(
      Type.Union([Type.String({ maxLength: LONGEST_CATEGORY }), Type.Null()], {
        description:
          "What the model gets for a text that is none of the categories. null: a text that it has never seen, so " +
          "that its own encoder decides.",
      }),
    ),
  },
  {
    additionalProperties: false,
    description:
      "Without a source: amount, hour, weekend and night are what they are called, any other name is the " +
      "attribute of that name. Without a default: missing (NaN). A category is an attribute of text.",
  },
);
export type UploadedFeature = Static<typeof UploadedFeature>;

/** A column of a model's input, as its author knows it. */
export interface ModelColumn {
  name: string;
  /** What the stream computes for it: one feature, or one for each category. */
  features: FeatureSpec[];
  /** null: a number. */
  category: CategoryTexts | null;
}

/** The texts that a column of categories gives to the model. */
export interface CategoryTexts {
  /** One for each feature of the column. */
  values: string[];
  absent: string;
  unknown: string;
}

/**
 * The columns of an upload's features. A category becomes a feature for each of its texts (1: the attribute has it),
 * as the trainer's own models have them; the model's graph makes the text of them again.
 *
 * @param texts of each category column that the sample rows have, for those without declared ones
 * @throws FraudstreamError `manifest_invalid`
 */
export function columnsOf(
  features: readonly UploadedFeature[],
  texts: (name: string) => readonly string[] = () => [],
): ModelColumn[] {
  const columns = features.map((feature) => columnOf(feature, texts));
  const seen = new Set<string>();
  for (const { name } of [
    ...columns,
    ...columns.flatMap((column) => column.features.filter(isNamedOtherwise(column))),
  ]) {
    if (seen.has(name)) throw invalid(`two features have the name ${JSON.stringify(name)}`);
    seen.add(name);
  }
  const size = columns.reduce((sum, column) => sum + column.features.length, 0);
  if (size > MOST_FEATURES)
    throw invalid(
      `the features come to ${size} values with their categories; at most ${MOST_FEATURES} are taken: name fewer ` +
        "categories (the rest is taken as unknown)",
    );
  return columns;
}

/** A column that is one feature. */
export function columnOfFeature(spec: FeatureSpec): ModelColumn {
  return { name: spec.name, features: [spec], category: null };
}

function isNamedOtherwise(column: ModelColumn): (spec: FeatureSpec) => boolean {
  return ({ name }) => name !== column.name;
}

function columnOf(feature: UploadedFeature, texts: (name: string) => readonly string[]): ModelColumn {
  const { name, type, default: missing = null } = feature;
  const base = Object.hasOwn(BASE_FEATURES, name) ? BASE_FEATURES[name] : undefined;
  const source = feature.source ?? base ?? { kind: "attribute", attribute: name };
  if (type === "category") return categoryColumn(feature, source, texts);
  if (typeof missing === "string") throw invalid(`the default of ${JSON.stringify(name)} must be a number or null`);
  if (feature.categories !== undefined || feature.unknown !== undefined)
    throw invalid(`${JSON.stringify(name)} has categories or unknown: its type must be "category"`);
  return columnOfFeature({ name, type, source, default: missing });
}

function categoryColumn(
  { name, categories, default: absent = null, unknown = null }: UploadedFeature,
  source: FeatureSource,
  texts: (name: string) => readonly string[],
): ModelColumn {
  const quoted = JSON.stringify(name);
  if (source.kind !== "attribute" || source.equals !== undefined)
    throw invalid(`the category ${quoted} must come from an attribute as it is`);
  if (typeof absent === "number") throw invalid(`the default of the category ${quoted} must be a text or null`);
  const named = categories ?? texts(name);
  if (named.length === 0)
    throw invalid(`the category ${quoted} has no categories, neither in the manifest nor in the sample rows`);
  const { attribute } = source;
  const missing = absent ?? "";
  // An attribute may come as the text that stands for an absent one (Protocol Buffers have "" for both).
  const values = named.includes(missing) ? [...named] : [...named, missing];
  return {
    name,
    features: values.map((value) => ({
      name: `${name}=${value}`,
      type: "boolean",
      source: { kind: "attribute", attribute, equals: value },
      default: null,
    })),
    category: { values, absent: missing, unknown: unknown ?? unseen(values) },
  };
}

/** A text that is none of some. */
function unseen(texts: readonly string[]): string {
  let text = "\u{fffd}unseen";
  while (texts.includes(text)) text += "*";
  return text;
}

function invalid(reason: string): FraudstreamError {
  return new FraudstreamError("manifest_invalid", reason);
}
