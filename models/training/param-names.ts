/** A value as a request or the command line may give it. */
type GivenValue = number | string | boolean | null | readonly unknown[];

/** LightGBM's aliases of the parameters that the trainer has, and XGBoost's and scikit-learn's names of them. */
const TREE_ALIASES = aliases({
  num_iterations: `num_iteration n_iter num_tree num_trees num_round num_rounds nrounds num_boost_round n_estimators
    max_iter`,
  learning_rate: "shrinkage_rate shrinkage eta",
  num_leaves: "num_leaf max_leaves max_leaf max_leaf_nodes",
  max_bin: "max_bins",
  min_data_in_leaf: "min_data_per_leaf min_data min_child_samples min_samples_leaf",
  min_sum_hessian_in_leaf: "min_sum_hessian_per_leaf min_sum_hessian min_hessian min_child_weight",
  min_gain_to_split: "min_split_gain gamma min_split_loss",
  lambda_l1: "reg_alpha l1_regularization alpha",
  lambda_l2: "reg_lambda lambda l2_regularization",
  bagging_fraction: "sub_row subsample bagging",
  bagging_freq: "subsample_freq",
  feature_fraction: "sub_feature colsample_bytree",
  early_stopping_rounds: "early_stopping_round early_stopping n_iter_no_change",
  is_unbalance: "unbalance unbalanced_sets",
  seed: "random_seed random_state",
});
const LOGISTIC_ALIASES = aliases({
  num_iterations: "max_iter num_iteration n_iter n_estimators num_boost_round num_round num_rounds",
  lambda_l2: "reg_lambda lambda l2_regularization",
});

/** Aliases of parameters that the trainer doesn't have. */
const OTHER_ALIASES = aliases({
  objective: "objective_type app application loss loss_function",
  boosting: "boosting_type boost booster",
  num_threads: "num_thread nthread nthreads n_jobs thread_count",
  device_type: "device",
  verbosity: "verbose silent verbose_eval logging_level",
  metric: "metrics metric_types eval_metric custom_metric",
  metric_freq: "output_freq metric_period",
  is_provide_training_metric: "training_metric is_training_metric train_metric",
  tree_learner: "tree tree_type tree_learner_type",
  histogram_pool_size: "hist_pool_size",
  task: "task_type",
  num_class: "num_classes",
  bin_construct_sample_cnt: "subsample_for_bin",
  data_random_seed: "data_seed",
  bagging_seed: "bagging_fraction_seed",
  is_enable_sparse: "is_sparse enable_sparse sparse",
  enable_bundle: "is_enable_bundle bundle",
  pre_partition: "is_pre_partition",
  two_round: "two_round_loading use_two_round_loading",
  save_binary: "is_save_binary is_save_binary_file",
  output_model: "model_output model_out",
  snapshot_freq: "save_period",
  max_delta_step: "max_tree_output max_leaf_output",
  feature_fraction_bynode: "sub_feature_bynode colsample_bynode",
  pos_bagging_fraction: "pos_sub_row pos_subsample pos_bagging",
  neg_bagging_fraction: "neg_sub_row neg_subsample neg_bagging",
  extra_trees: "extra_tree",
  linear_tree: "linear_trees",
  monotone_constraints: "mc monotone_constraint monotonic_cst",
  categorical_feature: "cat_feature categorical_column cat_column categorical_features cat_features",
  drop_rate: "rate_drop",
});

/** What changes nothing here, and why. */
const WITHOUT_EFFECT: Readonly<Record<string, string>> = {
  ...each("verbosity", "the training says what it does by itself"),
  ...each("metric_freq is_provide_training_metric", "metrics are computed at the end"),
  ...each("metric first_metric_only", "early stopping looks at the average precision; all metrics are reported"),
  ...each("num_threads", "the training takes one thread"),
  ...each(
    "device_type gpu_platform_id gpu_device_id gpu_use_dp num_gpu predictor gpu_id",
    "the training runs on the processor",
  ),
  ...each(
    `force_col_wise force_row_wise histogram_pool_size tree_learner is_enable_sparse enable_bundle pre_partition
      two_round feature_pre_filter num_machines max_cached_hist_node use_quantized_grad sketch_eps
      max_conflict_rate n_gpus single_precision_histogram`,
    "it concerns speed and memory in LightGBM or XGBoost, not the model",
  ),
  ...each("tree_method", "trees are always grown on histograms"),
  ...each("deterministic", "the same input always gives the same trees"),
  ...each("min_data_in_bin bin_construct_sample_cnt", "all rows are binned, by their quantiles"),
  ...each(
    "bagging_seed feature_fraction_seed data_random_seed extra_seed objective_seed drop_seed seed_per_iteration",
    "seed is the one for all that is drawn",
  ),
  ...each(
    `save_binary output_model snapshot_freq importance_type saved_feature_importance_type validate_parameters
      use_label_encoder enable_categorical disable_default_eval_metric callbacks allow_writing_files train_dir`,
    "it doesn't concern the model",
  ),
  ...each(
    "max_cat_threshold cat_l2 cat_smooth max_cat_to_onehot max_onehot min_data_per_group",
    "it concerns LightGBM's and XGBoost's own handling of categories",
  ),
};

/** What isn't done here: the values with which it is off, and what to do instead. */
interface Undone {
  off: readonly GivenValue[];
  instead: string;
}

const UNDONE: Readonly<Record<string, Undone>> = {
  boosting: {
    off: ["gbdt", "gbrt", "gbtree", "Plain"],
    instead: "only gradient boosting (gbdt) is done; for gblinear take the algorithm logistic-regression",
  },
  data_sample_strategy: { off: ["bagging"], instead: "rows are drawn by bagging_fraction" },
  sampling_method: { off: ["uniform"], instead: "rows are drawn by bagging_fraction" },
  task: { off: ["train", "training", "CPU"], instead: "leave it out" },
  process_type: { off: ["default"], instead: "leave it out" },
  feature_fraction_bynode: { off: [1], instead: "feature_fraction draws features for each tree" },
  colsample_bylevel: { off: [1], instead: "feature_fraction draws features for each tree" },
  pos_bagging_fraction: { off: [1], instead: "bagging_fraction draws rows, scale_pos_weight weights frauds" },
  neg_bagging_fraction: { off: [1], instead: "bagging_fraction draws rows, scale_pos_weight weights frauds" },
  max_delta_step: { off: [0], instead: "raise lambda_l2 to bound leaf values" },
  path_smooth: { off: [0], instead: "raise lambda_l2 or min_sum_hessian_in_leaf" },
  extra_trees: { off: [false, 0], instead: "leave it out" },
  linear_tree: { off: [false, 0], instead: "leave it out" },
  drop_rate: { off: [], instead: "it belongs to dart, and only gradient boosting (gbdt) is done" },
  top_rate: { off: [], instead: "it belongs to goss; bagging_fraction draws rows" },
  other_rate: { off: [], instead: "it belongs to goss; bagging_fraction draws rows" },
  early_stopping_min_delta: { off: [0], instead: "leave it out: early_stopping_rounds alone decides" },
  monotone_constraints: { off: ["", 0], instead: "leave it out" },
  interaction_constraints: { off: [""], instead: "leave it out" },
  categorical_feature: { off: ["", "auto"], instead: "leave it out: columns of text are used as categories" },
  num_parallel_tree: { off: [1], instead: "raise num_iterations" },
  num_class: { off: [1, 2], instead: "a model tells fraud from genuine: two classes" },
  zero_as_missing: { off: [false, 0], instead: "leave the cells of missing values empty" },
  use_missing: { off: [true, 1], instead: "leave it out: each split decides where missing values go" },
  missing: { off: ["nan", "NaN"], instead: "leave the cells of missing values empty" },
  sigmoid: { off: [1], instead: "leave it out" },
  base_score: { off: [0.5], instead: "boost_from_average=true begins at the share of frauds" },
  refresh_leaf: { off: [1, true], instead: "leave it out" },
};

const LOGISTIC_UNDONE: Readonly<Record<string, Undone>> = {
  penalty: { off: ["l2", "none"], instead: "only lambda_l2 is done" },
  l1_ratio: { off: [0], instead: "only lambda_l2 is done" },
  lambda_l1: { off: [0], instead: "only lambda_l2 is done" },
  fit_intercept: { off: [true, 1], instead: "leave it out" },
  boosting: { off: ["gblinear"], instead: "for trees take the algorithm gradient-boosted-trees" },
  scale_pos_weight: { off: [1], instead: "choose thresholds instead, or take gradient-boosted-trees" },
  is_unbalance: { off: [false, 0], instead: "choose thresholds instead, or take gradient-boosted-trees" },
  num_class: UNDONE["num_class"],
};
const LOGISTIC_WITHOUT_EFFECT: Readonly<Record<string, string>> = {
  ...pick(WITHOUT_EFFECT, "verbosity metric num_threads device_type deterministic"),
  ...each("solver tol dual warm_start intercept_scaling multi_class", "it is fitted by Newton's method"),
  ...each("seed", "nothing is drawn at random"),
};

/** CatBoost's names, and other words for the same: not taken, since they could mean something else, but suggested. */
const MEANT: Readonly<Record<string, string>> = {
  depth: "max_depth",
  iterations: "num_iterations",
  epochs: "num_iterations",
  trees: "num_iterations",
  rounds: "num_iterations",
  lr: "learning_rate",
  l2_leaf_reg: "lambda_l2",
  reg: "lambda_l2",
  l2: "lambda_l2",
  l1: "lambda_l1",
  rsm: "feature_fraction",
  max_features: "feature_fraction",
  border_count: "max_bin",
  od_wait: "early_stopping_rounds",
  patience: "early_stopping_rounds",
  auto_class_weights: "is_unbalance",
  class_weights: "scale_pos_weight",
  min_samples_split: "min_data_in_leaf",
  leaves: "num_leaves",
  bins: "max_bin",
};

/** The objectives that are what is trained here. */
export const BINARY_OBJECTIVES = new Set([
  ..."binary binary:logistic binary:logitraw reg:logistic cross_entropy xentropy logloss log_loss".split(" "),
  ..."binary_logloss binary_crossentropy crossentropy deviance binomial logistic".split(" "),
]);

/** The names that an algorithm knows, beside its parameters. */
export interface ParamNames {
  algorithm: string;
  aliases: ReadonlyMap<string, string>;
  withoutEffect: Readonly<Record<string, string>>;
  undone: Readonly<Record<string, Undone>>;
  meant: Readonly<Record<string, string>>;
}

export const TREE_NAMES: ParamNames = {
  algorithm: "gradient-boosted-trees",
  aliases: new Map([...OTHER_ALIASES, ...TREE_ALIASES]),
  withoutEffect: WITHOUT_EFFECT,
  undone: UNDONE,
  meant: MEANT,
};
export const LOGISTIC_NAMES: ParamNames = {
  algorithm: "logistic-regression",
  aliases: new Map([...OTHER_ALIASES, ...TREE_ALIASES, ...LOGISTIC_ALIASES]),
  withoutEffect: LOGISTIC_WITHOUT_EFFECT,
  undone: LOGISTIC_UNDONE,
  meant: {},
};

function aliases(table: Readonly<Record<string, string>>): ReadonlyMap<string, string> {
  return new Map(Object.entries(table).flatMap(([name, list]) => words(list).map((alias) => [alias, name] as const)));
}

function each(names: string, why: string): Record<string, string> {
  return Object.fromEntries(words(names).map((name) => [name, why]));
}

function pick(table: Readonly<Record<string, string>>, names: string): Record<string, string> {
  return Object.fromEntries(words(names).map((name) => [name, table[name]]));
}

function words(text: string): string[] {
  return text.trim().split(/\s+/);
}
