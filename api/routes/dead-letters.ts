import { Type, type Static } from "@sinclair/typebox";
import type { FastifyInstance } from "fastify";
import type { ClickHouseReader } from "../../infra/clickhouse/client.js";
import { partitionOfKey } from "../../infra/kafka/murmur2.js";
import { parseTime } from "../../schemas/time-text.js";
import type { ApiContext } from "../context.js";
import { decodedValue } from "../dead-letters/decode.js";
import {
  replayDeadLetters,
  type DeadLetterCoordinates,
  type MendedRecord,
  type ReplayResult,
} from "../dead-letters/replay.js";
import { cursorOf, listAnswerFields, listFields, readCursor } from "../lists.js";
import { HttpProblem } from "../plugins/errors.js";
import { badFieldsOfLabel } from "../predictions/label-input.js";
import { toTransaction, TransactionInput } from "../predictions/transaction-input.js";
import { nameOf } from "../users/names.js";

const MOST_AT_ONCE = 1_000;
/** Of keys and values in one answer, but for the first one's. */
const MOST_BYTES = 32 * 1024 * 1024;
const Time = Type.String({ format: "date-time", description: "ISO 8601 with a zone" });
const Coordinates = Type.Object(
  { partition: Type.Integer({ minimum: 0 }), offset: Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER }) },
  { additionalProperties: false },
);

const BrowseQuery = Type.Object(
  {
    code: Type.Optional(Type.String({ maxLength: 100, description: "the cause" })),
    from: Type.Optional(Time),
    to: Type.Optional(Time),
    ...listFields(500, 50),
  },
  { additionalProperties: false },
);

const DeadLetter = Type.Object(
  {
    partition: Type.Integer(),
    offset: Type.Integer(),
    at: Type.String(),
    code: Type.String(),
    reason: Type.String(),
    step: Type.String(),
    source: Type.Object({
      topic: Type.String(),
      partition: Type.Union([Type.Integer(), Type.Null()]),
      offset: Type.Union([Type.Integer(), Type.Null()]),
    }),
    attempt: Type.Union([Type.Integer(), Type.Null()]),
    key: Type.Union([Type.String(), Type.Null()], { description: "the untouched bytes, base64" }),
    value: Type.Union([Type.String(), Type.Null()], { description: "the untouched bytes, base64" }),
    decoded: Type.Unknown({
      description:
        "The decoded value, where it can be read (JSON, or Avro of a known schema), with pseudonyms for card " +
        "ids if they are in use, and card numbers masked; null: it cannot be read.",
    }),
    headers: Type.Record(Type.String(), Type.String()),
    replayed: Type.Union(
      [
        Type.Object({
          at: Type.String({ format: "date-time" }),
          who: Type.String(),
          who_name: Type.Union([Type.String(), Type.Null()]),
        }),
        Type.Null(),
      ],
      { description: "When it was sent again, and by whom." },
    ),
  },
  { title: "DeadLetter" },
);

const BrowseAnswer = Type.Object(
  {
    causes: Type.Array(Type.Object({ code: Type.String(), count: Type.Integer() }), {
      description: "Of the requested ones.",
    }),
    codes: Type.Array(Type.String(), {
      description: "Every cause in that time, including those that were not asked for.",
    }),
    dead_letters: Type.Array(DeadLetter),
    more: Type.Boolean({ description: "true: there are older ones in that time; ask for them with cursor" }),
    ...listAnswerFields,
  },
  { description: "The count of each cause in that time, and the newest dead letters." },
);

const ReplayBody = Type.Union(
  [
    Type.Object(
      { dead_letters: Type.Array(Coordinates, { minItems: 1, maxItems: MOST_AT_ONCE }) },
      { additionalProperties: false },
    ),
    Type.Object(
      { code: Type.String({ minLength: 1, maxLength: 100 }), from: Type.Optional(Time), to: Type.Optional(Time) },
      { additionalProperties: false },
    ),
  ],
  { examples: [{ code: "unknown_schema" }] },
);
const ReplayAnswer = Type.Object(
  {
    replayed: Type.Array(Coordinates),
    skipped: Type.Array(Type.Object({ ...Coordinates.properties, reason: Type.String() })),
    more: Type.Boolean({
      description: `true: there are further dead letters of this cause, ${MOST_AT_ONCE} are sent at once`,
    }),
  },
  { description: "What was sent again, and what was not, with the reason." },
);

const MendedLabel = Type.Object(
  {
    transaction_id: Type.String({ minLength: 1, maxLength: 256 }),
    card_id: Type.String({ minLength: 1, maxLength: 256 }),
    is_fraud: Type.Boolean(),
    label_time: Type.Optional(Time),
  },
  { additionalProperties: false },
);
const MendBody = Type.Union(
  [
    Type.Object({ transaction: TransactionInput }, { additionalProperties: false }),
    Type.Object({ label: MendedLabel }, { additionalProperties: false }),
  ],
  {
    examples: [
      {
        transaction: {
          transaction_id: "t-2",
          event_time: "2026-11-22T09:30:00Z",
          card_id: "c-1",
          merchant_id: "m-1",
          amount: 5,
          currency: "EUR",
        },
      },
    ],
  },
);
const MendAnswer = Type.Object(
  {
    ...Coordinates.properties,
    sent_to: Type.Object({ topic: Type.String(), partition: Type.Integer() }),
    transaction_id: Type.String(),
  },
  {
    title: "MendedDeadLetter",
    description: "It was sent, and the dead letter is marked as sent again.",
    examples: [
      { partition: 1, offset: 12, sent_to: { topic: "fraud.transactions", partition: 3 }, transaction_id: "t-2" },
    ],
  },
);

interface Row {
  partition: number;
  offset: number;
  at: string;
  code: string;
  reason: string;
  step: string;
  source_topic: string;
  source_partition: number | null;
  source_offset: number | null;
  attempt: number | null;
  key: string | null;
  value: string | null;
  headers: Record<string, string>;
  ms: number;
}

const WINDOW =
  "topic = {topic: String} AND ({code: String} = '' OR code = {code: String}) AND at >= " +
  "parseDateTime64BestEffort({from: String}, 3, 'UTC') AND at <= parseDateTime64BestEffort({to: " +
  "String}, 3, 'UTC')";
const BEHIND =
  "({last: Int64} = 0 OR (toUnixTimestamp64Milli(at), -partition, offset) < ({last: Int64}, " +
  "-{last_partition: Int32}, {last_offset: Int64}))";
const NEWEST = `
  SELECT *, sum(ifNull(length(key), 0) + ifNull(length(value), 0)) OVER (ORDER BY at DESC, partition, offset DESC ROWS
    BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS bytes_before
  FROM (SELECT * FROM dead_letters FINAL WHERE ${WINDOW} AND ${BEHIND} ORDER BY at DESC, partition, offset DESC LIMIT
    {limit: UInt32})`;
const BROWSE = `
  SELECT partition, offset, formatDateTime(newest.at, '%Y-%m-%dT%H:%i:%S.%fZ', 'UTC') AS at, code, reason, step,
    source_topic, source_partition, source_offset, attempt,
    base64Encode(key) AS key, base64Encode(value) AS value, headers, toUnixTimestamp64Milli(newest.at) AS ms
  FROM (${NEWEST}) AS newest WHERE bytes_before < ${MOST_BYTES}
  ORDER BY newest.at DESC, partition, offset DESC`;
const CAUSES =
  `SELECT code, count() AS count FROM dead_letters FINAL WHERE ${WINDOW} GROUP BY code ORDER BY ` + "count DESC, code";
const REST = `SELECT count() AS rest FROM dead_letters FINAL WHERE ${WINDOW} AND ${BEHIND}`;
const CODES = `SELECT DISTINCT code FROM dead_letters WHERE ${WINDOW} ORDER BY code LIMIT 200`;
const OF_CAUSE =
  `SELECT partition, offset FROM dead_letters FINAL WHERE ${WINDOW} ORDER BY at, partition, offset LIMIT ` +
  "{most: UInt64}";

/** Dead letters: browse them by cause and time, and send them again. */
export function deadLetterRoutes(app: FastifyInstance, context: ApiContext): Promise<void> {
  const { queries, topics, control } = context;
  /** One at a time in this copy: two would take the transactional id from each other in turn. */
  let last: Promise<unknown> = Promise.resolve();
  const replay = (who: string, wanted: readonly DeadLetterCoordinates[]): Promise<ReplayResult> => {
    const result = last.then(() => replayDeadLetters(context, who, wanted));
    last = result.catch(() => undefined);
    return result;
  };

  app.get<{ Querystring: Static<typeof BrowseQuery> }>(
    "/api/v1/dead-letters",
    {
      config: { permission: "dead-letters:read" },
      schema: {
        tags: ["dead letters"],
        summary: "Browse dead letters by cause and time, newest first",
        querystring: BrowseQuery,
        response: { 200: BrowseAnswer },
      },
    },
    async (request, reply) =>
      queries.ask("lookup", request, reply, async (clickhouse) => {
        const { query } = request;
        const { limit = 50, cursor } = query;
        const params = windowParams(context, query);
        const [last, last_partition, last_offset] =
          cursor === undefined ? [0, 0, 0] : readCursor(cursor, ["number", "number", "number"]);
        const [rows] = await Promise.all([
          clickhouse.query<Row>(BROWSE, { ...params, last, last_partition, last_offset, limit }),
          control.readToEnd(),
        ]);
        // Counted afterwards: what is listed is among them.
        const causes = await clickhouse.query<{ code: string; count: number }>(CAUSES, params);
        const codes = await clickhouse.query<{ code: string }>(CODES, { ...params, code: "" });
        const [{ rest }] = await clickhouse.query<{ rest: number }>(REST, {
          ...params,
          last,
          last_partition,
          last_offset,
        });
        const more = rest > rows.length;
        const end = rows.at(-1);
        return {
          causes,
          codes: codes.map(({ code }) => code),
          dead_letters: await Promise.all(rows.map((row) => shown(context, row))),
          more,
          total: causes.reduce((sum, { count }) => sum + count, 0),
          next_cursor: more && end !== undefined ? cursorOf(end.ms, end.partition, end.offset) : null,
        };
      }),
  );

  app.post<{ Body: Static<typeof ReplayBody> }>(
    "/api/v1/dead-letters/replay",
    {
      config: { permission: "dead-letters:replay" },
      schema: {
        tags: ["dead letters"],
        summary: "Send dead letters again, each at most once",
        body: ReplayBody,
        response: { 200: ReplayAnswer },
      },
    },
    async (request, reply) => {
      const { body, user } = request;
      if ("dead_letters" in body) return { ...(await replay(user.id, body.dead_letters)), more: false };
      await control.readToEnd();
      const all = await queries.ask("lookup", request, reply, async (clickhouse) => {
        await checkCode(context, clickhouse, body.code);
        // So many that one more than is sent at once is still open, whichever of them were sent again already.
        return clickhouse.query<DeadLetterCoordinates>(OF_CAUSE, {
          ...windowParams(context, body),
          most: control.state.replayed.size + MOST_AT_ONCE + 1,
        });
      });
      const open = all.filter(
        ({ partition, offset }) =>
          control.state.replayOf({ topic: topics.deadLetters.name, partition, offset }) === undefined,
      );
      return { ...(await replay(user.id, open.slice(0, MOST_AT_ONCE))), more: open.length > MOST_AT_ONCE };
    },
  );

  app.post<{ Params: Static<typeof Coordinates>; Body: Static<typeof MendBody> }>(
    "/api/v1/dead-letters/:partition/:offset/mend",
    {
      config: { permission: "dead-letters:replay" },
      schema: {
        tags: ["dead letters"],
        summary: "Correct a dead letter and send it, once",
        description:
          "Publishes a corrected transaction or label to the topic that the dead letter came from, in one " +
          "Kafka transaction with the event that marks it as sent again: it cannot be sent a second time, " +
          "corrected or not. The record's header fraudstream-redrive-of names the dead letter.",
        params: Coordinates,
        body: MendBody,
        response: { 200: MendAnswer },
      },
    },
    async ({ params, body, user }) => {
      const record = mendedRecord(context, body);
      const turn = last.then(() => replayDeadLetters(context, user.id, [params], record));
      last = turn.catch(() => undefined);
      const [skipped] = (await turn).skipped;
      if (skipped?.reason === "already_replayed")
        throw new HttpProblem("already_replayed", "this dead letter was sent again already");
      if (skipped?.reason === "unknown_source") {
        const message = `this dead letter did not come from ${record.sourceTopic}`;
        throw new HttpProblem("invalid_request", message, {
          errors: [{ in: "body", field: "transaction" in body ? "transaction" : "label", code: "source", message }],
        });
      }
      if (skipped !== undefined)
        throw new HttpProblem("unknown_dead_letter", "there is no dead letter at these coordinates (any more)");
      return {
        ...params,
        sent_to: { topic: record.sourceTopic, partition: record.partition },
        transaction_id: ("transaction" in body ? body.transaction : body.label).transaction_id,
      };
    },
  );
  return Promise.resolve();
}

/** The schema's format lets leap seconds pass. */
function noTime(field: string): HttpProblem {
  const message = "is no time in ISO 8601 with a zone";
  return new HttpProblem("invalid_request", `${field} ${message}`, {
    errors: [{ in: "query", field, code: "format", message }],
  });
}

/** The record of a corrected transaction or label. @throws HttpProblem naming the invalid fields */
function mendedRecord({ topics, schemas, cards }: ApiContext, body: Static<typeof MendBody>): MendedRecord {
  if ("label" in body) {
    const { card_id, label_time, ...label } = body.label;
    const [bad] = badFieldsOfLabel(body.label, "label.");
    if (bad !== undefined) throw new HttpProblem("invalid_request", `${bad.field} ${bad.message}`, { errors: [bad] });
    const card = cards?.ofText(card_id) ?? card_id;
    const key = Buffer.from(card);
    const value = schemas.encode("labels", {
      ...label,
      card_id: card,
      label_time: label_time === undefined ? Date.now() : parseTime(label_time),
    });
    return {
      sourceTopic: topics.labels.name,
      partition: partitionOfKey(key, 0, key.length, topics.labels.partitions),
      key,
      value,
    };
  }
  const made = toTransaction(body.transaction, "transaction.");
  if ("errors" in made)
    throw new HttpProblem(
      "invalid_request",
      made.errors.map(({ field, message }) => `${field}: ${message}`).join("; "),
      { errors: made.errors.map((error) => ({ in: "body", code: "value", ...error })) },
    );
  const transaction = {
    ...made.transaction,
    card_id: cards?.ofText(made.transaction.card_id) ?? made.transaction.card_id,
  };
  const key = Buffer.from(transaction.card_id);
  return {
    sourceTopic: topics.transactions.name,
    partition: partitionOfKey(key, 0, key.length, topics.transactions.partitions),
    key,
    value: schemas.encode("transactions", transaction),
  };
}

/** A cause that is misspelt would find nothing, and look as if there were nothing to send. */
async function checkCode(context: ApiContext, clickhouse: ClickHouseReader, code: string): Promise<void> {
  const known = (await clickhouse.query<{ code: string }>(CODES, windowParams(context, {}))).map((row) => row.code);
  if (known.includes(code)) return;
  const message =
    known.length === 0
      ? "there are no dead letters"
      : `no dead letter has this cause; those that there are: ${known.join(", ")}`;
  throw new HttpProblem("invalid_request", `code: ${message}`, {
    errors: [{ in: "body", field: "code", code: "enum", message }],
  });
}

function windowParams(
  { topics }: ApiContext,
  { code = "", from, to }: { code?: string; from?: string; to?: string },
): Record<string, string> {
  const least = from ?? "1971-01-01T00:00:00Z";
  const most = to ?? "2200-01-01T00:00:00Z";
  for (const [field, time] of [
    ["from", least],
    ["to", most],
  ] as const)
    if (Number.isNaN(parseTime(time))) throw noTime(field);
  if (parseTime(least) > parseTime(most))
    throw new HttpProblem("invalid_request", "from lies after to", {
      errors: [{ in: "query", field: "from", code: "range", message: "lies after to" }],
    });
  return { topic: topics.deadLetters.name, code, from: least, to: most };
}

async function shown(context: ApiContext, row: Row): Promise<Static<typeof DeadLetter>> {
  const { topics, control, users } = context;
  const {
    partition,
    offset,
    at,
    code,
    reason,
    step,
    source_topic,
    source_partition,
    source_offset,
    attempt,
    key,
    value,
    headers,
  } = row;
  const replayed = control.state.replayOf({
    topic: topics.deadLetters.name,
    partition: row.partition,
    offset: row.offset,
  });
  return {
    partition,
    offset,
    at,
    code,
    reason,
    step,
    attempt,
    key,
    value,
    headers,
    decoded: await decodedValue(context, row.value === null ? null : Buffer.from(row.value, "base64"), row.headers),
    source: { topic: source_topic, partition: source_partition, offset: source_offset },
    replayed:
      replayed === undefined
        ? null
        : { at: new Date(replayed.at).toISOString(), who: replayed.who, who_name: nameOf(users, replayed.who) },
  };
}
