import { expect, it } from "vitest";
import {
  readLogisticParams,
  readTreeParams,
  resolveLogisticParams,
  resolveTreeParams,
} from "../../../../models/training/params.js";

it("fills in defaults", () => {
  expect(resolveTreeParams({})).toMatchObject({
    num_iterations: 100,
    learning_rate: 0.1,
    scale_pos_weight: 1,
    boost_from_average: false,
    grow_policy: "depthwise",
  });
  expect(resolveLogisticParams({})).toEqual({ lambda_l2: 1, num_iterations: 100 });
});

it("takes the common aliases", () => {
  const params = resolveTreeParams({
    n_estimators: 7,
    eta: 0.3,
    min_child_weight: 2,
    reg_lambda: 3,
    subsample: 0.5,
    colsample_bytree: 0.4,
    random_state: 9,
    grow_policy: "lossguide",
  });
  expect(params).toMatchObject({
    num_iterations: 7,
    learning_rate: 0.3,
    min_sum_hessian_in_leaf: 2,
    lambda_l2: 3,
    bagging_fraction: 0.5,
    feature_fraction: 0.4,
    seed: 9,
    grow_policy: "leafwise",
  });
});

it.each([
  [{ depth: 3 }, /depth/],
  [{ eta: 0.1, learning_rate: 0.2 }, /learning_rate is given twice/],
  [{ max_bin: 5000 }, /max_bin.*4096/],
  [{ num_iterations: 1.5 }, /num_iterations/],
  [{ learning_rate: "0.1" }, /learning_rate/],
  [{ grow_policy: "sideways" }, /grow_policy/],
  [{ max_depth: -1 }, /max_depth or a num_leaves/],
  [{ learning_rate: 5 }, /learning_rate is 5; it must be a number above 0 and up to 1/],
  [{ num_leaves: 70_000 }, /num_leaves is 70000; it must be a whole number from 0 to 65536/],
  [{ lambda_l2: -1 }, /lambda_l2 is -1; it must be a number from 0 on/],
  [{ boost_from_average: "maybe" }, /boost_from_average is maybe; it must be true or false/],
  [{ is_unbalance: true, scale_pos_weight: 5 }, /exclude each other/],
  [{ class_weight: "balanced", scale_pos_weight: 5 }, /exclude each other/],
  [{ num_trees: 5, n_estimators: 6 }, /num_iterations is given twice, as num_trees and as n_estimators/],
  [{ objective: "multiclass" }, /objective=multiclass: only whether a payment is fraud.*leave objective out/],
  [{ objective: "regression" }, /objective=regression/],
  [{ app: "lambdarank" }, /app=lambdarank/],
  [{ boosting_type: "dart" }, /boosting_type=dart is not done here/],
  [{ monotone_constraints: [1, 0] }, /monotone_constraints=\[1,0\] is not done here/],
  [{ num_leafs: 7 }, /did you mean num_leaf/],
  [{ Learning_Rate: 0.1 }, /did you mean learning_rate\?/],
  [{ n_estimator: 5 }, /did you mean n_estimators \(num_iterations\)\?/],
  [{ l2_leaf_reg: 3 }, /did you mean lambda_l2\?/],
  [{ colour: "red" }, /colour is not a parameter of gradient-boosted-trees, which has num_iterations, /],
  [{ num_leaves: 1 }, /two leaves/],
])("refuses %j", (given, message) => {
  expect(() => resolveTreeParams(given)).toThrow(
    expect.objectContaining({ code: "training_params", message: expect.stringMatching(message) as string }) as Error,
  );
});

it.each([
  "verbose",
  "verbosity",
  "metric",
  "n_jobs",
  "nthread",
  "num_threads",
  "device",
  "force_col_wise",
  "tree_method",
  "bagging_seed",
  "eval_metric",
  "deterministic",
])("takes %s with a note", (name) => {
  const { params, notes } = readTreeParams({ [name]: -1 });
  expect(params).toEqual(resolveTreeParams({}));
  expect(notes).toEqual([expect.stringContaining(`${name}=-1 changes nothing here`)]);
});

it.each([
  { objective: "binary" },
  { objective: "binary:logistic" },
  { boosting_type: "gbdt" },
  { booster: "gbtree" },
  { colsample_bynode: 1 },
  { extra_trees: false },
  { metric: ["auc", "binary_logloss"] },
])("accepts, with a note, a value that is in effect anyway: %j", (given) => {
  const { params, notes } = readTreeParams(given);
  expect(params).toEqual(resolveTreeParams({}));
  expect(notes).toHaveLength(1);
});

it("grows leaf by leaf to any depth if the leaves are limited", () => {
  const { params, notes } = readTreeParams({ num_leaves: 127 });
  expect(params).toMatchObject({ num_leaves: 127, grow_policy: "leafwise", max_depth: -1 });
  expect(notes).toEqual([expect.stringMatching(/num_leaves=127: with grow_policy=leafwise and max_depth=-1/)]);
  expect(readTreeParams({ num_leaves: 127, grow_policy: "depthwise" }).params).toMatchObject({
    grow_policy: "depthwise",
    max_depth: -1,
  });
  expect(readTreeParams({ num_leaves: 127, max_depth: 4 }).notes[1]).toMatch(/max_depth=4 allows 16 leaves, not 127/);
});

it("resolving parameters twice changes nothing", () => {
  for (const given of [{}, { num_leaves: 127 }, { is_unbalance: "1" }, { subsample_freq: 3, reg_alpha: 2 }])
    expect(resolveTreeParams(resolveTreeParams(given))).toEqual(resolveTreeParams(given));
});

it("takes Python's None as not given, and the same value twice", () => {
  expect(resolveTreeParams({ random_state: null, max_depth: "None" })).toEqual(resolveTreeParams({}));
  expect(readTreeParams({ eta: 0.2, learning_rate: 0.2 }).params.learning_rate).toBe(0.2);
});

it("says so if a seed draws nothing", () => {
  expect(readTreeParams({ seed: 2 }).notes).toEqual([]);
  expect(readTreeParams({ seed: 2, subsample: 1, colsample_bytree: 1 }).notes).toEqual([
    expect.stringMatching(/seed changes nothing/),
  ]);
});

it("reads a logistic regression's parameters in scikit-learn's terms", () => {
  const given = { C: 0.5, penalty: "l2", solver: "lbfgs", max_iter: 50, n_jobs: -1, random_state: 1, verbose: 0 };
  const { params, notes } = readLogisticParams(given);
  expect(params).toEqual({ lambda_l2: 2, num_iterations: 50 });
  expect(notes).toHaveLength(6);
  expect(() => readLogisticParams({ num_leaves: 31 })).toThrow(/num_leaves is not a parameter of logistic-regression/);
  expect(() => readLogisticParams({ penalty: "l1" })).toThrow(/penalty=l1 is not done here/);
  expect(() => readLogisticParams({ class_weight: "balanced" })).toThrow(/class_weight=balanced is not taken/);
});
