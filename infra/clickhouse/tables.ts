import { controlEventSchema, labelSchema, predictionSchema } from "../../schemas/generated.js";

/** Coordinates of the record that a row was made from; they begin every row. */
const COORDINATES = ["topic", "partition", "offset"] as const;

const fieldsOf = (schema: { fields: readonly { name: string }[] }): string[] =>
  schema.fields.map((field) => field.name);

/**
 * What the sink writes to each table, in the order of its rows; the server sets `inserted_at`. Columns that hold an
 * Avro field have its name and its position in the schema, so a field that is added there needs a migration, too.
 */
export const SINK_COLUMNS = {
  transactions: [
    ...COORDINATES,
    "transaction_id",
    "event_time",
    "card_id",
    "merchant_id",
    "amount",
    "currency",
    "numbers",
    "texts",
    "flags",
  ],
  predictions: [...COORDINATES, ...fieldsOf(predictionSchema), "reply_to"],
  shadow_predictions: [...COORDINATES, ...fieldsOf(predictionSchema), "reply_to"],
  labels: [...COORDINATES, ...fieldsOf(labelSchema), "version"],
  dead_letters: [
    ...COORDINATES,
    "at",
    "key",
    "value",
    "code",
    "reason",
    "step",
    "source_topic",
    "source_partition",
    "source_offset",
    "attempt",
    "reply_to",
    "headers",
  ],
  control_events: [
    ...COORDINATES,
    ...fieldsOf(controlEventSchema).filter((name) => name !== "event"),
    "kind",
    "payload",
  ],
} as const satisfies Record<string, readonly string[]>;

export type SinkTable = keyof typeof SINK_COLUMNS;

/** What the API writes about the requests that it serves and their responses. */
export const REQUEST_LOG_COLUMNS = {
  requests: ["request_id", "at", "user_id", "username", "role", "method", "route", "url", "address", "body"],
  responses: ["request_id", "at", "user_id", "method", "route", "status", "code", "ms", "body"],
} as const satisfies Record<string, readonly string[]>;

export type RequestLogTable = keyof typeof REQUEST_LOG_COLUMNS;

/**
 * The earliest and latest time that a DateTime64(3) column can hold and a month partition can name, epoch milliseconds.
 */
export const TIME_RANGE = { least: Date.UTC(1970, 0, 1), most: Date.UTC(2299, 11, 31) } as const;

/** Days that rows are kept, counted from their insertion; 0 keeps them forever. */
export type Retention = Record<SinkTable | RequestLogTable, number>;

/** The longest retention other than forever: ClickHouse counts a row's end in seconds up to 2106. */
export const LONGEST_RETENTION_DAYS = 25_000;

/** Two years for what models learn from and are judged by; operators' decisions are kept forever. */
export const DEFAULT_RETENTION: Retention = {
  transactions: 730,
  predictions: 730,
  shadow_predictions: 180,
  labels: 730,
  dead_letters: 180,
  control_events: 0,
  requests: 90,
  responses: 90,
};

/** Tables derived from another one, whose rows are deleted with that one's. */
export const DERIVED_TABLES = { labels_by_event: "labels" } as const satisfies Record<string, keyof Retention>;
