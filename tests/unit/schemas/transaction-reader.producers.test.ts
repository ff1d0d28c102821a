import avsc from "avsc";
import { describe, expect, test } from "vitest";
import type { AvroObject, AvroSchema } from "../../../schemas/avro-cursor.js";
import { LabelReader } from "../../../schemas/label-reader.js";
import { PLAIN_SHAPE, type RecordShape } from "../../../schemas/record-shape.js";
import { TransactionReader } from "../../../schemas/transaction-reader.js";
import { JsonSchemaWriter } from "../../../schemas/writer-schema.js";
import { recordShape, LABEL_NAMES, TRANSACTION_NAMES } from "../../../infra/config/record-shape-settings.js";
import { EVENT_TIME, collector, rejectionOf, wired, type Collected } from "./collected.js";

const VALUE = {
  transaction_id: "t",
  event_time: EVENT_TIME,
  card_id: "c",
  merchant_id: "m",
  amount: 12.5,
  currency: "EUR",
};
const TYPES: Record<string, unknown> = {
  transaction_id: "string",
  event_time: "long",
  card_id: "string",
  merchant_id: "string",
  amount: "double",
  currency: "string",
};
const DECIMAL = { type: "bytes", logicalType: "decimal", precision: 12, scale: 2 };
const LOCAL = "a local time has no zone";

const shapeOf = (envelope: string, fields = ""): RecordShape =>
  recordShape(
    { TRANSACTIONS_ENVELOPE: envelope, TRANSACTIONS_FIELDS: fields },
    "TRANSACTIONS",
    TRANSACTION_NAMES,
    true,
  );

function record(types: Record<string, unknown>, name = "Payment"): AvroObject {
  return {
    type: "record",
    name,
    namespace: "com.acme",
    fields: Object.entries(types).map(([field, type]) => ({ name: field, type })),
  } as AvroObject;
}

function avroBytes(schema: AvroSchema, value: object): Buffer {
  return wired(avsc.Type.forSchema(schema as avsc.Schema, { wrapUnions: true, logicalTypes: {} }).toBuffer(value));
}

function readAvro(types: Record<string, unknown>, value: object, shape = PLAIN_SHAPE): Collected {
  const schema = record({ ...TYPES, ...types });
  return collector(schema, () => true, shape)(avroBytes(schema, { ...VALUE, ...value }));
}

const readJson = (value: unknown, shape: RecordShape, schema: unknown = null): Collected =>
  schema === null
    ? collector("null", () => true, shape)(Buffer.from(JSON.stringify(value)))
    : collector(new JsonSchemaWriter(schema), () => true, shape)(wired(Buffer.from(JSON.stringify(value))));

/** Two's complement, most significant byte first, as short as it can be unless a size is given. */
function unscaled(value: bigint, size?: number): Buffer {
  let bytes = size ?? 1;
  while (size === undefined && (value >= 1n << BigInt(8 * bytes - 1) || value < -(1n << BigInt(8 * bytes - 1))))
    bytes += 1;
  return Buffer.from(
    BigInt.asUintN(8 * bytes, value)
      .toString(16)
      .padStart(2 * bytes, "0"),
    "hex",
  );
}

describe("Avro's types", () => {
  test("a unit counts for a floating-point time, too", () => {
    for (const [logicalType, perMs] of [
      ["timestamp-millis", 1],
      ["timestamp-micros", 1e3],
      ["timestamp-nanos", 1e6],
    ] as const) {
      expect(
        readAvro({ event_time: { type: "double", logicalType } }, { event_time: EVENT_TIME * perMs }).eventTime,
      ).toBe(EVENT_TIME);
    }
  });

  test("an attributes map of what can't be read says so when its schema is learnt", () => {
    const inner = { type: "record", name: "Inner", fields: [{ name: "n", type: "int" }] };
    const reader = new TransactionReader({ find: () => 0, number: () => {}, boolean: () => {}, text: () => {} });
    expect(
      reader.learn(1, record({ ...TYPES, attributes: { type: "map", values: ["null", "double", "bytes", inner] } })),
    ).toEqual([
      { attribute: "attributes", type: "map of bytes" },
      { attribute: "attributes", type: "map of record Inner" },
    ]);
    expect(
      reader.learn(2, record({ ...TYPES, attributes: { type: "map", values: ["null", "double", "string", DECIMAL] } })),
    ).toEqual([]);
  });

  test("an enum is its symbol: as an attribute, in a union, by name, in the attributes map, and as currency", () => {
    const channel = { type: "enum", name: "Channel", symbols: ["POS", "WEB"] };
    const types = {
      channel,
      other: ["null", "Channel"],
      currency: { type: "enum", name: "Money", symbols: ["USD", "EUR"] },
      attributes: { type: "map", values: ["double", "Channel"] },
    };
    const read = readAvro(types, {
      channel: "WEB",
      other: { "com.acme.Channel": "POS" },
      attributes: { by: { "com.acme.Channel": "WEB" } },
    });
    expect(read).toMatchObject({
      currency: "EUR",
      attributes: new Map([
        ["channel", "WEB"],
        ["other", "POS"],
        ["by", "WEB"],
      ]),
    });
    expect(read).toMatchObject({
      transactionId: "t",
      cardId: "c",
      merchantId: "m",
      amount: 12.5,
      eventTime: EVENT_TIME,
    });
  });

  test.each<[bigint, number]>([
    [1250n, 2],
    [-1n, 2],
    [0n, 4],
    [99_999_999_999_999_999n, 2],
    [-12_345_678_901_234_567_890n, 10],
    [7n, 0],
    [128n, 1],
    [-128n, 3],
    [255n, 3],
    [5n, 30],
    [1n, 22],
  ])(
    "a decimal of %i and scale %i is the number of its text, in bytes and in fixed, as amount and as attribute",
    (value, scale) => {
      const expected = Number(`${value}e-${scale}`);
      const bytes = { type: "bytes", logicalType: "decimal", precision: 30, scale };
      const fixed = { type: "fixed", name: "Fixed", size: 16, logicalType: "decimal", precision: 30, scale };
      expect(
        readAvro(
          { amount: bytes, fee: ["null", bytes], tax: fixed },
          { amount: unscaled(value), fee: { bytes: unscaled(value) }, tax: unscaled(value, 16) },
        ),
      ).toMatchObject({
        amount: expected,
        attributes: new Map([
          ["fee", expected],
          ["tax", expected],
        ]),
      });
      expect(readAvro({ amount: { ...fixed, name: "Amount" } }, { amount: unscaled(value, 16) }).amount).toBe(expected);
    },
  );

  test("a decimal of megabytes costs no time and is no amount", () => {
    expect(rejectionOf(() => readAvro({ amount: DECIMAL }, { amount: Buffer.alloc(1_000_000, 1) }))).toContain(
      "bad_amount",
    );
    expect(readAvro({ fee: DECIMAL }, { fee: Buffer.alloc(1_000_000, 1) }).attributes.get("fee")).toBeNaN();
  });

  test("Debezium's decimal of any scale, Avro's big-decimal, and a uuid in 16 bytes", () => {
    const variable = {
      type: "record",
      name: "VariableScaleDecimal",
      namespace: "io.debezium.data",
      "connect.name": "io.debezium.data.VariableScaleDecimal",
      fields: [
        { name: "scale", type: "int" },
        { name: "value", type: "bytes" },
      ],
    };
    const big = avsc.Type.forSchema(record({ value: "bytes", scale: "int" }) as avsc.Schema).toBuffer({
      value: unscaled(-31_415n),
      scale: 4,
    });
    const read = readAvro(
      {
        amount: variable,
        fee: { type: "bytes", logicalType: "big-decimal" },
        device: { type: "fixed", name: "Uuid", size: 16, logicalType: "uuid" },
      },
      {
        amount: { scale: 3, value: unscaled(12_345n) },
        fee: big,
        device: Buffer.from("00112233445566778899aabbccddeeff", "hex"),
      },
    );
    expect(read).toMatchObject({
      amount: 12.345,
      attributes: new Map<string, unknown>([
        ["fee", -3.1415],
        ["device", "00112233-4455-6677-8899-aabbccddeeff"],
      ]),
    });
  });

  const nanos = (ms: number): bigint => BigInt(ms) * 1_000_000n;
  test.each<[string, unknown, number | bigint | string, number]>([
    ["timestamp-millis", { type: "long", logicalType: "timestamp-millis" }, EVENT_TIME, EVENT_TIME],
    ["timestamp-micros", { type: "long", logicalType: "timestamp-micros" }, EVENT_TIME * 1000 + 999, EVENT_TIME],
    ["timestamp-nanos", { type: "long", logicalType: "timestamp-nanos" }, nanos(EVENT_TIME), EVENT_TIME],
    [
      "timestamp-nanos of the last nanosecond",
      { type: "long", logicalType: "timestamp-nanos" },
      nanos(EVENT_TIME) - 1n,
      EVENT_TIME - 1,
    ],
    [
      "Connect's Timestamp",
      { type: "long", logicalType: "timestamp-millis", "connect.name": "org.apache.kafka.connect.data.Timestamp" },
      EVENT_TIME,
      EVENT_TIME,
    ],
    ["Debezium's Timestamp", { type: "long", "connect.name": "io.debezium.time.Timestamp" }, EVENT_TIME, EVENT_TIME],
    [
      "Debezium's MicroTimestamp",
      { type: "long", "connect.name": "io.debezium.time.MicroTimestamp" },
      EVENT_TIME * 1000 + 1,
      EVENT_TIME,
    ],
    [
      "Debezium's NanoTimestamp",
      { type: "long", "connect.name": "io.debezium.time.NanoTimestamp" },
      nanos(EVENT_TIME) + 999_999n,
      EVENT_TIME,
    ],
    [
      "Debezium's ZonedTimestamp",
      { type: "string", "connect.name": "io.debezium.time.ZonedTimestamp" },
      "2026-06-01T14:00:00.123456+02:00",
      EVENT_TIME + 123,
    ],
    ["ISO 8601", "string", "2026-06-01T12:00:00Z", EVENT_TIME],
  ])("event_time and label_time as %s", (_name, type, written, expected) => {
    for (const union of [false, true]) {
      const of = union ? ["null", type] : type;
      expect(timesOf(of, written, union)).toEqual([expected, expected]);
    }
  });

  test.each<[string, unknown, string]>([
    ["date", { type: "int", logicalType: "date" }, "a date has no time of day"],
    ["time-millis", { type: "int", logicalType: "time-millis" }, "a time of day has no date"],
    ["time-micros", { type: "long", logicalType: "time-micros" }, "a time of day has no date"],
    ["local-timestamp-millis", { type: "long", logicalType: "local-timestamp-millis" }, LOCAL],
    ["local-timestamp-micros", { type: "long", logicalType: "local-timestamp-micros" }, LOCAL],
    ["local-timestamp-nanos", { type: "long", logicalType: "local-timestamp-nanos" }, LOCAL],
    ["io.debezium.time.Date", { type: "int", "connect.name": "io.debezium.time.Date" }, "a date has no time of day"],
    ["boolean", "boolean", ""],
  ])("of %s no moment is read, and the reason names the type", (name, type, why) => {
    const zero = type === "boolean" ? false : 1;
    const reason = rejectionOf(() => readAvro({ event_time: type }, { event_time: zero }));
    expect(reason).toMatch(/^schema_mismatch: event_time must be a time/);
    expect(reason).toContain(name);
    expect(reason).toContain(why);
    const label = labelSchema(type);
    const reader = new LabelReader();
    reader.learn(7, label);
    const bytes = avroBytes(label, { transaction_id: "t", card_id: "c", is_fraud: true, label_time: zero });
    expect(reader.read(bytes, 0, bytes.length)).toBe(false);
    expect(reader.refusal?.reason).toContain(name);
  });

  test("a text that is no time is a dead letter", () => {
    for (const text of ["2026-02-30T00:00:00Z", "yesterday", "1780315200000"])
      expect(rejectionOf(() => readAvro({ event_time: "string" }, { event_time: text }))).toContain(
        "bad_event_time: event_time is a string that is not a time",
      );
  });

  test("what a target asks for and can't be read is told when the schema is learnt", () => {
    const schema = record({
      ...TYPES,
      raw: "bytes",
      list: ["null", { type: "array", items: "long" }],
      place: { type: "record", name: "Place", fields: [] },
      unasked: "bytes",
      fine: DECIMAL,
    });
    const reader = new TransactionReader({
      find: (name) => (name === "unasked" ? -1 : 0),
      number: () => {},
      boolean: () => {},
      text: () => {},
    });
    expect(reader.learn(7, schema)).toEqual([
      { attribute: "raw", type: "bytes" },
      { attribute: "list", type: "array" },
      { attribute: "place", type: "record Place" },
    ]);
    expect(reader.learn(8, record(TYPES))).toEqual([]);
  });

  function labelSchema(time: unknown): AvroObject {
    return record({ transaction_id: "string", card_id: "string", is_fraud: "boolean", label_time: time }, "Label");
  }

  /** As a transaction's and as a label's, written as the union's second branch or alone. */
  function timesOf(type: unknown, written: number | bigint | string, union: boolean): [number, number] {
    const branch =
      typeof written === "string"
        ? Buffer.concat([varint(BigInt(Buffer.byteLength(written))), Buffer.from(written)])
        : varint(BigInt(written));
    const time = union ? Buffer.concat([varint(1n), branch]) : branch;
    const text = (value: string): Buffer => Buffer.concat([varint(BigInt(value.length)), Buffer.from(value)]);
    const amount = Buffer.alloc(8);
    const payment = wired(Buffer.concat([text("t"), time, text("c"), text("m"), amount, text("EUR")]));
    const reader = new LabelReader();
    reader.learn(7, labelSchema(type));
    const label = wired(Buffer.concat([text("t"), text("c"), Buffer.from([1]), time]));
    expect(reader.read(label, 0, label.length)).toBe(true);
    return [collector(record({ ...TYPES, event_time: type }))(payment).eventTime, reader.labelTime];
  }
});

function varint(value: bigint): Buffer {
  const bytes: number[] = [];
  for (let rest = BigInt.asUintN(64, (value << 1n) ^ (value >> 63n)); ; rest >>= 7n) {
    if (rest < 0x80n) return Buffer.from([...bytes, Number(rest)]);
    bytes.push(Number(rest & 0x7fn) | 0x80);
  }
}

describe("existing topics", () => {
  const ROW = record(
    {
      id: "long",
      pan: "string",
      shop: [
        "null",
        {
          type: "record",
          name: "Shop",
          fields: [
            { name: "code", type: "int" },
            { name: "country", type: "string" },
          ],
        },
      ],
      total: DECIMAL,
      currency: { type: "enum", name: "Cur", symbols: ["EUR"] },
      created_at: { type: "long", "connect.name": "io.debezium.time.MicroTimestamp" },
      channel: ["null", "string"],
      amount: "string",
    },
    "Value",
  );
  const FIELDS =
    "transaction_id=id, card_id=pan, merchant_id=shop.code, amount=total, event_time=created_at, country=shop.country";
  const row = {
    id: 12_345,
    pan: "c-1",
    shop: { "com.acme.Shop": { code: 77, country: "DE" } },
    total: unscaled(1999n),
    currency: "EUR",
    created_at: EVENT_TIME * 1000,
    channel: { string: "web" },
    amount: "not ours",
  };
  const EXPECTED = {
    transactionId: "12345",
    cardId: "c-1",
    merchantId: "77",
    amount: 19.99,
    currency: "EUR",
    eventTime: EVENT_TIME,
    attributes: new Map([
      ["country", "DE"],
      ["channel", "web"],
    ]),
  };
  const ENVELOPE = {
    type: "record",
    name: "Envelope",
    namespace: "com.acme",
    fields: [
      { name: "before", type: ["null", ROW], default: null },
      { name: "after", type: ["null", "Value"], default: null },
      { name: "source", type: record({ db: "string" }, "Source") },
      { name: "op", type: "string" },
      { name: "ts_ms", type: ["null", "long"] },
    ],
  } as AvroObject;
  const envelope = (after: object | null, before: object | null = null): object => ({
    before: before && { "com.acme.Value": before },
    after: after && { "com.acme.Value": after },
    source: { db: "pay" },
    op: after === null ? "d" : "c",
    ts_ms: { long: 5 },
  });

  const OPS = [
    ["d", "the row was deleted (op d)"],
    ["t", "the table was truncated (op t): the record has no row"],
    ["m", "it is a message of the database's log (op m), not a row"],
  ] as const;

  test("fields of other names, numbers as ids, and fields of records in records", () => {
    expect(collector(ROW, () => true, shapeOf("", FIELDS))(avroBytes(ROW, row))).toEqual(EXPECTED);
  });

  test("Debezium's envelope: the row is read, a deleted one is a dead letter that says so", () => {
    const read = collector(ENVELOPE, () => true, shapeOf("after", FIELDS));
    expect(read(avroBytes(ENVELOPE, envelope(row)))).toEqual(EXPECTED);
    expect(read(avroBytes(ENVELOPE, envelope(row, { ...row, pan: "old" })))).toEqual(EXPECTED);
    expect(rejectionOf(() => read(avroBytes(ENVELOPE, envelope(null, row))))).toMatch(
      /^no_payload: the row was deleted/,
    );
    expect(rejectionOf(() => read(Buffer.alloc(0), 0, -1))).toContain("empty_value");
    for (const [op, reason] of OPS)
      expect(rejectionOf(() => read(avroBytes(ENVELOPE, { ...envelope(null), op })))).toBe(`no_payload: ${reason}`);
    // Messages have a schema of their own.
    const message = record(
      { op: "string", ts_ms: ["null", "long"], message: record({ prefix: "string" }, "Message") },
      "MessageEnvelope",
    );
    expect(
      rejectionOf(() =>
        collector(
          message,
          () => true,
          shapeOf("payload.after", FIELDS),
        )(avroBytes(message, { op: "m", ts_ms: null, message: { prefix: "x" } })),
      ),
    ).toContain("no_payload: it is a message");
    // A path whose beginning isn't there: JSON has it, Avro has not.
    expect(
      collector(ENVELOPE, () => true, shapeOf("payload.after", FIELDS))(avroBytes(ENVELOPE, envelope(row))),
    ).toEqual(EXPECTED);
  });

  test("records of our own go through the same topic, whatever the settings say", () => {
    const schema = record({ ...TYPES, attributes: { type: "map", values: ["double", "string"] } });
    const bytes = avroBytes(schema, { ...VALUE, attributes: { a: { double: 1 } } });
    for (const shape of [PLAIN_SHAPE, shapeOf("after", FIELDS), shapeOf("payload")]) {
      expect(collector(schema, () => true, shape)(bytes)).toMatchObject({
        transactionId: "t",
        cardId: "c",
        merchantId: "m",
        amount: 12.5,
        attributes: new Map([["a", 1]]),
      });
      expect(readJson({ ...VALUE, attributes: { a: 1 } }, shape)).toMatchObject({
        transactionId: "t",
        cardId: "c",
        attributes: new Map([["a", 1]]),
      });
    }
  });

  test("without the settings a schema that lacks our fields, or has other types, names them", () => {
    expect(rejectionOf(() => collector(ROW)(avroBytes(ROW, row)))).toBe(
      "schema_mismatch: schema 7: the writer's schema lacks transaction_id, event_time, card_id, merchant_id",
    );
    expect(
      rejectionOf(() =>
        collector(
          ROW,
          () => true,
          shapeOf("", `${FIELDS},currency=cur`.replace("card_id=pan", "card_id=number")),
        )(avroBytes(ROW, row)),
      ),
    ).toContain("lacks card_id (number)");
    expect(
      rejectionOf(() =>
        collector(ROW, () => true, shapeOf("", FIELDS.replace("card_id=pan", "card_id=pann")))(avroBytes(ROW, row)),
      ),
    ).toContain("lacks card_id (pann: did you mean pan?)");
    expect(
      rejectionOf(() =>
        readJson(
          { after: { ...jsonRow, amount: null } },
          shapeOf("after", FIELDS.replace("amount=total", "amount=totl")),
        ),
      ),
    ).toBe("missing_field: amount (totl: did you mean total?) is missing");
    const reader = new TransactionReader(
      { find: () => 0, number: () => {}, boolean: () => {}, text: () => {} },
      null,
      shapeOf("", `${FIELDS},how=chanel`),
    );
    expect(reader.learn(7, ROW)).toContainEqual({
      attribute: "how",
      type: "absent in the records: how (chanel: did you mean channel?)",
    });
    // A field of ours whose path is wrong, where the records have our own name as well.
    const both = record({ ...TYPES, pan: "string", totals: "double" });
    const misled = (fields: string): readonly unknown[] =>
      new TransactionReader(
        { find: () => -1, number: () => {}, boolean: () => {}, text: () => {} },
        null,
        shapeOf("", fields),
      ).learn(7, both);
    expect(misled("card_id=pan,amount=total")).toEqual([
      { attribute: "amount", type: "absent in the records: amount (total: did you mean totals?)", ofOurs: true },
    ]);
    expect(misled("card_id=pan,amount=totals")).toEqual([]);
    expect(misled("card_id=number,amount=sum")).toEqual([]);
    expect(rejectionOf(() => readAvro({ card_id: "long" }, { card_id: 5 }))).toBe(
      "schema_mismatch: card_id must be a string; in the writer's schema it is long",
    );
  });

  test("Debezium's JSON, with its schema and without: why there is no row", () => {
    for (const [op, reason] of OPS) {
      for (const event of [
        { before: null, after: null, op },
        { source: {}, op, ts_ms: 5 },
        { before: { id: 1 }, op },
      ]) {
        expect(rejectionOf(() => readJson(event, shapeOf("after", FIELDS)))).toBe(`no_payload: ${reason}`);
        expect(rejectionOf(() => readJson({ schema: null, payload: event }, shapeOf("payload.after", FIELDS)))).toBe(
          `no_payload: ${reason}`,
        );
      }
    }
    expect(rejectionOf(() => readJson({ before: { id: 1 }, op: "u" }, shapeOf("after", FIELDS)))).toBe(
      "no_payload: after is null or absent in the record's envelope, as where a row was deleted",
    );
    expect(rejectionOf(() => readJson({ schema: null, payload: null }, shapeOf("after", FIELDS)))).toContain(
      "no_payload: payload is null",
    );
    expect(rejectionOf(() => readJson({ before: null, op: "w" }, shapeOf("after", FIELDS)))).toContain("missing_field");
  });

  const CONNECT = {
    type: "struct",
    fields: [
      { field: "before", type: "struct", optional: true, fields: [] },
      {
        field: "after",
        type: "struct",
        optional: true,
        fields: [
          { field: "id", type: "int64" },
          { field: "total", type: "bytes", name: "org.apache.kafka.connect.data.Decimal", parameters: { scale: "2" } },
          { field: "created_at", type: "int64", name: "io.debezium.time.MicroTimestamp" },
          { field: "fee", type: "bytes", name: "org.apache.kafka.connect.data.Decimal", parameters: { scale: "3" } },
        ],
      },
    ],
  };
  const jsonRow = {
    id: 12_345,
    pan: "c-1",
    shop: { code: 77, country: "DE" },
    total: unscaled(1999n).toString("base64"),
    currency: "EUR",
    created_at: EVENT_TIME * 1000 + 7,
    channel: "web",
    amount: "not ours",
    fee: unscaled(-5n).toString("base64"),
    none: null,
    list: [1],
  };

  test("Connect's JSON with its schema: decimals in base64, times in the unit that it names", () => {
    const value = { schema: CONNECT, payload: { before: null, after: jsonRow, op: "c" } };
    const expected = { ...EXPECTED, attributes: new Map<string, unknown>([...EXPECTED.attributes, ["fee", -0.005]]) };
    for (const path of ["payload.after", "after"]) expect(readJson(value, shapeOf(path, FIELDS))).toEqual(expected);
    expect(
      rejectionOf(() =>
        readJson({ ...value, payload: { before: jsonRow, after: null, op: "d" } }, shapeOf("after", FIELDS)),
      ),
    ).toContain("no_payload");
  });

  test("JSON without a schema: amounts as texts, times in ISO 8601", () => {
    expect(
      readJson(
        { before: null, after: { ...jsonRow, total: "19.99", created_at: "2026-06-01T12:00:00Z", fee: 1 }, op: "c" },
        shapeOf("after", FIELDS),
      ),
    ).toEqual({ ...EXPECTED, attributes: new Map<string, unknown>([...EXPECTED.attributes, ["fee", 1]]) });
    expect(rejectionOf(() => readJson({ after: { ...jsonRow, id: 2 ** 53 } }, shapeOf("after", FIELDS)))).toContain(
      "JSON does not carry exactly",
    );
    expect(rejectionOf(() => readJson({ after: { ...jsonRow, total: "a lot" } }, shapeOf("after", FIELDS)))).toContain(
      "amount is not a number",
    );
    expect(rejectionOf(() => readJson({ payload: jsonRow }, PLAIN_SHAPE))).toContain("json_unknown_key");
  });

  test("JSON Schema: an id in front of JSON, further fields are attributes, logical types by their titles", () => {
    const schema = {
      type: "object",
      title: "Payment",
      properties: {
        amount: {
          title: "org.apache.kafka.connect.data.Decimal",
          "connect.type": "bytes",
          "connect.parameters": { scale: "2" },
          type: "number",
        },
        event_time: {
          oneOf: [
            { type: "null" },
            { title: "org.apache.kafka.connect.data.Timestamp", "connect.type": "int64", type: "integer" },
          ],
        },
        fee: { $ref: "#/definitions/Fee" },
      },
      definitions: { Fee: { title: "org.apache.kafka.connect.data.Decimal", "connect.parameters": { scale: "1" } } },
    };
    expect(
      readJson(
        {
          ...VALUE,
          amount: unscaled(7n).toString("base64"),
          fee: unscaled(15n).toString("base64"),
          channel: "pos",
          attributes: { a: true },
        },
        PLAIN_SHAPE,
        schema,
      ),
    ).toMatchObject({
      amount: 0.07,
      eventTime: EVENT_TIME,
      attributes: new Map<string, unknown>([
        ["fee", 1.5],
        ["channel", "pos"],
        ["a", true],
      ]),
    });
    expect(
      rejectionOf(() =>
        readJson({ ...VALUE, event_time: 20_000 }, PLAIN_SHAPE, {
          properties: { event_time: { title: "io.debezium.time.Date" } },
        }),
      ),
    ).toContain("a date has no time of day");
    expect(rejectionOf(() => collector(new JsonSchemaWriter({}))(wired(Buffer.from("[1]"))))).toContain("json_invalid");
  });

  test("symbols with their enum's name in front are the same in Avro and JSON Schema; amounts may be texts", () => {
    const symbols = ["CURRENCY_UNSPECIFIED", "CURRENCY_EUR"];
    expect(
      readAvro(
        { currency: { type: "enum", name: "Currency", symbols }, amount: "string" },
        { currency: "CURRENCY_EUR", amount: "19.99" },
      ),
    ).toMatchObject({ currency: "EUR", amount: 19.99 });
    const schema = {
      properties: {
        currency: { enum: symbols },
        kind: { $ref: "kinds.json#/$defs/Kind" },
        self: { anyOf: [{ $ref: "#" }, { $ref: "#" }] },
      },
    };
    const kinds = {
      $defs: { Kind: { title: "Kind", type: "string", enum: ["KIND_WEB", "KIND_POS"] }, Fee: { $ref: "#/$defs/Kind" } },
    };
    const read = collector(new JsonSchemaWriter(schema, new Map([["kinds.json", kinds]])));
    expect(
      read(
        wired(Buffer.from(JSON.stringify({ ...VALUE, currency: "CURRENCY_EUR", amount: "19.99", kind: "KIND_POS" }))),
      ),
    ).toMatchObject({ currency: "EUR", amount: 19.99, attributes: new Map([["kind", "POS"]]) });
    expect(rejectionOf(() => read(wired(Buffer.from(JSON.stringify({ ...VALUE, amount: [1] })))))).toBe(
      "json_wrong_type: amount is not a number, but an array",
    );
  });

  test("a JSON Schema that refers to itself in many places is read at once", () => {
    const schema = { properties: Object.fromEntries(Array.from({ length: 20 }, (_, i) => [`p${i}`, { $ref: "#" }])) };
    expect(readJson(VALUE, PLAIN_SHAPE, schema).amount).toBe(12.5);
  });

  test("labels have settings of their own", () => {
    const shape = recordShape(
      { LABELS_ENVELOPE: "after", LABELS_FIELDS: "transaction_id=payment,card_id=pan,is_fraud=verdict,label_time=at" },
      "LABELS",
      LABEL_NAMES,
      false,
    );
    const inner = record(
      { payment: "long", pan: "string", verdict: "int", at: { type: "long", logicalType: "timestamp-micros" } },
      "Value",
    );
    const schema = {
      type: "record",
      name: "Envelope",
      fields: [
        { name: "before", type: ["null", inner] },
        { name: "after", type: ["null", "com.acme.Value"] },
      ],
    } as AvroObject;
    const reader = new LabelReader(null, shape);
    reader.learn(7, schema);
    const read = (bytes: Buffer): unknown => {
      if (!reader.read(bytes, 0, bytes.length)) return reader.refusal?.code;
      const text = (at: number, length: number): string => reader.bytes.toString("utf8", at, at + length);
      return [
        text(reader.transactionAt, reader.transactionLength),
        text(reader.cardAt, reader.cardLength),
        reader.isFraud,
        reader.labelTime,
      ];
    };
    const after = (value: object): Buffer => avroBytes(schema, { before: null, after: { "com.acme.Value": value } });
    expect(read(after({ payment: 9_007_199_254_740_001, pan: "c", verdict: 1, at: EVENT_TIME * 1000 }))).toEqual([
      "9007199254740001",
      "c",
      true,
      EVENT_TIME,
    ]);
    expect(read(after({ payment: 1, pan: "c", verdict: 0, at: 0 }))).toEqual(["1", "c", false, 0]);
    expect(read(after({ payment: 1, pan: "c", verdict: 2, at: 0 }))).toBe("bad_verdict");
    expect(read(avroBytes(schema, { before: null, after: null }))).toBe("no_payload");
    expect(
      read(Buffer.from(JSON.stringify({ after: { payment: 5, pan: "c", verdict: 1, at: "2026-06-01T12:00:00Z" } }))),
    ).toEqual(["5", "c", true, EVENT_TIME]);
    expect(read(Buffer.from('{"transaction_id":"t","card_id":"c","is_fraud":true,"label_time":1}'))).toEqual([
      "t",
      "c",
      true,
      1,
    ]);
  });
});
