import { Readable } from "node:stream";
import type { TypeBoxTypeProvider } from "@fastify/type-provider-typebox";
import { type Static, Type } from "@sinclair/typebox";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { parseTime } from "../../schemas/time-text.js";
import type { ApiContext } from "../context.js";
import { cursorOf, listFields, readCursor } from "../lists.js";
import type { BadField } from "../plugins/bad-fields.js";
import { csvHead, csvRow } from "../predictions/prediction-csv.js";
import { Decision, PredictionAnswer, PredictionViews } from "../predictions/prediction-view.js";
import {
  countPredictions,
  type ListedRow,
  listPredictions,
  placeAfter,
  type PlaceInList,
  type PredictionFilter,
} from "../queries/prediction-list.js";
import { invalidQuery } from "../queries/window-query.js";

const MOST_LISTED = 500;
const USUAL = 50;
/** Of a CSV answer; it is read from ClickHouse page by page. */
const MOST_CSV = 100_000;
const CSV_PAGE = 5_000;
/** Counting goes no further: a list's first page must not read a table of years. */
const MOST_COUNTED = 10_000;
const EARLIEST = 0;
const LATEST = Date.UTC(2299, 0, 1);

const Time = Type.String({ format: "date-time", maxLength: 40 });
const Id = Type.String({ minLength: 1, maxLength: 256 });
const { cursor } = listFields(MOST_LISTED, USUAL);
const Query = Type.Object(
  {
    from: Type.Optional({ ...Time, description: "The first event time, ISO 8601 with a zone." }),
    to: Type.Optional({ ...Time, description: "Event times before this one." }),
    decision: Type.Optional(Decision),
    min_score: Type.Optional(Type.Number({ minimum: 0, maximum: 1 })),
    card_id: Type.Optional(Id),
    merchant_id: Type.Optional(Id),
    model: Type.Optional(Type.String({ minLength: 1, maxLength: 200, description: "name@version" })),
    labelled: Type.Optional(
      Type.Union([Type.Literal("true"), Type.Literal("false"), Type.Literal("fraud"), Type.Literal("genuine")], {
        description: "By the last label; true: any label. Missed frauds: labelled=fraud&decision=approve.",
      }),
    ),
    limit: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: MOST_CSV,
        description:
          `Entries in one answer: ${USUAL}, and up to ${MOST_LISTED}; as CSV ${MOST_CSV}, which is ` + "also the most.",
      }),
    ),
    cursor,
    format: Type.Optional(Type.Union([Type.Literal("json"), Type.Literal("csv")], { default: "json" })),
  },
  { additionalProperties: false },
);
type Query = Static<typeof Query>;

const Entry = Type.Object(
  {
    prediction: PredictionAnswer,
    label: Type.Union(
      [Type.Object({ is_fraud: Type.Boolean(), label_time: Type.String({ format: "date-time" }) }), Type.Null()],
      { description: "The last one; null: none yet." },
    ),
  },
  { title: "ListedPrediction" },
);
const Answer = Type.Object(
  {
    predictions: Type.Array(Entry),
    total: Type.Union([Type.Integer({ minimum: 0 }), Type.Null()], {
      description: `All that there are, on whichever page; null: more than ${MOST_COUNTED.toLocaleString("en-US")}.`,
    }),
    next_cursor: Type.Union([Type.String(), Type.Null()], {
      description: "The value of cursor for the next page; null: this is the last one.",
    }),
  },
  {
    title: "PredictionList",
    description:
      "Newest event time first. With format=csv, a file of the same rows without features; the header " +
      "x-next-cursor is set when there are more.",
  },
);

/** GET /api/v1/predictions: what was stored, by time, decision, score, card, merchant, model and label. */
export async function predictionListRoutes(app: FastifyInstance, context: ApiContext): Promise<void> {
  const { queries, cards } = context;
  const api = app.withTypeProvider<TypeBoxTypeProvider>();
  const views = new PredictionViews(context);
  const schema = {
    tags: ["predictions"],
    summary: "Stored predictions with their labels, newest first",
    querystring: Query,
    response: { 200: Answer },
  };

  api.get("/api/v1/predictions", { config: { permission: "predictions:read" }, schema }, async (request, reply) => {
    const { query } = request;
    const filter = filterOf(query, (card) => cards?.ofText(card) ?? card);
    const after =
      query.cursor === undefined
        ? null
        : (readCursor(query.cursor, ["number", "string", "number", "number"]) as unknown as PlaceInList);
    if (query.format === "csv") return sendCsv(request, reply, filter, { after, limit: query.limit ?? MOST_CSV });
    const limit = query.limit ?? USUAL;
    if (limit > MOST_LISTED)
      throw invalidQuery([
        { in: "query", field: "limit", code: "maximum", message: `must be <= ${MOST_LISTED}, but for format=csv` },
      ]);
    return queries.ask("lookup", request, reply, async (clickhouse) => {
      const rows = await listPredictions(clickhouse, filter, { after, limit: limit + 1 });
      const total = await countPredictions(clickhouse, filter, MOST_COUNTED);
      const page = rows.slice(0, limit);
      return {
        predictions: await Promise.all(page.map((row) => views.showLabelled(row))),
        total,
        next_cursor: rows.length > limit ? cursorOf(...placeOf(page[limit - 1])) : null,
      };
    });
  });

  /**
   * Each page is a query of its own: a slow reader keeps nobody else waiting. The first one comes before the answer, so
   * that its failure is one.
   */
  async function sendCsv(
    request: FastifyRequest,
    reply: FastifyReply,
    filter: PredictionFilter,
    { after, limit }: { after: PlaceInList | null; limit: number },
  ): Promise<FastifyReply> {
    const read = (from: PlaceInList | null, most: number): Promise<ListedRow[]> =>
      queries.ask("lookup", request, reply, (clickhouse) =>
        listPredictions(clickhouse, filter, { after: from, limit: most }),
      );
    const first = await read(after, Math.min(limit, CSV_PAGE));
    const next =
      first.length < Math.min(limit, CSV_PAGE)
        ? null
        : await queries.ask("lookup", request, reply, (clickhouse) => placeAfter(clickhouse, filter, { after, limit }));
    void reply
      .header("content-type", "text/csv; charset=utf-8")
      .header("content-disposition", 'attachment; filename="predictions.csv"');
    if (next !== null) void reply.header("x-next-cursor", cursorOf(...next));
    return reply.send(Readable.from(pages(first, limit, read)));
  }
  return Promise.resolve();
}

async function* pages(
  first: ListedRow[],
  limit: number,
  read: (from: PlaceInList, most: number) => Promise<ListedRow[]>,
): AsyncGenerator<string> {
  yield csvHead();
  let left = limit;
  for (let rows = first; rows.length > 0;) {
    yield rows.map(csvRow).join("");
    left -= rows.length;
    if (left === 0 || rows.length < CSV_PAGE) return;
    rows = await read(placeOf(rows[rows.length - 1]), Math.min(left, CSV_PAGE));
  }
}

function placeOf({ event_time, topic, partition, offset }: ListedRow): PlaceInList {
  return [event_time, topic, partition, offset];
}

/** @throws HttpProblem 400 naming each bad field */
function filterOf(
  { from, to, decision, min_score, card_id, merchant_id, model, labelled }: Query,
  cardOf: (card: string) => string,
): PredictionFilter {
  const errors: BadField[] = [];
  const time = (field: "from" | "to", value: string | undefined): number | undefined => {
    const ms = value === undefined ? undefined : parseTime(value);
    // The schema's format lets leap seconds pass.
    if (Number.isNaN(ms))
      errors.push({ in: "query", field, code: "format", message: "is no time in ISO 8601 with a zone" });
    return ms === undefined ? undefined : Math.min(Math.max(ms, EARLIEST), LATEST);
  };
  const [first, end] = [time("from", from), time("to", to)];
  if (first !== undefined && end !== undefined && first >= end)
    errors.push({ in: "query", field: "to", code: "range", message: "must be later than from" });
  if (errors.length > 0) throw invalidQuery(errors);
  return {
    from: first,
    to: end,
    decision,
    minScore: min_score,
    cardId: card_id === undefined ? undefined : cardOf(card_id),
    merchantId: merchant_id,
    model,
    labelled,
  };
}
