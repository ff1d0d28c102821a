import { expect, it } from "vitest";
import { resolveLogisticParams, resolveTreeParams } from "../../../../models/training/params.js";

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
  [{ num_leaves: 1 }, /two leaves/],
])("refuses %j", (given, message) => {
  expect(() => resolveTreeParams(given)).toThrow(
    expect.objectContaining({ code: "training_params", message: expect.stringMatching(message) as string }) as Error,
  );
});
