import { Type, type Static, type TLiteral } from "@sinclair/typebox";
import { Value } from "@sinclair/typebox/value";
import { FraudstreamError, RequestError, messageOf } from "../../schemas/errors.js";
import { parseTime } from "../../schemas/time-text.js";
import { COLUMN_KINDS } from "../features/column-sources.js";
import { parseFeatures } from "../features/features-file.js";
import { READING_FIELDS, READING_FIELD_NAMES } from "../datasets/reading-request.js";
import { parseTimeFormat } from "../datasets/times/time-format.js";
import { DEFAULT_DECLINE_PRECISION, DEFAULT_REVIEW_CAPACITY } from "../evaluation/thresholds.js";
import { OfflineMetrics } from "../manifest.js";
import { readParams } from "../training/params.js";

const closed = { additionalProperties: false } as const;
/** ISO 8601 with a zone. */
const Time = Type.String({
  pattern: "^\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d(:\\d\\d(\\.\\d{1,9})?)?(Z|[+-]\\d\\d:\\d\\d)$",
  description: "ISO 8601 with a zone",
});
const TimeRange = Type.Object(
  { from: Time, to: Time },
  { ...closed, description: "Event times: from `from` up to, not including, `to`" },
);

export const TrainingRequest = Type.Object(
  {
    dataset: Type.Union(
      [
        Type.String({
          pattern: "^https?://",
          maxLength: 2_000,
          description:
            "A public http or https link to a CSV file (plain, gzipped, zipped or by zstd) or a Parquet file",
        }),
        TimeRange,
      ],
      { description: "A link to a CSV or Parquet file, or the event times of stored transactions" },
    ),
    ...READING_FIELDS,
    algorithm: Type.Union([Type.Literal("gradient-boosted-trees"), Type.Literal("logistic-regression")]),
    params: Type.Optional(
      Type.Record(
        Type.String({ maxLength: 100 }),
        Type.Union([
          Type.Number(),
          Type.String({ maxLength: 100 }),
          Type.Boolean(),
          Type.Null(),
          Type.Array(Type.Union([Type.Number(), Type.String({ maxLength: 100 })]), { maxItems: 100 }),
        ]),
        {
          description:
            "Parameters of the training, with LightGBM's names or aliases, or XGBoost's. What changes nothing here " +
            "(verbose, metric, n_jobs) is taken, and said in the job's notes; null: the default",
          maxProperties: 100,
          examples: [{ objective: "binary", n_estimators: 200, num_leaves: 31, learning_rate: 0.05 }],
        },
      ),
    ),
    features: Type.Optional(
      Type.Array(
        Type.Union([
          Type.String({ minLength: 1, maxLength: 200 }),
          // Its fields are checked by `parseFeatures`, which names a mistake by its path.
          Type.Record(Type.String(), Type.Unknown(), {
            description:
              'A feature from columns: {"name", "kind", ...}, as schemas/features.schema.json says; kind is one of ' +
              COLUMN_KINDS.join(", "),
          }),
        ]),
        {
          minItems: 1,
          maxItems: 2_000,
          uniqueItems: true,
          description:
            "Names of the features to use; a text attribute's name stands for all of its values. Windowed " +
            "features have names such as card_count_7d, card_mean_30d, card_seconds_since_last, " +
            "merchant_count_1d, merchant_fraud_share_30d (models/features/README.md). What lies between columns is " +
            "asked for by what it is made of. Default: what the data set offers",
          examples: [
            [
              "amount",
              "card_count_7d",
              {
                name: "over_limit",
                kind: "difference",
                of: ["amount", "attributes.credit_limit"],
              },
            ],
          ],
        },
      ),
    ),
    before: Type.Optional(
      Type.String({ ...Time, description: "Rows from this event time on are left out; ISO 8601 with a zone" }),
    ),
    train: Type.Optional(
      Type.Object(TimeRange.properties, {
        ...closed,
        description:
          "Event times of the rows to train on; other rows that are not tested on only serve as history. Default: all",
      }),
    ),
    test: Type.Optional(
      Type.Union([TimeRange, Type.Null()], {
        description:
          "Event times of the rows to test on, which are not trained on. Default: the latest 30 %; null: none",
      }),
    ),
    review_capacity: Type.Optional(
      Type.Number({
        exclusiveMinimum: 0,
        maximum: 1,
        default: DEFAULT_REVIEW_CAPACITY,
        description: "Share of all transactions that people can review: the review threshold is chosen for it",
      }),
    ),
    decline_precision: Type.Optional(
      Type.Number({
        exclusiveMinimum: 0,
        maximum: 1,
        default: DEFAULT_DECLINE_PRECISION,
        description: "Least share of frauds among the transactions to decline: the decline threshold is chosen for it",
      }),
    ),
    seed: Type.Optional(Type.Integer({ minimum: 0, maximum: 4_294_967_295 })),
    name: Type.Optional(
      Type.String({
        pattern: "^[a-z0-9][a-z0-9-]{0,62}$",
        description: "The model's name; its id is name@version. Default: derived from the file's name",
      }),
    ),
    enable: Type.Optional(
      literals(["never", "if_better"], {
        default: "never",
        description: "if_better: make it the champion if it does better on rows later than both models' training data",
      }),
    ),
    accept_warnings: Type.Optional(
      Type.Boolean({
        default: false,
        description:
          "Whether if_better may enable a model that is too good to be true: one with `warnings` in its metrics",
      }),
    ),
    metric: Type.Optional(
      literals(["average_precision", "f1"], {
        default: "average_precision",
        description: "The metric that decides what is better",
      }),
    ),
  },
  {
    ...closed,
    title: "TrainingRequest",
    examples: [
      { dataset: "https://example.com/transactions.csv.gz", algorithm: "gradient-boosted-trees", name: "cards" },
    ],
  },
);
export type TrainingRequest = Static<typeof TrainingRequest>;

/** What is trained if a request doesn't say. */
export const DEFAULT_ALGORITHM = "gradient-boosted-trees";
/** A request as it is sent over HTTP: everything except the data set has a default. */
export const TrainingRequestBody = Type.Object(
  {
    ...TrainingRequest.properties,
    algorithm: Type.Optional({ ...TrainingRequest.properties.algorithm, default: DEFAULT_ALGORITHM }),
  },
  {
    ...closed,
    title: "TrainingRequest",
    examples: [{ dataset: "https://example.com/transactions.csv.gz" }, ...(TrainingRequest.examples as object[])],
  },
);
export type TrainingRequestBody = Static<typeof TrainingRequestBody>;

/** How a model did compared with the champion. Null: can't be computed. */
export const Comparison = Type.Object(
  {
    metric: literals(["average_precision", "f1"]),
    /** Null: none was deployed. */
    champion: Type.Union([Type.String(), Type.Null()]),
    /** Epoch of the deployment that had it; -1: there was none. */
    epoch: Type.Integer(),
    /** Rows on which both were judged. */
    rows: Type.Integer(),
    frauds: Type.Integer(),
    candidate_value: Type.Union([Type.Number(), Type.Null()]),
    champion_value: Type.Union([Type.Number(), Type.Null()]),
    /**
     * For both models, on the rows that they were judged on, each at its own review threshold; null: not judged. Absent
     * in jobs of older versions.
     */
    candidate_metrics: Type.Optional(Type.Union([OfflineMetrics, Type.Null()])),
    champion_metrics: Type.Optional(Type.Union([OfflineMetrics, Type.Null()])),
    better: Type.Boolean(),
    reason: Type.String(),
  },
  { ...closed, title: "Comparison" },
);
export type Comparison = Static<typeof Comparison>;

/** What a finished job reports about its model, as JSON in JobFinished. */
export const JobMetrics = Type.Object(
  {
    rows: Type.Integer({ description: "Transactions in the data set" }),
    frauds: Type.Integer(),
    training_seconds: Type.Number(),
    features: Type.Integer(),
    thresholds: Type.Object({ review: Type.Number(), decline: Type.Number() }, closed),
    /** The target that the thresholds were chosen for; absent in jobs of older versions. */
    review_capacity: Type.Optional(Type.Number({ description: "Share of all transactions that people can review" })),
    decline_precision: Type.Optional(
      Type.Number({ description: "Least share of frauds among the transactions to decline" }),
    ),
    validation: Type.Union([OfflineMetrics, Type.Null()]),
    test: Type.Union([OfflineMetrics, Type.Null()]),
    manifest_sha256: Type.String(),
    /** Absent in jobs of older versions. */
    warnings: Type.Optional(
      Type.Array(Type.String(), {
        description:
          "What is too good to be true: metrics close to 1, or a feature that finds the frauds by itself. " +
          "They keep if_better from enabling the model, unless the request accepts them",
      }),
    ),
    notes: Type.Array(Type.String(), { description: "Notes on what was recognised, generated or left out" }),
    comparison: Type.Union([Comparison, Type.Null()]),
  },
  { ...closed, title: "JobMetrics" },
);
export type JobMetrics = Static<typeof JobMetrics>;

/** Epoch milliseconds of a range of event times. */
export interface EventTimes {
  from: number;
  to: number;
}

/** @throws RequestError `bad_training_request` for invalid times or an empty range */
export function eventTimes(range: Static<typeof TimeRange>, what: string): EventTimes {
  const [from, to] = [range.from, range.to].map(parseTime);
  if (Number.isNaN(from) || Number.isNaN(to))
    throw new RequestError("bad_training_request", `${what}: ${Number.isNaN(from) ? "from" : "to"} is no date`);
  if (from >= to) throw new RequestError("bad_training_request", `${what}: from must be before to`);
  return { from, to };
}

/**
 * Checks what the schema can't, so that errors are reported before anything is fetched.
 *
 * @throws RequestError `bad_training_request`, `bad_time_format`, `training_params`, `bad_features`
 */
export function checkTrainingRequest(request: TrainingRequest): void {
  const { algorithm, params = {}, dataset, before, train, test, enable } = request;
  readParams(algorithm, params);
  if (request.features !== undefined) parseFeatures(request.features);
  if (before !== undefined && Number.isNaN(parseTime(before)))
    throw new RequestError("bad_training_request", "before: it is not a date");
  if (test === null && enable === "if_better")
    throw new RequestError(
      "bad_training_request",
      "test: without a test part it cannot be decided whether the model is better",
    );
  if (train !== undefined) eventTimes(train, "train");
  if (test !== undefined && test !== null) eventTimes(test, "test");
  if (request.time_format !== undefined) parseTimeFormat(request.time_format);
  if (typeof dataset !== "string") {
    eventTimes(dataset, "dataset");
    const field = READING_FIELD_NAMES.find((name) => request[name] !== undefined);
    if (field === "columns")
      throw new RequestError("bad_training_request", "columns: stored transactions have no columns to name");
    if (field !== undefined)
      throw new RequestError(
        "bad_training_request",
        `${field}: it says how a file is read; stored transactions are none`,
      );
  } else if (!URL.canParse(dataset)) throw new RequestError("bad_training_request", "dataset: it is not a URL");
  else if (new URL(dataset).username !== "" || new URL(dataset).password !== "")
    throw new RequestError("bad_training_request", "dataset: a link must not hold a user name or password");
}

/**
 * The request of a job, as it is in fraud.control.
 *
 * @throws FraudstreamError `bad_training_request` if it was written by anything other than `requestJob`
 */
export function parseTrainingRequest(json: string): TrainingRequest {
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch (cause) {
    throw new FraudstreamError("bad_training_request", `the request is not JSON: ${messageOf(cause)}`, { cause });
  }
  const wrong = Value.Errors(TrainingRequest, value).First();
  if (wrong !== undefined)
    throw new FraudstreamError(
      "bad_training_request",
      `the request is wrong at ${wrong.path || "/"}: ${wrong.message}`,
    );
  return value as TrainingRequest;
}

/** The metrics of a finished job; null: it has none, or none that can be read. */
export function parseJobMetrics(json: string | null): JobMetrics | null {
  if (json === null) return null;
  try {
    const value: unknown = JSON.parse(json);
    return Value.Check(JobMetrics, value) ? value : null;
  } catch {
    return null;
  }
}

function literals<const T extends string>(
  values: readonly T[],
  options: { default?: T; description?: string } = {},
): ReturnType<typeof Type.Union<TLiteral<T>[]>> {
  return Type.Union(
    values.map((value) => Type.Literal(value)),
    options,
  );
}
