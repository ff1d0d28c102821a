import { Type, type Static } from "@sinclair/typebox";
import type { FastifyInstance } from "fastify";
import { deadLetterKey } from "../../models/registry/control-state.js";
import { parseTime } from "../../schemas/time-text.js";
import type { ApiContext } from "../context.js";
import { replayDeadLetters, type DeadLetterCoordinates, type ReplayResult } from "../dead-letters/replay.js";
import { HttpProblem } from "../plugins/errors.js";

const MOST_AT_ONCE = 1_000;
/** Of keys and values in one answer, but for the first one's. */
const MOST_BYTES = 32 * 1024 * 1024;
const Time = Type.String({ format: "date-time", description: "ISO 8601 with a zone" });
const Coordinates = Type.Object({ partition: Type.Integer({ minimum: 0 }), offset: Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER }) }, { additionalProperties: false });

const BrowseQuery = Type.Object(
  {
    code: Type.Optional(Type.String({ maxLength: 100, description: "the cause" })),
    from: Type.Optional(Time),
    to: Type.Optional(Time),
    limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 500, default: 50 })),
  },
  { additionalProperties: false },
);

const DeadLetter = Type.Object({
  partition: Type.Integer(),
  offset: Type.Integer(),
  at: Type.String(),
  code: Type.String(),
  reason: Type.String(),
  step: Type.String(),
  source: Type.Object({ topic: Type.String(), partition: Type.Union([Type.Integer(), Type.Null()]), offset: Type.Union([Type.Integer(), Type.Null()]) }),
  attempt: Type.Union([Type.Integer(), Type.Null()]),
  key: Type.Union([Type.String(), Type.Null()], { description: "the untouched bytes, base64" }),
  value: Type.Union([Type.String(), Type.Null()], { description: "the untouched bytes, base64" }),
  headers: Type.Record(Type.String(), Type.String()),
  replayed: Type.Union([Type.Object({ at: Type.String(), who: Type.String() }), Type.Null()]),
}, { title: "DeadLetter" });

const BrowseAnswer = Type.Object({
  causes: Type.Array(Type.Object({ code: Type.String(), count: Type.Integer() })),
  dead_letters: Type.Array(DeadLetter),
  more: Type.Boolean({ description: "true: there are older ones in that time; `to` asks for them" }),
}, { description: "How many there are of each cause in that time, and the newest." });

const ReplayBody = Type.Union([
  Type.Object({ dead_letters: Type.Array(Coordinates, { minItems: 1, maxItems: MOST_AT_ONCE }) }, { additionalProperties: false }),
  Type.Object({ code: Type.String({ minLength: 1, maxLength: 100 }), from: Type.Optional(Time), to: Type.Optional(Time) }, { additionalProperties: false }),
], { examples: [{ code: "unknown_schema" }] });
const ReplayAnswer = Type.Object({
  replayed: Type.Array(Coordinates),
  skipped: Type.Array(Type.Object({ ...Coordinates.properties, reason: Type.String() })),
  more: Type.Boolean({ description: `true: there are further dead letters of this cause, ${MOST_AT_ONCE} are sent at once` }),
}, { description: "What was sent again now, and what was not, with the reason." });

interface Row {
  partition: number; offset: number; at: string; code: string; reason: string; step: string;
  source_topic: string; source_partition: number | null; source_offset: number | null; attempt: number | null;
  key: string | null; value: string | null; headers: Record<string, string>;
}

const WINDOW = "topic = {topic: String} AND ({code: String} = '' OR code = {code: String}) AND at >= parseDateTime64BestEffort({from: String}, 3, 'UTC') AND at <= parseDateTime64BestEffort({to: String}, 3, 'UTC')";
const NEWEST = `
  SELECT *, sum(ifNull(length(key), 0) + ifNull(length(value), 0)) OVER (ORDER BY at DESC, partition, offset DESC ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS bytes_before
  FROM (SELECT * FROM dead_letters FINAL WHERE ${WINDOW} ORDER BY at DESC, partition, offset DESC LIMIT {limit: UInt32})`;
const BROWSE = `
  SELECT partition, offset, formatDateTime(newest.at, '%Y-%m-%dT%H:%i:%S.%fZ', 'UTC') AS at, code, reason, step, source_topic, source_partition, source_offset, attempt,
    base64Encode(key) AS key, base64Encode(value) AS value, headers
  FROM (${NEWEST}) AS newest WHERE bytes_before < ${MOST_BYTES}
  ORDER BY newest.at DESC, partition, offset DESC`;
const CAUSES = `SELECT code, count() AS count FROM dead_letters FINAL WHERE ${WINDOW} GROUP BY code ORDER BY count DESC, code`;
const OF_CAUSE = `SELECT partition, offset FROM dead_letters FINAL WHERE ${WINDOW} ORDER BY at, partition, offset LIMIT {most: UInt64}`;

/** Dead letters: browse them by cause and time, and send them again. */
export function deadLetterRoutes(app: FastifyInstance, context: ApiContext): Promise<void> {
  const { clickhouse, topics, control } = context;
  /** One at a time in this copy: two would take the transactional id from each other in turn. */
  let last: Promise<unknown> = Promise.resolve();
  const replay = (who: string, wanted: readonly DeadLetterCoordinates[]): Promise<ReplayResult> => {
    const result = last.then(() => replayDeadLetters(context, who, wanted));
    last = result.catch(() => undefined);
    return result;
  };

  app.get<{ Querystring: Static<typeof BrowseQuery> }>(
    "/api/v1/dead-letters",
    { config: { permission: "dead-letters:read" }, schema: { tags: ["dead letters"], summary: "Browse dead letters by cause and time, newest first", querystring: BrowseQuery, response: { 200: BrowseAnswer } } },
    async ({ query }) => {
      const params = windowParams(context, query);
      const [rows] = await Promise.all([clickhouse.query<Row>(BROWSE, { ...params, limit: query.limit ?? 50 }), control.readToEnd()]);
      // Counted afterwards: what is listed is among them.
      const causes = await clickhouse.query<{ code: string; count: number }>(CAUSES, params);
      return { causes, dead_letters: rows.map((row) => shown(context, row)), more: causes.reduce((sum, { count }) => sum + count, 0) > rows.length };
    },
  );

  app.post<{ Body: Static<typeof ReplayBody> }>(
    "/api/v1/dead-letters/replay",
    { config: { permission: "dead-letters:replay" }, schema: { tags: ["dead letters"], summary: "Send dead letters again, each at most once", body: ReplayBody, response: { 200: ReplayAnswer } } },
    async ({ body, user }) => {
      if ("dead_letters" in body) return { ...(await replay(user.id, body.dead_letters)), more: false };
      await control.readToEnd();
      // So many that one more than is sent at once is still open, whichever of them were sent again already.
      const all = await clickhouse.query<DeadLetterCoordinates>(OF_CAUSE, { ...windowParams(context, body), most: control.state.replayed.size + MOST_AT_ONCE + 1 });
      const open = all.filter(({ partition, offset }) => !control.state.replayed.has(deadLetterKey(topics.deadLetters.name, partition, offset)));
      return { ...(await replay(user.id, open.slice(0, MOST_AT_ONCE))), more: open.length > MOST_AT_ONCE };
    },
  );
  return Promise.resolve();
}

/** The schema's format lets leap seconds pass. */
function noTime(field: string): HttpProblem {
  const message = "is no time in ISO 8601 with a zone";
  return new HttpProblem(400, "invalid_request", `${field} ${message}`, { errors: [{ in: "query", field, code: "format", message }] });
}

function windowParams({ topics }: ApiContext, { code = "", from, to }: { code?: string; from?: string; to?: string }): Record<string, string> {
  const least = from ?? "1971-01-01T00:00:00Z";
  const most = to ?? "2200-01-01T00:00:00Z";
  for (const [field, time] of [["from", least], ["to", most]] as const) if (Number.isNaN(parseTime(time))) throw noTime(field);
  if (parseTime(least) > parseTime(most)) throw new HttpProblem(400, "invalid_request", "from lies after to", { errors: [{ in: "query", field: "from", code: "range", message: "lies after to" }] });
  return { topic: topics.deadLetters.name, code, from: least, to: most };
}

function shown({ topics, control }: ApiContext, row: Row): Static<typeof DeadLetter> {
  const { source_topic, source_partition, source_offset, ...rest } = row;
  const replayed = control.state.replayed.get(deadLetterKey(topics.deadLetters.name, row.partition, row.offset));
  return {
    ...rest,
    source: { topic: source_topic, partition: source_partition, offset: source_offset },
    replayed: replayed === undefined ? null : { at: new Date(replayed.at).toISOString(), who: replayed.who },
  };
}
