import { Type, type Static, type TObject } from "@sinclair/typebox";
import { Value, ValueErrorType, type ValueError } from "@sinclair/typebox/value";
import { maskedText } from "../../infra/privacy/masking/masked-text.js";
import { closestName } from "../../schemas/closest-name.js";
import { RequestError, messageOf } from "../../schemas/errors.js";
import { LARGEST_FLOAT32 } from "./attribute-slots.js";
import { COLUMN_KINDS, ColumnSource, attributeOf } from "./column-sources.js";
import { partFault } from "./text-parts.js";

const closed = { additionalProperties: false } as const;
const Name = Type.String({ minLength: 1, maxLength: 200, description: "a text of 1 to 200 characters" });
const Default = Type.Optional(
  Type.Union([Type.Number({ minimum: -LARGEST_FLOAT32, maximum: LARGEST_FLOAT32 }), Type.Null()], {
    description: "a number of float32, or null. Where there is no value; unsaid null, of text_part 0",
  }),
);

const [difference, ratio, sumError, distance, age, daysSince, textPart] = ColumnSource.anyOf;
const { equals, ...textPartFields } = textPart.properties;

/** A feature from columns, as it is asked for. A `text_part` without `equals` is one feature for each part there is. */
export const DeclaredFeature = Type.Union([
  Type.Object({ name: Name, ...difference.properties, default: Default }, { ...closed, title: "Difference" }),
  Type.Object({ name: Name, ...ratio.properties, default: Default }, { ...closed, title: "Ratio" }),
  Type.Object({ name: Name, ...sumError.properties, default: Default }, { ...closed, title: "ErrorOfASum" }),
  Type.Object({ name: Name, ...distance.properties, default: Default }, { ...closed, title: "Distance" }),
  Type.Object({ name: Name, ...age.properties, default: Default }, { ...closed, title: "Age" }),
  Type.Object({ name: Name, ...daysSince.properties, default: Default }, { ...closed, title: "DaysSince" }),
  Type.Object(
    { name: Name, ...textPartFields, equals: Type.Optional(equals), default: Default },
    { ...closed, title: "TextPart" },
  ),
]);
export type DeclaredFeature = Static<typeof DeclaredFeature>;

/** A feature that is asked for: by its name, or by what it is made of. */
export type FeatureEntry = string | DeclaredFeature;

/** What `--features FILE.json` names: see schemas/features.schema.json. */
const FeaturesFile = Type.Object(
  {
    $schema: Type.Optional(Type.String()),
    features: Type.Array(
      Type.Union([
        Type.String({ minLength: 1, maxLength: 200, description: "A feature by its name" }),
        DeclaredFeature,
      ]),
      { minItems: 1, maxItems: 2_000 },
    ),
  },
  { ...closed, title: "Features", description: "The features to train a model with" },
);

/** The JSON schema of a features file, as it is published. */
export function featuresSchema(): string {
  const schema = { $schema: "https://json-schema.org/draft/2020-12/schema", ...FeaturesFile };
  return `${JSON.stringify(schema, null, 2)}\n`;
}

/**
 * The features that a file asks for.
 *
 * @param file for messages
 * @throws RequestError `bad_features`
 */
export function parseFeaturesFile(file: string, json: string): FeatureEntry[] {
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch (cause) {
    throw new RequestError("bad_features", `${file} is not JSON: ${messageOf(cause)}`, { cause });
  }
  const fields = Object.keys(FeaturesFile.properties);
  const wrong =
    typeof value !== "object" || value === null || Array.isArray(value)
      ? 'it must be an object: {"features": [...]}'
      : Object.keys(value)
          .filter((field) => !fields.includes(field))
          .map((field) => `${field}: ${noField(field, fields)}`)
          .at(0);
  if (wrong !== undefined) throw new RequestError("bad_features", `${file}: ${wrong}`);
  try {
    return parseFeatures((value as { features?: unknown }).features);
  } catch (cause) {
    throw cause instanceof RequestError ? new RequestError(cause.code, `${file}: ${cause.message}`, { cause }) : cause;
  }
}

/**
 * The features that a request or a file asks for.
 *
 * @throws RequestError `bad_features`, naming the first mistake by its path
 */
export function parseFeatures(value: unknown): FeatureEntry[] {
  if (!Array.isArray(value) || value.length === 0) throw bad("features", "it must be a list of features, not empty");
  const paths = new Map<string, string>();
  return value.map((entry: unknown, index) => {
    const path = `features[${index}]`;
    const feature = typeof entry === "string" ? nameOf(entry, path) : declared(entry, path);
    const name = typeof feature === "string" ? feature : feature.name;
    const before = paths.get(name);
    if (before !== undefined && typeof feature !== "string")
      throw bad(`${path}.name`, `${JSON.stringify(name)} is asked for by ${before}, too`);
    paths.set(name, path);
    return feature;
  });
}

function nameOf(entry: string, path: string): string {
  if (Value.Check(Name, entry)) return entry;
  throw bad(path, "it must be a name of 1 to 200 characters");
}

function declared(entry: unknown, path: string): DeclaredFeature {
  if (typeof entry !== "object" || entry === null || Array.isArray(entry))
    throw bad(path, 'it must be the name of a feature, or an object with "name" and "kind"');
  const { kind } = entry as { kind?: unknown };
  const at = COLUMN_KINDS.findIndex((known) => known === kind);
  if (at < 0) {
    const near = typeof kind === "string" ? closestName(kind, COLUMN_KINDS) : null;
    throw bad(
      `${path}.kind`,
      `${kind === undefined ? "it is missing" : shown(kind)}; the kinds are ${COLUMN_KINDS.join(", ")}` +
        (near === null ? "" : `; did you mean ${JSON.stringify(near)}?`),
    );
  }
  const schema: TObject = DeclaredFeature.anyOf[at];
  const errors = [...Value.Errors(schema, entry)];
  // A field that isn't known says more than that another one is missing.
  const wrong = errors.find(({ type }) => type === ValueErrorType.ObjectAdditionalProperties) ?? errors.at(0);
  if (wrong !== undefined) throw bad(path + pathOf(wrong.path), problem(wrong, Object.keys(schema.properties)));
  const feature = entry as DeclaredFeature;
  if (feature.kind === "text_part" && feature.equals !== undefined) {
    const fault = partFault(feature.equals, feature.part);
    if (fault !== null) throw bad(`${path}.equals`, `${maskedText(shown(feature.equals))} must be ${fault}`);
  }
  return feature;
}

function problem({ type, path, value, schema, message }: ValueError, fields: readonly string[]): string {
  if (type === ValueErrorType.ObjectAdditionalProperties) return noField(path.slice(1), fields);
  if (type === ValueErrorType.ObjectRequiredProperty) return "it is missing";
  const { description, anyOf } = schema as { description?: string; anyOf?: { const?: unknown }[] };
  const words = anyOf?.flatMap((choice) => (choice.const === undefined ? [] : [JSON.stringify(choice.const)]));
  if (words !== undefined && words.length > 0) return `${shown(value)} must be one of ${words.join(", ")}`;
  if (type === ValueErrorType.ArrayMinItems || type === ValueErrorType.ArrayMaxItems)
    return `it must have ${[...new Set([schema.minItems, schema.maxItems])].join(" to ")} operands`;
  return description === undefined ? message : `${shown(value)} must be ${description.split(". ")[0]}`;
}

function noField(field: string, fields: readonly string[]): string {
  const near = closestName(field, fields);
  const guess = near === null ? "" : `; did you mean ${JSON.stringify(near)}?`;
  return `there is no such field (${fields.join(", ")})${guess}`;
}

/** `/of/1` as `.of[1]`. */
function pathOf(pointer: string): string {
  return pointer.replace(/\/(\d+)/g, "[$1]").replaceAll("/", ".");
}

function shown(value: unknown): string {
  const text = JSON.stringify(value);
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}

/** @throws RequestError `bad_features` */
function bad(path: string, reason: string): RequestError {
  return new RequestError("bad_features", `${path}: ${reason}`);
}

/** The attributes that features are made of, so that a file's columns of these names are read for them. */
export function operandAttributes(features: readonly FeatureEntry[]): string[] {
  const names = features.flatMap((feature) =>
    typeof feature === "string" ? [] : operandsOf(feature).map(({ operand }) => attributeOf(operand)),
  );
  return [...new Set(names.filter((name) => name !== null))];
}

/** What an operand must be. */
export type OperandType = "number" | "time" | "text";

/** The operands of a feature, each with its path in it. */
export function operandsOf(feature: DeclaredFeature): { path: string; operand: string; type: OperandType }[] {
  const list = (field: string, operands: readonly string[] = []) =>
    operands.map((operand, i) => ({ path: `.${field}[${i}]`, operand, type: "number" as const }));
  switch (feature.kind) {
    case "difference":
    case "ratio":
      return list("of", feature.of);
    case "sum_error":
      return [
        { path: ".total", operand: feature.total, type: "number" },
        ...list("plus", feature.plus),
        ...list("minus", feature.minus),
      ];
    case "distance":
      return [...list("from", feature.from), ...list("to", feature.to)];
    case "age":
    case "days_since":
      return [{ path: ".since", operand: feature.since, type: "time" }];
    case "text_part":
      return [{ path: ".of", operand: feature.of, type: "text" }];
  }
}
