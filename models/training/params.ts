import { Type, type Static, type TObject } from "@sinclair/typebox";
import { Value } from "@sinclair/typebox/value";
import { RequestError } from "../../schemas/errors.js";

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
     * Leaves of a tree at most; 0: 31 when growing leaf-wise, as many as `max_depth` allows when depth-wise. @default 0
     */
    num_leaves: Type.Integer({ minimum: 0, maximum: 65_536, default: 0 }),
    /**
     * Bins of a feature at most, the one for missing values included. More cost time and, beyond 256, memory. @default
     * 1024
     */
    max_bin: Type.Integer({ minimum: 3, maximum: 4096, default: 1024 }),
    /** Least sum of hessians in a leaf (XGBoost's min_child_weight). @default 1 */
    min_sum_hessian_in_leaf: Type.Number({ minimum: 0, default: 1 }),
    /** Least gain of a split: what the sum of G² / (H + lambda_l2) grows by. @default 1 */
    min_gain_to_split: Type.Number({ minimum: 0, default: 1 }),
    /** L2 penalty on leaf values. @default 1 */
    lambda_l2: Type.Number({ minimum: 0, default: 1 }),
    /** Share of the rows that each tree is grown on, drawn anew for each. @default 0.8 */
    bagging_fraction: Type.Number({ exclusiveMinimum: 0, maximum: 1, default: 0.8 }),
    /** Share of the features that each tree may use, drawn anew for each. @default 0.8 */
    feature_fraction: Type.Number({ exclusiveMinimum: 0, maximum: 1, default: 0.8 }),
    /** Split level by level, or the leaf of the greatest gain first. @default "depthwise" */
    grow_policy: Type.Union([Type.Literal("depthwise"), Type.Literal("leafwise")], { default: "depthwise" }),
    /** Trees without a better average precision on the validation part before training stops; 0: never. @default 0 */
    early_stopping_rounds: Type.Integer({ minimum: 0, default: 0 }),
    /** Weight of a fraud's row; a genuine one's is 1. @default 1 */
    scale_pos_weight: Type.Number({ exclusiveMinimum: 0, maximum: 1e6, default: 1 }),
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

const ALIASES: Readonly<Record<string, string>> = {
  n_estimators: "num_iterations",
  num_boost_round: "num_iterations",
  num_round: "num_iterations",
  num_trees: "num_iterations",
  max_iter: "num_iterations",
  eta: "learning_rate",
  shrinkage_rate: "learning_rate",
  max_leaves: "num_leaves",
  max_leaf_nodes: "num_leaves",
  max_bins: "max_bin",
  min_child_weight: "min_sum_hessian_in_leaf",
  min_sum_hessian: "min_sum_hessian_in_leaf",
  min_split_gain: "min_gain_to_split",
  reg_lambda: "lambda_l2",
  lambda: "lambda_l2",
  subsample: "bagging_fraction",
  sub_row: "bagging_fraction",
  bagging: "bagging_fraction",
  colsample_bytree: "feature_fraction",
  sub_feature: "feature_fraction",
  early_stopping_round: "early_stopping_rounds",
  n_iter_no_change: "early_stopping_rounds",
  random_state: "seed",
  random_seed: "seed",
};

/** XGBoost's words for the ways to grow. */
const GROW_POLICIES: Readonly<Record<string, string>> = {
  lossguide: "leafwise",
  leaf_wise: "leafwise",
  depth_wise: "depthwise",
};

/** @throws RequestError `training_params` for a name that is unknown or given twice, or a value out of range */
export function resolveTreeParams(given: Readonly<Record<string, unknown>>): TreeParams {
  const params = resolve(TreeParams, given);
  if (params.max_depth <= 0 && params.grow_policy === "depthwise" && params.num_leaves === 0) {
    throw new RequestError("training_params", "depth-wise trees need a max_depth or a num_leaves");
  }
  if (params.num_leaves === 1)
    throw new RequestError("training_params", "num_leaves: a tree needs two leaves at least");
  return params;
}

/** @throws RequestError `training_params` for a name that is unknown or given twice, or a value out of range */
export function resolveLogisticParams(given: Readonly<Record<string, unknown>>): LogisticParams {
  return resolve(LogisticParams, given);
}

function resolve<T extends TObject>(schema: T, given: Readonly<Record<string, unknown>>): Static<T> {
  const params: Record<string, unknown> = {};
  for (const [alias, value] of Object.entries(given)) {
    const name = ALIASES[alias] ?? alias;
    if (name in params) throw new RequestError("training_params", `${name} is given twice (as ${alias}, too)`);
    params[name] = name === "grow_policy" && typeof value === "string" ? (GROW_POLICIES[value] ?? value) : value;
  }
  const complete = Value.Default(schema, params);
  const wrong = Value.Errors(schema, complete).First();
  if (wrong !== undefined)
    throw new RequestError("training_params", `${wrong.path.slice(1)}: ${wrong.message.toLowerCase()}`);
  return complete as Static<T>;
}
