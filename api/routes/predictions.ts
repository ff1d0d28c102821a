import { Type, type Static, type TSchema } from "@sinclair/typebox";
import type { FastifyInstance } from "fastify";
import type { ClickHouseReader } from "../../infra/clickhouse/client.js";
import type { ErrorCode } from "../../schemas/error-codes.js";
import type { Transaction } from "../../schemas/generated.js";
import type { ApiContext } from "../context.js";
import { HttpProblem } from "../plugins/errors.js";
import { DeployedFeatures, type FieldError } from "../predictions/deployed-features.js";
import { Predictor } from "../predictions/predict.js";
import {
  LABELLED_COLUMNS,
  PredictionAnswer,
  PredictionViews,
  type LabelledRow,
} from "../predictions/prediction-view.js";
import type { Outcome } from "../predictions/reply-listener.js";
import { TransactionInput, toTransaction } from "../predictions/transaction-input.js";
import { can } from "../users/roles.js";

const MOST_AT_ONCE = 1_000;
/** That many transactions with a hundred attributes each. */
const MOST_BODY_BYTES = 8 * 1024 * 1024;
/** Beyond what a worker waits for merchants' buckets (MERCHANT_WAIT_MS): its answer comes before this wait ends. */
const WAIT_LONGER_MS = 1_000;
const MOST_WAIT_MS = 31_000;

const orNull = <T extends TSchema>(schema: T): ReturnType<typeof Type.Union<[T, ReturnType<typeof Type.Null>]>> =>
  Type.Union([schema, Type.Null()]);

const Pending = Type.Object(
  { transaction_id: Type.String(), status: Type.Literal("pending"), location: Type.String() },
  { title: "PendingPrediction", description: "Pending: look for it at the location." },
);
const BatchItem = Type.Union([
  Type.Object({ status: Type.Literal("scored"), prediction: PredictionAnswer }),
  Pending,
  Type.Object({
    transaction_id: Type.String(),
    status: Type.Literal("rejected"),
    code: Type.String(),
    reason: Type.String(),
  }),
]);
const Stored = Type.Union([
  Type.Object({
    status: Type.Literal("scored"),
    prediction: PredictionAnswer,
    label: orNull(Type.Object({ is_fraud: Type.Boolean(), label_time: Type.String() })),
  }),
  Pending,
]);

const Body = Type.Union([TransactionInput, Type.Array(TransactionInput, { minItems: 1, maxItems: MOST_AT_ONCE })]);
const WaitQuery = Type.Object(
  {
    wait_ms: Type.Optional(
      Type.Integer({
        minimum: 0,
        maximum: MOST_WAIT_MS,
        description: "How long the answer may wait for the score; default: MERCHANT_WAIT_MS and one second. Then 202.",
      }),
    ),
  },
  { additionalProperties: false },
);
const Params = Type.Object(
  { transaction_id: Type.String({ minLength: 1, maxLength: 256 }) },
  { additionalProperties: false },
);
const StoredQuery = Type.Object(
  {
    card_id: Type.Optional(
      Type.String({
        minLength: 1,
        maxLength: 256,
        description: "needed if several cards have a transaction with this id",
      }),
    ),
  },
  { additionalProperties: false },
);

const STORED = `
  SELECT ${LABELLED_COLUMNS}
  FROM (
    SELECT * FROM predictions FINAL
    WHERE transaction_id = {id: String} AND ({card: String} = '' OR card_id = {card: String})
      AND ({owner: String} = '' OR splitByChar('/', reply_to)[2] = {owner: String})
    ORDER BY event_time DESC LIMIT 1
  ) AS p
  LEFT JOIN (SELECT * FROM labels FINAL WHERE transaction_id = {id: String}) AS l ON l.card_id = p.card_id AND
    l.transaction_id = p.transaction_id`;
const ON_ITS_WAY =
  "SELECT count() AS count FROM transactions WHERE transaction_id = {id: String} AND ({card: String} = '' OR " +
  "card_id = {card: String})";

/** Predictions over HTTP: asked for, answered from the stream, and looked up. */
export function predictionRoutes(app: FastifyInstance, context: ApiContext): Promise<void> {
  const features = new DeployedFeatures(context.control, context.config);
  const predictor = new Predictor(context);
  const views = new PredictionViews(context);
  const { cards, config, queries } = context;

  app.post<{ Body: Static<typeof Body>; Querystring: Static<typeof WaitQuery> }>(
    "/api/v1/predictions",
    {
      config: { permission: "predictions:write" },
      bodyLimit: MOST_BODY_BYTES,
      schema: {
        tags: ["predictions"],
        summary: "Score one transaction, or up to 1,000 in at most 8 MiB",
        body: Body,
        querystring: WaitQuery,
        response: {
          200: Type.Union([PredictionAnswer, Type.Array(BatchItem)], {
            description: "For one transaction its prediction; for a list the outcome of each, in the same order.",
          }),
          202: Pending,
        },
      },
    },
    async ({ body, query, user }, reply) => {
      if (!features.ready)
        throw new HttpProblem("no_champion", "no model is deployed", { status: 503, headers: { "retry-after": "5" } });
      const single = !Array.isArray(body);
      const transactions = await checked(single ? [body] : body, features, single);
      if (cards !== null)
        for (const transaction of transactions) transaction.card_id = cards.ofText(transaction.card_id);
      const outcomes = await predictor.ask(
        user.id,
        transactions,
        query.wait_ms ?? config.history.merchantWaitMs + WAIT_LONGER_MS,
      );
      if (!single) return Promise.all(outcomes.map((outcome, i) => item(views, transactions[i], outcome)));
      const [outcome] = outcomes;
      const location = locationOf(transactions[0]);
      if (outcome === null)
        return reply
          .code(202)
          .header("location", location)
          .send({ transaction_id: transactions[0].transaction_id, status: "pending", location });
      if (outcome.kind === "dead-letter") throw rejected(outcome, location);
      return views.show(outcome.prediction);
    },
  );

  app.get<{ Params: Static<typeof Params>; Querystring: Static<typeof StoredQuery> }>(
    "/api/v1/predictions/:transaction_id",
    {
      config: { permission: ["predictions:read", "predictions:read-own"] },
      schema: {
        tags: ["predictions"],
        summary: "The stored prediction of a transaction, with its label",
        params: Params,
        querystring: StoredQuery,
        response: { 200: { ...Stored, description: "The stored prediction, or that it is pending." } },
      },
    },
    async (request, reply) =>
      queries.ask("lookup", request, reply, async (clickhouse) => {
        const { params, query, user } = request;
        const owner = can(user.role, "predictions:read") ? null : user.id;
        const where = {
          id: params.transaction_id,
          card: query.card_id === undefined ? "" : (cards?.ofText(query.card_id) ?? query.card_id),
          owner: owner ?? "",
        };
        const [row] = await clickhouse.query<LabelledRow>(STORED, where);
        if (row !== undefined) return { status: "scored" as const, ...(await views.showLabelled(row)) };
        const pending =
          predictor.isPending(params.transaction_id, owner) || (owner === null && (await onItsWay(clickhouse, where)));
        if (!pending) throw new HttpProblem("unknown_prediction", "there is no prediction of this transaction");
        return {
          transaction_id: params.transaction_id,
          status: "pending" as const,
          location: locationOf({ transaction_id: params.transaction_id }),
        };
      }),
  );
  return Promise.resolve();
}

async function onItsWay(clickhouse: ClickHouseReader, where: Record<string, string>): Promise<boolean> {
  const [row] = await clickhouse.query<{ count: number }>(ON_ITS_WAY, where);
  return Number(row?.count ?? 0) > 0;
}

/** The records of what was asked about. @throws HttpProblem naming every field that can't be taken */
async function checked(
  inputs: readonly TransactionInput[],
  features: DeployedFeatures,
  single: boolean,
): Promise<Transaction[]> {
  const transactions: Transaction[] = [];
  const errors: FieldError[] = [];
  for (const [i, input] of inputs.entries()) {
    const path = single ? "" : `[${i}].`;
    const made = toTransaction(input, path);
    if ("errors" in made) errors.push(...made.errors);
    else {
      transactions.push(made.transaction);
      errors.push(...(await features.check(made.transaction.attributes, path)));
    }
  }
  if (errors.length === 0) return transactions;
  throw new HttpProblem(
    "invalid_request",
    errors
      .map(({ field, message }) => `${field}: ${message}`)
      .slice(0, 5)
      .join("; "),
    {
      errors: errors.slice(0, 100).map(({ field, message }) => ({ in: "body", field, code: "value", message })),
    },
  );
}

async function item(
  views: PredictionViews,
  transaction: Transaction,
  outcome: Outcome | null,
): Promise<Static<typeof BatchItem>> {
  const { transaction_id } = transaction;
  if (outcome === null) return { transaction_id, status: "pending", location: locationOf(transaction) };
  if (outcome.kind === "dead-letter")
    return { transaction_id, status: "rejected", code: outcome.code, reason: outcome.reason };
  return { status: "scored", prediction: await views.show(outcome.prediction) };
}

/** A repeat is in conflict with the first, which has its own address; anything else could not be processed. */
function rejected({ code, reason }: { code: ErrorCode; reason: string }, location: string): HttpProblem {
  return code === "repeated"
    ? new HttpProblem(code, reason, { headers: { location } })
    : new HttpProblem(code, reason, { status: 422 });
}

function locationOf({ transaction_id }: { transaction_id: string }): string {
  return `/api/v1/predictions/${encodeURIComponent(transaction_id)}`;
}
