import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import { describe, expect, test } from "vitest";
import { RowBinaryWriter } from "../../../infra/clickhouse/row-binary.js";
import { createLogger } from "../../../infra/logging.js";
import { headerSchemaOf } from "../../../infra/kafka/writer-of.js";
import { transactionRows } from "../../../pipelines/sink/rows/transaction-rows.js";
import { parseProto } from "../../../schemas/proto-file.js";
import { PLAIN_SHAPE, type RecordShape } from "../../../schemas/record-shape.js";
import { LABEL_NAMES, recordShape, TRANSACTION_NAMES } from "../../../infra/config/record-shape-settings.js";
import { LabelReader } from "../../../schemas/label-reader.js";
import { TransactionReader } from "../../../schemas/transaction-reader.js";
import { ProtobufWriter } from "../../../schemas/writer-schema.js";
import { fetchedRecords } from "../../support/fetched-records.js";
import { EVENT_TIME, collector, rejectionOf, wired, type Collected } from "./collected.js";

const PROTO = `
// Payments, as a producer keeps them.
syntax = "proto3";
package com.acme.pay;
import "google/protobuf/timestamp.proto";
import "common/money.proto";
option java_package = "com.acme.pay";

/* Not the record: */
message Ignored {
  option deprecated = true; string a = 1 [json_name = "x", (custom.opt) = { a: 1, b: [1, 2] }]; reserved 2, 4 to 6;
}
message Payment {
  enum Channel { option allow_alias = true; UNKNOWN = 0; WEB = 1; ONLINE = 1; POS = 2 [deprecated = true]; }
  string transaction_id = 1;
  google.protobuf.Timestamp event_time = 2;
  string card_id = 3;
  string merchant_id = 4;
  common.Amount amount = 5;
  Currency currency = 6;
  Channel channel = 7;
  optional double risk = 8;
  int32 items = 9;
  bool known = 10;
  oneof how { string device = 11; sint64 terminal = 12; }
  map<string, double> attributes = 13;
  repeated string tags = 14;
  bytes raw = 15;
  fixed32 f32 = 16; sfixed64 f64 = 17; float f = 18; uint64 u = 19;
  .google.protobuf.StringValue city = 20;
  message Inner { message Deep { string transaction_id = 1; } Payment payment = 1; }
  extensions 100 to max;
}
enum Currency { NONE = 0; EUR = 1; USD = 2; }
service Payments { rpc Get (Payment) returns (stream Payment) { option idempotency_level = NO_SIDE_EFFECTS; } }
`;
const MONEY =
  'syntax = "proto3"; package common; message Amount { bytes value = 1; uint32 precision = 2; int32 scale = 3; }';
/** The same fields in types of other kinds, as an older producer has them. */
const PLAIN =
  `syntax = "proto2"; message P { required string transaction_id = 1; required int64 event_time = 2; optional ` +
  "string card_id = 3; required string merchant_id = 4; optional float amount = 5; required string currency = " +
  "6; optional int32 items = 7 [default = 3]; }";

const file = parseProto(PROTO.replace("common.Amount", "confluent.type.Decimal"), [MONEY]);

type Write = (writer: BinaryWriter) => void;

function payment(more: Write = () => {}, currency = 1): Buffer {
  const writer = new BinaryWriter();
  writer.uint32(tag(1, 2)).string("t-ü");
  writer
    .uint32(tag(2, 2))
    .fork()
    .uint32(tag(1, 0))
    .int64(BigInt(EVENT_TIME / 1000))
    .uint32(tag(2, 0))
    .int32(123_999_999)
    .join();
  writer.uint32(tag(3, 2)).string("card");
  writer.uint32(tag(4, 2)).string("shop");
  writer.uint32(tag(5, 2)).fork().uint32(tag(1, 2)).bytes(Buffer.from("07cf", "hex")).uint32(tag(3, 0)).int32(2).join();
  writer.uint32(tag(6, 0)).int32(currency);
  more(writer);
  return Buffer.from(writer.finish());
}

const tag = (field: number, wireType: number): number => (field << 3) | wireType;
const framed = (value: Buffer, indexes = [2, 2]): Buffer => wired(Buffer.concat([Buffer.from(indexes), value]));
const read = (value: Buffer, shape: RecordShape = PLAIN_SHAPE): Collected =>
  collector(new ProtobufWriter(file), () => true, shape)(value);

const FIELDS = {
  transactionId: "t-ü",
  cardId: "card",
  merchantId: "shop",
  amount: 19.99,
  currency: "EUR",
  eventTime: EVENT_TIME + 123,
};
/** What a proto3 record has that says nothing: fields without presence have their default. */
const DEFAULTS: [string, unknown][] = [
  ["channel", "UNKNOWN"],
  ["items", 0],
  ["known", false],
  ["f32", 0],
  ["f64", 0],
  ["f", 0],
  ["u", 0],
];

describe("Protocol Buffers", () => {
  test("a record is read by the second message of its file; defaults count where absence can't be told", () => {
    expect(read(framed(payment()))).toEqual({ ...FIELDS, attributes: new Map(DEFAULTS) });
  });

  test("every scalar type, enums, wrappers, oneofs and maps; of a field that stands twice the last counts", () => {
    const value = payment((writer) => {
      writer
        .uint32(tag(7, 0))
        .int32(2)
        .uint32(tag(8, 1))
        .double(0.5)
        .uint32(tag(9, 0))
        .int32(-7)
        .uint32(tag(10, 0))
        .bool(true)
        .uint32(tag(11, 2))
        .string("old")
        .uint32(tag(11, 2))
        .string("phone");
      for (const [key, number] of [
        ["a", 1],
        ["b", 2],
        ["a", 3],
      ] as const)
        writer.uint32(tag(13, 2)).fork().uint32(tag(1, 2)).string(key).uint32(tag(2, 1)).double(number).join();
      writer
        .uint32(tag(14, 2))
        .string("tag")
        .uint32(tag(15, 2))
        .bytes(Buffer.from([1]))
        .uint32(tag(16, 5))
        .fixed32(5)
        .uint32(tag(17, 1))
        .sfixed64(-6n)
        .uint32(tag(18, 5))
        .float(1.5)
        .uint32(tag(19, 0))
        .uint64(2n ** 63n);
      writer
        .uint32(tag(20, 2))
        .fork()
        .uint32(tag(1, 2))
        .string("Bonn")
        .join()
        .uint32(tag(500, 2))
        .string("from a later version");
    });
    expect(read(framed(value)).attributes).toEqual(
      new Map<string, unknown>([
        ["channel", "POS"],
        ["risk", 0.5],
        ["items", -7],
        ["known", true],
        ["device", "phone"],
        ["a", 3],
        ["b", 2],
        ["f32", 5],
        ["f64", -6],
        ["f", 1.5],
        ["u", 2 ** 63],
        ["city", "Bonn"],
      ]),
    );
    // Of two names of one number the first is its own; a number without a name stays one.
    expect(read(framed(payment((writer) => void writer.uint32(tag(7, 0)).int32(1)))).attributes.get("channel")).toBe(
      "WEB",
    );
    expect(
      read(framed(payment((writer) => void writer.uint32(tag(7, 0)).int32(9).uint32(tag(12, 0)).sint64(-3n))))
        .attributes,
    ).toEqual(
      new Map<string, unknown>([["channel", "9"], ...DEFAULTS.slice(1, 3), ["terminal", -3], ...DEFAULTS.slice(3)]),
    );
  });

  test("proto2: plain types, and absence that can be told", () => {
    const writer = new ProtobufWriter(parseProto(PLAIN));
    const value = new BinaryWriter()
      .uint32(tag(1, 2))
      .string("t")
      .uint32(tag(2, 0))
      .int64(BigInt(EVENT_TIME))
      .uint32(tag(3, 2))
      .string("c")
      .uint32(tag(4, 2))
      .string("m")
      .uint32(tag(6, 2))
      .string("USD")
      .finish();
    expect(rejectionOf(() => collector(writer)(framed(Buffer.from(value), [0])))).toContain("bad_amount");
    const whole = new BinaryWriter().raw(value).uint32(tag(5, 5)).float(2.5);
    expect(collector(writer)(framed(Buffer.from(whole.finish()), [2, 0]))).toEqual({
      transactionId: "t",
      cardId: "c",
      merchantId: "m",
      amount: 2.5,
      currency: "USD",
      eventTime: EVENT_TIME,
      attributes: new Map([["items", 3]]),
    });
  });

  /** What a message of these fields, beside the usual ones, is read as. */
  function fieldsOf(
    fields: string,
    write: Write = () => {},
    { syntax = 'syntax = "proto3";', shape = PLAIN_SHAPE, more = "" } = {},
  ): Collected {
    const usual: [string, string][] = [
      ["transaction_id", "string"],
      ["event_time", "int64"],
      ["card_id", "string"],
      ["merchant_id", "string"],
      ["amount", "double"],
      ["currency", "string"],
    ];
    const declared = usual
      .filter(([name]) => !new RegExp(`\\b${name} =`).test(fields))
      .map(
        ([name, type]) =>
          `${syntax.includes("proto2") ? "optional " : ""}${type} ${name} = ` +
          `${usual.findIndex(([other]) => other === name) + 1};`,
      );
    const writer = new BinaryWriter();
    for (const line of declared) {
      const name = / (\w+) =/.exec(line)?.[1] ?? "";
      const number = usual.findIndex(([other]) => other === name) + 1;
      if (name === "event_time") writer.uint32(tag(number, 0)).int64(BigInt(EVENT_TIME));
      else if (name === "amount") writer.uint32(tag(number, 1)).double(2.5);
      else writer.uint32(tag(number, 2)).string(name === "currency" ? "EUR" : name.slice(0, 1));
    }
    write(writer);
    const parsed = parseProto(`${syntax} package acme; message Payment { ${declared.join(" ")} ${fields} } ${more}`);
    return collector(new ProtobufWriter(parsed), () => true, shape)(framed(Buffer.from(writer.finish()), [0]));
  }

  test.each([
    ["enum Currency { CURRENCY_UNSPECIFIED = 0; CURRENCY_EUR = 1; } Currency currency = 6;", ""],
    ["CurrencyCode currency = 6;", "enum CurrencyCode { CURRENCY_CODE_UNSPECIFIED = 0; CURRENCY_CODE_EUR = 1; }"],
    ["CurrencyCode currency = 6;", "enum CurrencyCode { CURRENCY_NONE = 0; CURRENCY_EUR = 1; }"],
    ["Iso4217 currency = 6;", "enum Iso4217 { NONE = 0; ISO4217_EUR = 1; }"],
    ["enum Currency { PAYMENT_CURRENCY_NONE = 0; PAYMENT_CURRENCY_EUR = 1; } Currency currency = 6;", ""],
  ])("an enum's symbols are known without its name in front: %s %s", (fields, more) => {
    expect(fieldsOf(fields, (writer) => void writer.uint32(tag(6, 0)).int32(1), { more }).currency).toBe("EUR");
    expect(rejectionOf(() => fieldsOf(fields, undefined, { more }))).toContain("bad_currency");
  });

  test("proto2's defaults stand for what is absent, in every type; what has none is missing", () => {
    const fields = String.raw`optional string currency = 6 [deprecated = false, default = "E" 'U\122'];
      optional Kind kind = 7 [default = POS]; optional sint32 s = 8 [default = -3];
      optional double d = 9 [default = -2.5e1]; optional bool b = 10 [default = true];
      optional fixed32 f = 11 [default = 0x10]; optional float g = 12 [default = inf];
      optional int64 i = 13 [default = -7]; optional int32 none = 14; required string must = 15;
      optional group Old = 16 { optional int32 x = 1; }`;
    const more = "enum Kind { WEB = 0; POS = 1; }";
    const expected = new Map<string, unknown>([
      ["kind", "POS"],
      ["s", -3],
      ["d", -25],
      ["b", true],
      ["f", 16],
      ["g", Infinity],
      ["i", -7],
    ]);
    expect(fieldsOf(fields, undefined, { syntax: 'syntax = "proto2";', more })).toMatchObject({
      currency: "EUR",
      attributes: expected,
    });
    const given = fieldsOf(
      fields,
      (writer) =>
        void writer
          .uint32(tag(16, 3))
          .uint32(tag(8, 0))
          .int32(9)
          .uint32(tag(16, 4))
          .uint32(tag(6, 2))
          .string("USD")
          .uint32(tag(8, 0))
          .sint32(0),
      { syntax: 'syntax = "proto2";', more },
    );
    expect(given.currency).toBe("USD");
    expect(given.attributes.get("s")).toBe(0);
  });

  test("editions say whether absence can be told", () => {
    for (const syntax of ['edition = "2023"; option features.field_presence = IMPLICIT;', 'edition = "2023";']) {
      const implicit = syntax.includes("IMPLICIT");
      expect(
        fieldsOf(
          "int32 n = 7; int32 e = 8 [features.field_presence = EXPLICIT]; bool i = 9 " +
            "[features.field_presence = IMPLICIT];",
          undefined,
          { syntax },
        ).attributes,
      ).toEqual(new Map<string, unknown>([...(implicit ? [["n", 0] as const] : []), ["i", false]]));
    }
  });

  test("wrappers and Google's types", () => {
    const text =
      (id: number, value: string): Write =>
      (writer) =>
        void writer.uint32(tag(id, 2)).fork().uint32(tag(1, 2)).string(value).join();
    expect(fieldsOf("google.protobuf.BytesValue card_id = 3;", text(3, "c-9")).cardId).toBe("c-9");
    expect(fieldsOf("google.type.Decimal amount = 5;", text(5, "12.34")).amount).toBe(12.34);
    expect(fieldsOf("string amount = 5;", (writer) => void writer.uint32(tag(5, 2)).string("1.5")).amount).toBe(1.5);
    expect(rejectionOf(() => fieldsOf("google.protobuf.StringValue amount = 5;", text(5, "lots")))).toBe(
      "bad_amount: amount is a string that is not a number",
    );
    const shape = recordShape(
      { TRANSACTIONS_FIELDS: "currency=amount.currency_code,card_id=number" },
      "TRANSACTIONS",
      TRANSACTION_NAMES,
      true,
    );
    const money: Write = (writer) => {
      writer
        .uint32(tag(5, 2))
        .fork()
        .uint32(tag(1, 2))
        .string("USD")
        .uint32(tag(2, 0))
        .int64(-5n)
        .uint32(tag(3, 0))
        .int32(-250_000_000)
        .join();
      writer.uint32(tag(20, 2)).fork().uint32(tag(1, 0)).uint64(77n).join();
    };
    expect(
      fieldsOf("google.type.Money amount = 5; google.protobuf.UInt64Value number = 20;", money, { shape }),
    ).toMatchObject({ amount: -5.25, currency: "USD", cardId: "77" });
    expect(rejectionOf(() => fieldsOf("google.type.Date event_time = 2;"))).toBe(
      "schema_mismatch: event_time must be a time (epoch milliseconds, a timestamp, or ISO 8601 with a " +
        "zone); in the writer's schema it is google.type.Date",
    );
    expect(rejectionOf(() => fieldsOf("repeated double amount = 5;"))).toContain("it is repeated double");
    expect(rejectionOf(() => fieldsOf("google.protobuf.Timestamp event_time = 2;"))).toBe(
      "event_time_early: event_time is missing or no number",
    );
  });

  test("labels: wrappers, and false where absence can't be told", () => {
    const labelOf = (proto: string, write: Write, shape = PLAIN_SHAPE): unknown => {
      const reader = new LabelReader(null, shape);
      reader.learn(7, new ProtobufWriter(parseProto(proto)));
      const writer = new BinaryWriter()
        .uint32(tag(1, 2))
        .string("t")
        .uint32(tag(2, 2))
        .string("c")
        .uint32(tag(4, 0))
        .int64(5n);
      write(writer);
      const value = framed(Buffer.from(writer.finish()), [0]);
      return reader.read(value, 0, value.length) ? reader.isFraud : reader.refusal;
    };
    const proto = (type: string, syntax = 'syntax = "proto3";'): string =>
      `${syntax} message L { string transaction_id = 1; string card_id = 2; ${type} is_fraud = 3; int64 ` +
      "label_time = 4; }";
    expect(
      labelOf(
        proto("google.protobuf.BoolValue"),
        (writer) => void writer.uint32(tag(3, 2)).fork().uint32(tag(1, 0)).bool(true).join(),
      ),
    ).toBe(true);
    expect(labelOf(proto("google.protobuf.BoolValue"), (writer) => void writer.uint32(tag(3, 2)).fork().join())).toBe(
      false,
    );
    expect(labelOf(proto("google.protobuf.BoolValue"), () => {})).toMatchObject({ code: "bad_verdict" });
    expect(labelOf(proto("bool", 'edition = "2023"; option features = { field_presence: IMPLICIT };'), () => {})).toBe(
      false,
    );
    expect(labelOf(proto("int32"), () => {})).toMatchObject({
      code: "schema_mismatch",
      reason: expect.stringContaining("int32") as string,
    });
    const described = recordShape({ LABELS_FIELDS: "transaction_id=transaction_id" }, "LABELS", LABEL_NAMES, false);
    expect(labelOf(proto("int32"), (writer) => void writer.uint32(tag(3, 0)).int32(1), described)).toBe(true);
    expect(labelOf(proto("int32"), (writer) => void writer.uint32(tag(3, 0)).int32(2), described)).toMatchObject({
      code: "bad_verdict",
    });
  });

  test("an attributes map of what can't be read says so when its schema is learnt", () => {
    const reader = new TransactionReader({ find: () => 0, number: () => {}, boolean: () => {}, text: () => {} });
    const withMap = (map: string): ProtobufWriter =>
      new ProtobufWriter(
        parseProto(
          PLAIN.replace(
            "optional int32 items = 7 [default = 3];",
            `map<string, ${map}> attributes = 7; message Any { optional double n = 1; }`,
          ),
        ),
      );
    expect(reader.learn(1, withMap("Any"))).toEqual([{ attribute: "attributes", type: "map<string, P.Any>" }]);
    expect(reader.learn(2, withMap("double"))).toEqual([]);
  });

  test("an envelope is a message in a message", () => {
    const inner = Buffer.from(new BinaryWriter().uint32(tag(1, 2)).bytes(payment()).finish());
    const shape = recordShape(
      { TRANSACTIONS_ENVELOPE: "payment", TRANSACTIONS_FIELDS: "place=city" },
      "TRANSACTIONS",
      TRANSACTION_NAMES,
      true,
    );
    expect(read(framed(inner, [4, 2, 0]), shape)).toMatchObject(FIELDS);
    expect(rejectionOf(() => read(framed(Buffer.alloc(0), [4, 2, 0]), shape))).toContain("no_payload");
    const event = collector(
      new ProtobufWriter(
        parseProto(
          `${PLAIN} message Event { optional P after = 1; optional string op = 2; optional int64 ts_ms = 3; ` +
            "} message Message { optional string op = 1; optional P message = 2; }",
        ),
      ),
      () => true,
      recordShape({ TRANSACTIONS_ENVELOPE: "after" }, "TRANSACTIONS", TRANSACTION_NAMES, true),
    );
    expect(
      rejectionOf(() => event(framed(Buffer.from(new BinaryWriter().uint32(tag(2, 2)).string("t").finish()), [2, 2]))),
    ).toBe("no_payload: the table was truncated (op t): the record has no row");
    expect(
      rejectionOf(() => event(framed(Buffer.from(new BinaryWriter().uint32(tag(1, 2)).string("m").finish()), [2, 4]))),
    ).toContain("a message of the database's log (op m)");
  });

  test.each<[string, () => Buffer, string]>([
    ["another message of the file", () => framed(payment(), [0]), "lacks transaction_id"],
    [
      "a message that isn't there",
      () => framed(payment(), [2, 14]),
      "names a message that the .proto file doesn't have",
    ],
    ["indexes without end", () => framed(payment(), [0xff, 0xff]), "protobuf_malformed"],
    ["a value that is cut off", () => framed(payment().subarray(0, -1)), "protobuf_malformed"],
    [
      "a length beyond the value",
      () => framed(Buffer.from([tag(1, 2), 0xff, 0xff, 0xff, 0xff, 0x7f])),
      "protobuf_malformed",
    ],
    ["an unknown encoding", () => framed(Buffer.from([tag(1, 7)])), "protobuf_malformed"],
    ["no currency", () => framed(payment(() => {}, 0)), "bad_currency"],
    [
      "a currency in another encoding",
      () =>
        framed(Buffer.concat([payment(), Buffer.from(new BinaryWriter().tag(3, WireType.Varint).int32(5).finish())])),
      "accepted",
    ],
  ])("with %s", (_name, value, expected) => {
    expect(rejectionOf(() => read(value()))).toContain(expected);
  });

  test.each([
    "message {",
    "message P { string a = ; }",
    "message P { string a = 1;",
    "syntax",
    "message P { string a = 0; }",
    "§",
    `${"message A {".repeat(100)}`,
  ])("%j is no .proto file", (text) => {
    expect(() => parseProto(text)).toThrow(TypeError);
  });
});

describe("a schema that a header names", () => {
  const GUID = "8de79b7a-2dc2-4e0b-9d1e-0123456789ab";
  const header = (...parts: (string | number[])[]): Buffer =>
    Buffer.concat(
      parts.map((part) =>
        typeof part === "string" ? Buffer.from(part.replaceAll("-", ""), "hex") : Buffer.from(part),
      ),
    );
  const keyOf = (value: Buffer | null, name = "__value_schema_id"): unknown =>
    headerSchemaOf(
      fetchedRecords({ topic: "t" }, [
        {
          value: Buffer.alloc(0),
          headers: [
            ["other", null],
            ["__key_schema_id", header([1], GUID)],
            [name, value],
            ["x", Buffer.alloc(5)],
          ],
        },
      ]),
      0,
    );

  test("is its GUID or its id, with the message where it is Protocol Buffers", () => {
    expect(keyOf(header([1], GUID))).toBe(GUID);
    expect(keyOf(header([1], GUID, [0]))).toBe(`${GUID}#0`);
    expect(keyOf(header([1], GUID, [4, 2, 0]))).toBe(`${GUID}#1.0`);
    expect(keyOf(header([0, 0, 1, 0, 7]))).toBe(65_543);
    for (const bad of [
      null,
      header([]),
      header([1]),
      header([2], GUID),
      header([0, 1]),
      header([1], GUID, [4, 2]),
      header([1], GUID, [1]),
    ])
      expect(keyOf(bad)).toBeNull();
    expect(keyOf(header([1], GUID), "value_schema_id")).toBeNull();
    expect(headerSchemaOf(fetchedRecords({ topic: "t" }, [{ value: Buffer.alloc(0) }]), 0)).toBeNull();
  });

  test("scoring and the sink read its records, which have no head", async () => {
    expect(collector(new ProtobufWriter(file), () => true, PLAIN_SHAPE, `${GUID}#1`)(payment())).toMatchObject(FIELDS);
    const asked: unknown[] = [];
    const rows = transactionRows({
      lookup: (key) => {
        asked.push(key);
        return Promise.resolve(new ProtobufWriter(file));
      },
      backoff: { firstMs: 1, mostMs: 1, signal: new AbortController().signal },
      log: createLogger({ logLevel: "silent" }, "test"),
    });
    const both = fetchedRecords({ topic: "t" }, [
      { value: payment(), headers: [["__value_schema_id", header([1], GUID, [2, 2])]], timestamp: EVENT_TIME },
      { value: framed(payment()), timestamp: EVENT_TIME },
    ]);
    const stored: string[] = [];
    for (const index of [0, 1]) {
      await rows.prepare(both, index);
      const out = new RowBinaryWriter(1_024);
      expect(rows.write(both, index, out)).toBeNull();
      // Behind the coordinates, of which the offset differs.
      stored.push(Buffer.from(out.written()).subarray(14).toString("hex"));
    }
    expect(asked).toEqual([`${GUID}#1`, 7]);
    expect(stored[1]).toBe(stored[0]);
  });
});
