import { Type, type Static } from "@sinclair/typebox";
import type { FastifyInstance } from "fastify";
import type { ClickHouseReader } from "../../infra/clickhouse/client.js";
import { LABEL_ORDER, LABEL_VERSION_BITS } from "../../infra/kafka/label-order.js";
import { encodeHeaders } from "../../infra/kafka/record-batch-builder.js";
import { messageOf } from "../../schemas/errors.js";
import type { Label } from "../../schemas/generated.js";
import { parseTime } from "../../schemas/time-text.js";
import type { ApiContext } from "../context.js";
import type { BadField } from "../plugins/bad-fields.js";
import { HttpProblem } from "../plugins/errors.js";
import { badFieldsOfLabel } from "../predictions/label-input.js";

const MOST_AT_ONCE = 1_000;
/** That many labels with the longest ids. */
const MOST_BODY_BYTES = 4 * 1024 * 1024;
const Id = Type.String({ minLength: 1, maxLength: 256 });

const LabelInput = Type.Object(
  {
    transaction_id: Id,
    card_id: Type.Optional(Type.String({ minLength: 1, maxLength: 256, description: "looked up if it is not given" })),
    is_fraud: Type.Boolean(),
    label_time: Type.Optional(Type.String({ format: "date-time", description: "when it became known; default: now" })),
  },
  { additionalProperties: false, title: "Label", examples: [{ transaction_id: "t-1", is_fraud: true }] },
);
const Body = Type.Union([LabelInput, Type.Array(LabelInput, { minItems: 1, maxItems: MOST_AT_ONCE })]);

const Answer = Type.Object(
  {
    accepted: Type.Integer({ description: "How many labels were published." }),
    changes: Type.Optional(
      Type.Array(
        Type.Object({
          transaction_id: Type.String(),
          before: Type.Union([Type.Boolean(), Type.Null(), Type.Literal("unknown")], {
            description:
              "is_fraud as it was stored before; null: there was no label; unknown: ClickHouse did not answer.",
          }),
          after: Type.Boolean(),
        }),
        { description: "Of a person's labels." },
      ),
    ),
  },
  {
    title: "AcceptedLabels",
    description: "Published; metrics include it a moment later.",
    examples: [{ accepted: 1, changes: [{ transaction_id: "t-1", before: false, after: true }] }],
  },
);

const BEFORE =
  "SELECT transaction_id, card_id, is_fraud FROM labels FINAL WHERE transaction_id IN {ids: Array(String)}";
const CARDS = "SELECT DISTINCT transaction_id, card_id FROM predictions WHERE transaction_id IN {ids: Array(String)}";

/** Labels that are ahead of the clock here. A version is an order and a place. */
const AHEAD = `
  SELECT card_id, transaction_id, toUInt64(max(bitShiftRight(version, ${LABEL_VERSION_BITS}))) AS order FROM labels
  WHERE card_id IN {cards: Array(String)} AND transaction_id IN {ids: Array(String)} AND bitShiftRight(version,
    ${LABEL_VERSION_BITS}) >= {now: UInt64}
  GROUP BY card_id, transaction_id`;
/** Labels are taken while ClickHouse is away, too. */
const ASK_MS = 5_000;

const keyOf = ({ card_id, transaction_id }: Pick<Label, "card_id" | "transaction_id">): string =>
  JSON.stringify([card_id, transaction_id]);

/** Outcomes that came back: chargebacks, and what an investigation found. */
export function labelRoutes(app: FastifyInstance, context: ApiContext): Promise<void> {
  app.post<{ Body: Static<typeof Body> }>(
    "/api/v1/labels",
    {
      config: { permission: "labels:write" },
      bodyLimit: MOST_BODY_BYTES,
      schema: {
        tags: ["labels"],
        summary: "Label transactions as fraud or genuine",
        body: Body,
        description:
          "A later label of a transaction replaces an earlier one. Labels that people give are in the audit " +
          "trail, with the previous label.",
        response: { 202: Answer },
      },
    },
    async (request, reply) => {
      const { body, user } = request;
      const inputs = Array.isArray(body) ? body : [body];
      const at = (i: number): string => (Array.isArray(body) ? `[${i}].` : "");
      const bad = inputs.flatMap((input, i) => badFieldsOfLabel(input, at(i)));
      if (bad.length > 0)
        throw new HttpProblem("invalid_request", `${bad[0].field}: ${bad[0].message}`, { errors: bad.slice(0, 100) });
      const lookUp = <T>(work: (clickhouse: ClickHouseReader) => Promise<T>): Promise<T> =>
        context.queries.ask("lookup", request, reply, work);
      const cards = await cardsOf(
        lookUp,
        inputs.filter(({ card_id }) => card_id === undefined).map(({ transaction_id }) => transaction_id),
      );
      const now = Date.now();
      const errors: (BadField & { code: "unknown_card" | "ambiguous_card" })[] = [];
      const labels: Label[] = [];
      for (const [i, { transaction_id, card_id, is_fraud, label_time }] of inputs.entries()) {
        const known =
          card_id === undefined ? (cards.get(transaction_id) ?? []) : [context.cards?.ofText(card_id) ?? card_id];
        if (known.length === 1)
          labels.push({
            transaction_id,
            card_id: known[0],
            is_fraud,
            label_time: label_time === undefined ? now : parseTime(label_time),
          });
        else {
          const message =
            known.length === 0
              ? "no prediction of this transaction is stored (yet): give its card_id"
              : "several cards have a transaction of this id: give its card_id";
          errors.push({
            in: "body",
            field: `${at(i)}card_id`,
            code: known.length === 0 ? "unknown_card" : "ambiguous_card",
            message,
          });
        }
      }
      if (errors.length > 0) throw new HttpProblem(errors[0].code, errors[0].message, { errors: errors.slice(0, 100) });
      // Looked up before the new ones are published. Where ClickHouse is away they are taken all the same.
      const before =
        user.role === "service"
          ? new Map<string, boolean>()
          : await labelsBefore(lookUp, labels).catch((error: unknown) => {
              request.log.warn(`the labels before could not be looked up: ${messageOf(error)}`);
              return null;
            });
      const changes = labels.map(({ transaction_id, card_id, is_fraud }) => ({
        transaction_id,
        before: before === null ? ("unknown" as const) : (before.get(`${card_id} ${transaction_id}`) ?? null),
        after: is_fraud,
      }));
      const latest = await latestOrders(context, labels, now);
      const records = labels.map((label) => ({
        key: Buffer.from(label.card_id),
        value: context.schemas.encode("labels", label),
        headers: encodeHeaders([[LABEL_ORDER, String(Math.max(Date.now(), (latest.get(keyOf(label)) ?? 0) + 1))]]),
      }));
      await context.produce((producer) => producer.publish(context.topics.labels, records));
      if (user.role === "service") return reply.code(202).send({ accepted: labels.length });
      request.changes = changes;
      return reply.code(202).send({ accepted: labels.length, changes });
    },
  );
  return Promise.resolve();
}

type LookUp = <T>(work: (clickhouse: ClickHouseReader) => Promise<T>) => Promise<T>;

async function labelsBefore(lookUp: LookUp, labels: readonly Label[]): Promise<Map<string, boolean>> {
  const rows = await lookUp((clickhouse) =>
    clickhouse.query<{ transaction_id: string; card_id: string; is_fraud: boolean }>(BEFORE, {
      ids: labels.map(({ transaction_id }) => transaction_id),
    }),
  );
  return new Map(
    rows.map(({ transaction_id, card_id, is_fraud }) => [`${card_id} ${transaction_id}`, Boolean(is_fraud)]),
  );
}

async function cardsOf(lookUp: LookUp, ids: string[]): Promise<Map<string, string[]>> {
  const cards = new Map<string, string[]>();
  if (ids.length === 0) return cards;
  for (const { transaction_id, card_id } of await lookUp((clickhouse) =>
    clickhouse.query<{ transaction_id: string; card_id: string }>(CARDS, { ids }),
  )) {
    cards.set(transaction_id, [...(cards.get(transaction_id) ?? []), card_id]);
  }
  return cards;
}

/** The order of stored labels that lie ahead of the clock here: a label that is sent now counts against those, too. */
async function latestOrders(
  { clickhouse, log }: ApiContext,
  labels: readonly Label[],
  now: number,
): Promise<Map<string, number>> {
  const asked = {
    cards: labels.map(({ card_id }) => card_id),
    ids: labels.map(({ transaction_id }) => transaction_id),
    now,
  };
  try {
    const rows = await clickhouse.query<{ card_id: string; transaction_id: string; order: number }>(AHEAD, asked, {
      signal: AbortSignal.timeout(ASK_MS),
    });
    return new Map(rows.map((row) => [keyOf(row), Number(row.order)]));
  } catch (error) {
    log.warn(`labels are published without looking whether one with a later time is stored: ${messageOf(error)}`);
    return new Map();
  }
}
