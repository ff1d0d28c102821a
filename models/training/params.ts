import { Type, type Static, type TObject, type TSchema } from "@sinclair/typebox";
import { Value } from "@sinclair/typebox/value";
import { closestName } from "../../schemas/closest-name.js";
import { RequestError } from "../../schemas/errors.js";
import { BINARY_OBJECTIVES, LOGISTIC_NAMES, TREE_NAMES, type ParamNames } from "./param-names.js";

const strict = { additionalProperties: false } as const;

/** How trees are boosted. LightGBM's names, and most of its aliases, mean what they mean there. */
export const TreeParams = Type.Object(
  {
    /** Trees at most; early stopping may keep fewer. @default 100 */
    num_iterations: Type.Integer({ minimum: 1, maximum: 10_000, default: 100 }),
    /** What a tree's values are multiplied by. @default 0.1 */
    learning_rate: Type.Number({ exclusiveMinimum: 0, maximum: 1, default: 0.1 }),
    /** Splits from root to leaf at most; -1: no limit but `num_leaves`. @default 5 */
    max_depth: Type.Integer({ minimum: -1, maximum: 64, default: 5 }),
    /**
     * Leaves of a tree at most; 0: 31 when growing leaf-wise, as many as `max_depth` allows when depth-wise. Given
     * alone, trees grow leaf-wise to any depth. @default 0
     */
    num_leaves: Type.Integer({ minimum: 0, maximum: 65_536, default: 0 }),
    /**
     * Bins of a feature at most, the one for missing values included. More cost time and, beyond 256, memory. @default
     * 1024
     */
    max_bin: Type.Integer({ minimum: 3, maximum: 4096, default: 1024 }),
    /** Least sum of hessians in a leaf (XGBoost's min_child_weight). @default 1 */
    min_sum_hessian_in_leaf: Type.Number({ minimum: 0, default: 1 }),
    /** Least rows in a leaf, as estimated from its share of its parent's hessian (as LightGBM does). @default 0 */
    min_data_in_leaf: Type.Integer({ minimum: 0, maximum: 2_147_483_647, default: 0 }),
    /** Least gain of a split: what the sum of G² / (H + lambda_l2) grows by. @default 1 */
    min_gain_to_split: Type.Number({ minimum: 0, default: 1 }),
    /** L1 penalty on leaf values. @default 0 */
    lambda_l1: Type.Number({ minimum: 0, default: 0 }),
    /** L2 penalty on leaf values. @default 1 */
    lambda_l2: Type.Number({ minimum: 0, default: 1 }),
    /** Share of the rows that a tree is grown on. @default 0.8 */
    bagging_fraction: Type.Number({ exclusiveMinimum: 0, maximum: 1, default: 0.8 }),
    /** Rows are drawn anew after so many trees; 0: each tree is grown on all rows. @default 1 */
    bagging_freq: Type.Integer({ minimum: 0, maximum: 10_000, default: 1 }),
    /** Share of the features that each tree may use, drawn anew for each. @default 0.8 */
    feature_fraction: Type.Number({ exclusiveMinimum: 0, maximum: 1, default: 0.8 }),
    /** Split level by level, or the leaf of the greatest gain first. @default "depthwise" */
    grow_policy: Type.Union([Type.Literal("depthwise"), Type.Literal("leafwise")], { default: "depthwise" }),
    /** Trees without a better average precision on the validation part before training stops; 0: never. @default 0 */
    early_stopping_rounds: Type.Integer({ minimum: 0, default: 0 }),
    /** Weight of a fraud's row; a genuine one's is 1. @default 1 */
    scale_pos_weight: Type.Number({ exclusiveMinimum: 0, maximum: 1e6, default: 1 }),
    /** Weigh frauds so that they count as much as all genuine rows. @default false */
    is_unbalance: Type.Boolean({ default: false }),
    /** Start at the logarithm of the training odds instead of at even odds. @default false */
    boost_from_average: Type.Boolean({ default: false }),
    /** Of row and feature sampling. @default 1 */
    seed: Type.Integer({ minimum: -2_147_483_648, maximum: 4_294_967_295, default: 1 }),
  },
  strict,
);
export type TreeParams = Static<typeof TreeParams>;

/** How a logistic regression is fitted. */
export const LogisticParams = Type.Object(
  {
    /** L2 penalty on the weights of standardised features (1/C in scikit-learn); the intercept has none. @default 1 */
    lambda_l2: Type.Number({ minimum: 0, default: 1 }),
    /** Newton steps at most. @default 100 */
    num_iterations: Type.Integer({ minimum: 1, maximum: 10_000, default: 100 }),
  },
  strict,
);
export type LogisticParams = Static<typeof LogisticParams>;

/** Parameters with every default filled in, and what is said of those that were given; for people. */
export interface ReadParams<T> {
  params: T;
  notes: string[];
}

/**
 * @throws RequestError `training_params` for a name that is unknown or given twice, a value out of range, an objective
 *   that isn't telling fraud from genuine, what LightGBM or XGBoost do and this trainer doesn't, and what excludes
 *   each other
 */
export function readTreeParams(given: Readonly<Record<string, unknown>>): ReadParams<TreeParams> {
  const { values, notes } = named(TreeParams, TREE_NAMES, given);
  leafWise(values, notes);
  const params = complete(TreeParams, values);
  if (params.max_depth <= 0 && params.grow_policy === "depthwise" && params.num_leaves === 0) {
    throw refused("depth-wise trees need a max_depth or a num_leaves");
  }
  if (params.num_leaves === 1) throw refused("num_leaves is 1: a tree needs two leaves at least (0: the default)");
  if (params.is_unbalance && params.scale_pos_weight !== 1)
    throw refused("is_unbalance and scale_pos_weight exclude each other: both weight the frauds");
  const mostLeaves = params.max_depth > 0 ? 2 ** params.max_depth : Infinity;
  if (params.num_leaves > mostLeaves)
    notes.push(`max_depth=${params.max_depth} allows ${mostLeaves} leaves, not ${params.num_leaves}`);
  if ("seed" in values && params.feature_fraction === 1 && (params.bagging_fraction === 1 || params.bagging_freq === 0))
    notes.push("seed changes nothing: neither rows nor features are drawn");
  return { params, notes };
}

/** @throws RequestError as `readTreeParams` */
export function readLogisticParams(given: Readonly<Record<string, unknown>>): ReadParams<LogisticParams> {
  const { C: inverse, ...others } = given;
  const { values, notes } = named(LogisticParams, LOGISTIC_NAMES, others);
  if (inverse !== undefined && inverse !== null) {
    if ("lambda_l2" in values) throw refused("C and lambda_l2 are the same: give one of them");
    if (typeof inverse !== "number" || !(inverse > 0)) throw refused(`C is ${shown(inverse)}; it must be above 0`);
    values["lambda_l2"] = 1 / inverse;
    notes.push(`C=${inverse} is taken as lambda_l2=${1 / inverse}`);
  }
  return { params: complete(LogisticParams, values), notes };
}

/** @throws RequestError as `readTreeParams` */
export function readParams(
  algorithm: "gradient-boosted-trees" | "logistic-regression",
  given: Readonly<Record<string, unknown>>,
): ReadParams<TreeParams | LogisticParams> {
  return algorithm === "logistic-regression" ? readLogisticParams(given) : readTreeParams(given);
}

/** @throws RequestError as `readTreeParams` */
export function resolveTreeParams(given: Readonly<Record<string, unknown>>): TreeParams {
  return readTreeParams(given).params;
}

/** @throws RequestError as `readTreeParams` */
export function resolveLogisticParams(given: Readonly<Record<string, unknown>>): LogisticParams {
  return readLogisticParams(given).params;
}

/** Who limits the leaves means LightGBM's trees: they grow leaf by leaf, as deep as they come. */
function leafWise(values: Record<string, unknown>, notes: string[]): void {
  const { num_leaves, grow_policy, max_depth } = values;
  if (typeof num_leaves !== "number" || num_leaves < 2) return;
  const unsaid: string[] = [];
  if (grow_policy === undefined) {
    values["grow_policy"] = "leafwise";
    unsaid.push("grow_policy=leafwise");
  }
  if (max_depth === undefined) {
    values["max_depth"] = -1;
    unsaid.push("max_depth=-1 (no limit)");
  }
  if (unsaid.length > 0)
    notes.push(`num_leaves=${num_leaves}: with ${unsaid.join(" and ")}, as in LightGBM; give them for other trees`);
}

/** The values of a schema's parameters, by their own names. */
function named(
  schema: TObject,
  names: ParamNames,
  given: Readonly<Record<string, unknown>>,
): { values: Record<string, unknown>; notes: string[] } {
  const values: Record<string, unknown> = {};
  const from: Record<string, string> = {};
  const notes: string[] = [];
  for (const [as, raw] of Object.entries(given)) {
    // Python's None: as if it weren't given.
    if (raw === null || raw === "None") continue;
    const [name, value] = translated(names.aliases.get(as) ?? as, raw, schema);
    if (!(name in schema.properties)) {
      notes.push(noteOn(name, as, raw, names, schema));
      continue;
    }
    if (!(name in values)) {
      values[name] = value;
      from[name] = as;
    } else if (values[name] === value) notes.push(`${as} says the same as ${from[name]}`);
    else throw refused(`${name} is given twice, as ${from[name]} and as ${as}, with different values`);
  }
  return { values, notes };
}

/** XGBoost's words for the ways to grow. */
const GROW_POLICIES: Readonly<Record<string, string>> = {
  lossguide: "leafwise",
  leaf_wise: "leafwise",
  depth_wise: "depthwise",
};

function translated(name: string, raw: unknown, schema: TObject): [name: string, value: unknown] {
  if (name === "class_weight" && "is_unbalance" in schema.properties && raw === "balanced")
    return ["is_unbalance", true];
  if (name === "grow_policy" && typeof raw === "string") return [name, GROW_POLICIES[raw] ?? raw];
  if ((schema.properties[name] as TSchema | undefined)?.["type"] === "boolean") {
    if (raw === 1 || raw === "1" || raw === "+") return [name, true];
    if (raw === 0 || raw === "0" || raw === "-") return [name, false];
  }
  // XGBoost and scikit-learn turn early stopping off so.
  if (name === "early_stopping_rounds" && (raw === false || raw === -1)) return [name, 0];
  return [name, raw];
}

/** What is said of a parameter that the trainer doesn't have. @throws RequestError `training_params` */
function noteOn(name: string, as: string, value: unknown, names: ParamNames, schema: TObject): string {
  const said = `${as}=${shown(value)}`;
  if (name === "objective") {
    if (typeof value === "string" && BINARY_OBJECTIVES.has(value.toLowerCase()))
      return `${said} changes nothing: fraud or genuine is what is always learned`;
    throw refused(`${said}: only whether a payment is fraud (binary) can be learned; leave ${as} out`);
  }
  if (Object.hasOwn(names.withoutEffect, name)) return `${said} changes nothing here: ${names.withoutEffect[name]}`;
  if (Object.hasOwn(names.undone, name)) {
    const { off, instead } = names.undone[name];
    if (off.some((each) => each === value)) return `${said} changes nothing here: it is never done otherwise`;
    throw refused(`${said} is not done here: ${instead}`);
  }
  const own = Object.keys(schema.properties);
  if (name === "class_weight")
    throw refused(`${said} is not taken: ${own.includes("scale_pos_weight") ? "scale_pos_weight is" : "leave it out"}`);
  throw refused(`${as} is not a parameter of ${names.algorithm}${suggestion(as, names, own)}`);
}

function suggestion(as: string, { aliases, meant, undone, withoutEffect }: ParamNames, own: readonly string[]): string {
  const known = [...own, ...aliases.keys(), ...Object.keys(undone), ...Object.keys(withoutEffect)];
  const nearest = meant[as.toLowerCase()] ?? closestName(as, known);
  const meaning = nearest === null ? null : (aliases.get(nearest) ?? nearest);
  if (nearest === null || (meaning === as && !own.includes(as))) return `, which has ${own.join(", ")}`;
  return `; did you mean ${nearest}${meaning !== nearest && meaning !== null ? ` (${meaning})` : ""}?`;
}

/** @throws RequestError `training_params`, naming the range */
function complete<T extends TObject>(schema: T, values: Record<string, unknown>): Static<T> {
  const params = Value.Default(schema, values);
  const wrong = Value.Errors(schema, params).First();
  if (wrong === undefined) return params as Static<T>;
  const name = wrong.path.slice(1);
  throw refused(`${name} is ${shown(wrong.value)}; it must be ${rangeOf(schema.properties[name])}`);
}

function rangeOf(schema: TSchema): string {
  if (schema["type"] === "boolean") return "true or false";
  const choices = schema["anyOf"] as { const: string }[] | undefined;
  if (choices !== undefined) return choices.map(({ const: choice }) => choice).join(" or ");
  const { minimum, exclusiveMinimum, maximum } = schema as Record<string, number | undefined>;
  const from = exclusiveMinimum === undefined ? `from ${minimum}` : `above ${exclusiveMinimum}`;
  const to =
    maximum === undefined ? " on" : exclusiveMinimum === undefined ? ` to ${maximum}` : ` and up to ${maximum}`;
  return `${schema["type"] === "integer" ? "a whole number" : "a number"} ${from}${to}`;
}

function shown(value: unknown): string {
  return (typeof value === "string" ? value : JSON.stringify(value)).slice(0, 60);
}

function refused(message: string): RequestError {
  return new RequestError("training_params", message);
}
