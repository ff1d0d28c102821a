/** A part of an OpenAPI document. */
type Part = Readonly<Record<string, unknown>>;

/** What fields of these names hold in examples, wherever they stand. */
const BY_NAME: Readonly<Record<string, unknown>> = {
  id: "cards@1",
  model: "cards@1",
  a: "cards@1",
  b: "cards@2",
  champion: "cards@1",
  name: "amount",
  feature: "amount",
  names: "amount",
  epoch: 12,
  job: "5b9f3a4e-0d5c-4a53-8f0b-2c3c1c0b1a77",
  transaction_id: "t-1",
  card_id: "c-1",
  merchant_id: "m-1",
  currency: "EUR",
  amount: 812.5,
  dataset: "https://example.com/transactions.csv.gz",
  location: "/api/v1/predictions/t-1",
  username: "ann",
  user_id: "7f2d0c52-5f6c-4d3e-8a42-1f1c9a0a3b77",
  registered_by: "7f2d0c52-5f6c-4d3e-8a42-1f1c9a0a3b77",
  requested_by: "7f2d0c52-5f6c-4d3e-8a42-1f1c9a0a3b77",
  requested_by_name: "ann",
  who: "7f2d0c52-5f6c-4d3e-8a42-1f1c9a0a3b77",
  who_name: "ann",
  password: "a long password of hers",
  current_password: "the password until now",
  email: "ann@example.com",
  access_token: "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI3ZjJkMGM1MiJ9.c2lnbmF0dXJl",
  expires_in: 3600,
  from: "2026-10-23T09:30:00.000Z",
  to: "2026-11-22T09:30:00.000Z",
  at: "2026-11-22T00:00:00.000Z",
  before: "2026-11-22T00:00:00Z",
  request_id: "b0b9a2f4-6f0e-4a52-9d3c-0d1b6a1f7c11",
  worker: "scoring-1-4711",
  rows: 57_000,
  evaluated: 51_000,
  labelled: 49_500,
  frauds: 171,
  genuine: 50_829,
  precision: 0.81,
  recall: 0.62,
  accuracy: 0.998,
  roc_auc: 0.942,
  f1: 0.7,
  average_precision: 0.66,
  alert_rate: 0.0023,
  baseline_accuracy: 0.9966,
  time_ms: 0.4,
  scoring_ms: 0.4,
  scoring_ms_p50: 0.3,
  scoring_ms_p99: 1.2,
  training_seconds: 14.2,
  true_positives: 106,
  false_positives: 25,
  false_negatives: 65,
  true_negatives: 50_804,
  false_positives_per_fraud_caught: 0.24,
  recall_by_value: 0.71,
  detected: 41_200.5,
  missed: 16_830,
  value: 58_030.5,
  review: 0.4,
  decline: 0.8,
  score: 0.974,
  contribution: 2.1,
  psi: 0.003,
  by_chance: 0.01,
  watch: 0.1,
  drifted: 0.25,
  percent: 63.2,
  phase: "boosting",
  seed: 1,
  code: "unknown_schema",
  reason: "no schema has the id 999",
  step: "decode",
  topic: "fraud.transactions",
  partition: 3,
  offset: 1_204,
  attempt: 1,
  count: 2,
  total: 2,
  limit: 100,
  next_cursor: null,
  next: null,
  cause: null,
  key: "Yy0x",
  route: "/api/v1/models/:id/thresholds",
  url: "/api/v1/models/cards@1/thresholds",
  method: "PUT",
  address: "192.0.2.7",
  status: 200,
  algorithm: "gradient-boosted-trees",
  schema: '{"type":"record","name":"Label","fields":[]}',
  subject: "fraud.labels-value",
  kafka: "up",
  clickhouse: "up",
  deployment: "in force",
  problem: "cannot load cards@2: artifact_missing",
  codes: "unknown_schema",
  source: "transactions.csv.gz",
  decision: "decline",
  input: "features",
  output: "probabilities",
  feature_hash: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
  no_reasons: null,
  missing_partitions: 2,
  problems: "cannot load cards@2: artifact_missing",
  notes: "label: the column is_fraud",
  manifest_sha256: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
  sha256: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
};

/** Where a name holds a number elsewhere. */
const OTHER_TEXTS: Readonly<Record<string, string>> = {
  status: "ready",
  value: "eyJhbW91bnQiOjV9",
  warnings: "no score where the amount is missing",
};

/** An example of what fits a schema, made of its fields' names, so that it can't age. */
function exampleOf(schema: unknown, name = ""): unknown {
  if (typeof schema !== "object" || schema === null) return null;
  const part = schema as Part;
  if (Array.isArray(part.examples) && part.examples.length > 0) return part.examples[0] as unknown;
  if ("const" in part) return part.const;
  const named = BY_NAME[name];
  const choices = (part.anyOf ?? part.oneOf) as readonly Part[] | undefined;
  if (choices !== undefined) {
    if (named === null && choices.some(({ type }) => type === "null")) return null;
    const fitting =
      choices.find((choice) => choice.type === jsonType(named)) ??
      choices.find(({ type }) => type !== "null") ??
      choices[0];
    return exampleOf({ ...fitting, examples: undefined }, name);
  }
  if (Array.isArray(part.enum)) return part.enum[0] as unknown;
  switch (part.type) {
    case "object":
      return objectOf(part);
    case "array":
      return Array.from({ length: Math.max(1, Number(part.minItems ?? 1)) }, () => exampleOf(part.items, name));
    case "string":
      return textOf(part, named ?? (/_(at|time)$/.test(name) ? "2026-11-22T09:30:00.000Z" : undefined), name);
    case "integer":
    case "number":
      return numberOf(part, named);
    case "boolean":
      return part.default ?? true;
    default:
      return null;
  }
}

function objectOf({ properties, patternProperties, required }: Part): object {
  if (properties === undefined) {
    const [value] = Object.values((patternProperties ?? {}) as Part);
    return value === undefined ? {} : { amount: exampleOf(value, "amount") };
  }
  const asked = new Set(required as readonly string[] | undefined);
  const known = Object.entries(properties as Readonly<Record<string, Part>>).filter(
    ([field, inner]) => asked.has(field) || inner.deprecated !== true,
  );
  return Object.fromEntries(known.map(([field, inner]) => [field, exampleOf(inner, field)]));
}

function textOf({ format, default: usual, maxLength }: Part, named: unknown, name: string): string {
  if (
    typeof named === "string" &&
    (format === undefined || (format === "uuid") === /^[0-9a-f-]{36}$/.test(named)) &&
    (format !== "date-time" || /^\d{4}-/.test(named))
  )
    return named;
  if (typeof usual === "string") return usual;
  if (format === "date-time") return "2026-11-22T09:30:00.000Z";
  if (format === "uuid") return "7f2d0c52-5f6c-4d3e-8a42-1f1c9a0a3b77";
  if (format === "email") return "ann@example.com";
  return maxLength === 0 ? "" : (OTHER_TEXTS[name] ?? "…");
}

function numberOf({ type, minimum, maximum, default: usual }: Part, named: unknown): number {
  const wanted = typeof named === "number" ? named : typeof usual === "number" ? usual : type === "integer" ? 1 : 0.5;
  const within = Math.min(Math.max(wanted, Number(minimum ?? wanted)), Number(maximum ?? wanted));
  return type === "integer" ? Math.round(within) : within;
}

function jsonType(value: unknown): string {
  return typeof value === "number" ? (Number.isInteger(value) ? "integer" : "number") : typeof value;
}

const ERRORS: Readonly<Record<string, { code: string; detail: string; errors?: object[] }>> = {
  400: {
    code: "invalid_request",
    detail: "limit: must be >= 1",
    errors: [{ in: "query", field: "limit", code: "minimum", message: "must be >= 1" }],
  },
  401: { code: "token_expired", detail: "this token has expired: sign in again" },
  403: { code: "forbidden", detail: "the role analyst may not do this; it takes the permission deployments:write" },
  404: { code: "not_found", detail: "there is nothing of this id" },
  429: { code: "too_many_requests", detail: "too many requests by this user: try again in 12 s" },
  503: { code: "clickhouse_unreachable", detail: "ClickHouse does not answer; try again later" },
};
const TITLES: Readonly<Record<string, string>> = {
  400: "Bad Request",
  401: "Unauthorized",
  403: "Forbidden",
  404: "Not Found",
  429: "Too Many Requests",
  503: "Service Unavailable",
};

/** The errors that an operation may answer with, each with an example. */
function errorResponses(hasToken: boolean, hasId: boolean): Record<string, object> {
  const statuses = ["400", ...(hasToken ? ["401", "403"] : []), ...(hasId ? ["404"] : []), "429", "503"];
  return Object.fromEntries(
    statuses.map((status) => [
      status,
      {
        description: TITLES[status],
        content: {
          "application/problem+json": {
            schema: { $ref: "#/components/schemas/Problem" },
            example: {
              type: "about:blank",
              title: TITLES[status],
              status: Number(status),
              ...ERRORS[status],
              request_id: "b0b9a2f4-6f0e-4a52-9d3c-0d1b6a1f7c11",
            },
          },
        },
      },
    ]),
  );
}

/** Gives every body of a document an example that has none, and every operation its errors. */
export function withExamples(paths: unknown): void {
  for (const [path, operations] of Object.entries((paths ?? {}) as Record<string, Record<string, Operation>>)) {
    for (const operation of Object.values(operations)) {
      for (const body of [operation.requestBody, ...Object.values(operation.responses ?? {})]) {
        for (const [type, media] of Object.entries(body?.content ?? {})) {
          if (
            /json|multipart/.test(type) &&
            media.example === undefined &&
            media.examples === undefined &&
            media.schema !== undefined &&
            !("$ref" in media.schema)
          )
            media.example = exampleOf(media.schema);
        }
      }
      if (path.startsWith("/api/"))
        operation.responses = {
          ...errorResponses(operation.security !== undefined, path.includes("{")),
          ...operation.responses,
        };
    }
  }
}

interface Body {
  content?: Record<string, { schema?: object; example?: unknown; examples?: unknown }>;
}
interface Operation {
  requestBody?: Body;
  responses?: Record<string, Body>;
  security?: unknown;
}
