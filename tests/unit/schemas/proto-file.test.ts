import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import { describe, expect, test } from "vitest";
import { RowBinaryWriter } from "../../../infra/clickhouse/row-binary.js";
import { createLogger } from "../../../infra/logging.js";
import { headerSchemaOf } from "../../../infra/kafka/writer-of.js";
import { transactionRows } from "../../../pipelines/sink/rows/transaction-rows.js";
import { parseProto } from "../../../schemas/proto-file.js";
import { PLAIN_SHAPE, type RecordShape } from "../../../schemas/record-shape.js";
import { recordShape, TRANSACTION_NAMES } from "../../../infra/config/record-shape-settings.js";
import { TransactionReader } from "../../../schemas/transaction-reader.js";
import { TransactionRejected } from "../../../schemas/transaction-rejected.js";
import { ProtobufWriter } from "../../../schemas/writer-schema.js";
import { fetchedRecords } from "../../support/fetched-records.js";
import { EVENT_TIME, collector, wired, type Collected } from "./collected.js";

const PROTO = `
// Payments, as a producer keeps them.
syntax = "proto3";
package com.acme.pay;
import "google/protobuf/timestamp.proto";
import "common/money.proto";
option java_package = "com.acme.pay";

/* Not the record: */
message Ignored { option deprecated = true; string a = 1 [json_name = "x", (custom.opt) = { a: 1, b: [1, 2] }]; reserved 2, 4 to 6; }
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
const MONEY = 'syntax = "proto3"; package common; message Amount { bytes value = 1; uint32 precision = 2; int32 scale = 3; }';
/** The same fields in types of other kinds, as an older producer has them. */
const PLAIN = `syntax = "proto2"; message P { required string transaction_id = 1; required int64 event_time = 2; optional string card_id = 3; required string merchant_id = 4; optional float amount = 5; required string currency = 6; optional int32 items = 7 [default = 3]; }`;

const file = parseProto(PROTO.replace("common.Amount", "confluent.type.Decimal"), [MONEY]);

type Write = (writer: BinaryWriter) => void;

function payment(more: Write = () => {}, currency = 1): Buffer {
  const writer = new BinaryWriter();
  writer.uint32(tag(1, 2)).string("t-ü");
  writer.uint32(tag(2, 2)).fork().uint32(tag(1, 0)).int64(BigInt(EVENT_TIME / 1000)).uint32(tag(2, 0)).int32(123_999_999).join();
  writer.uint32(tag(3, 2)).string("card");
  writer.uint32(tag(4, 2)).string("shop");
  writer.uint32(tag(5, 2)).fork().uint32(tag(1, 2)).bytes(Buffer.from("07cf", "hex")).uint32(tag(3, 0)).int32(2).join();
  writer.uint32(tag(6, 0)).int32(currency);
  more(writer);
  return Buffer.from(writer.finish());
}

const tag = (field: number, wireType: number): number => (field << 3) | wireType;
const framed = (value: Buffer, indexes = [2, 2]): Buffer => wired(Buffer.concat([Buffer.from(indexes), value]));
const read = (value: Buffer, shape: RecordShape = PLAIN_SHAPE): Collected => collector(new ProtobufWriter(file), () => true, shape)(value);

function rejectionOf(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    if (error instanceof TransactionRejected) return `${error.code}: ${error.message}`;
    throw error;
  }
  return "accepted";
}

const FIELDS = { transactionId: "t-ü", cardId: "card", merchantId: "shop", amount: 19.99, currency: "EUR", eventTime: EVENT_TIME + 123 };
/** What a proto3 record has that says nothing: fields without presence have their default. */
const DEFAULTS: [string, unknown][] = [["channel", "UNKNOWN"], ["items", 0], ["known", false], ["f32", 0], ["f64", 0], ["f", 0], ["u", 0]];

describe("Protocol Buffers", () => {
  test("a record is read by the second message of its file; defaults count where absence can't be told", () => {
    expect(read(framed(payment()))).toEqual({ ...FIELDS, attributes: new Map(DEFAULTS) });
  });

  test("every scalar type, enums, wrappers, oneofs and maps; of a field that stands twice the last counts", () => {
    const value = payment((writer) => {
      writer.uint32(tag(7, 0)).int32(2).uint32(tag(8, 1)).double(0.5).uint32(tag(9, 0)).int32(-7).uint32(tag(10, 0)).bool(true).uint32(tag(11, 2)).string("old").uint32(tag(11, 2)).string("phone");
      for (const [key, number] of [["a", 1], ["b", 2], ["a", 3]] as const) writer.uint32(tag(13, 2)).fork().uint32(tag(1, 2)).string(key).uint32(tag(2, 1)).double(number).join();
      writer.uint32(tag(14, 2)).string("tag").uint32(tag(15, 2)).bytes(Buffer.from([1])).uint32(tag(16, 5)).fixed32(5).uint32(tag(17, 1)).sfixed64(-6n).uint32(tag(18, 5)).float(1.5).uint32(tag(19, 0)).uint64(2n ** 63n);
      writer.uint32(tag(20, 2)).fork().uint32(tag(1, 2)).string("Bonn").join().uint32(tag(500, 2)).string("from a later version");
    });
    expect(read(framed(value)).attributes).toEqual(new Map<string, unknown>([
      ["channel", "POS"], ["risk", 0.5], ["items", -7], ["known", true], ["device", "phone"], ["a", 3], ["b", 2], ["f32", 5], ["f64", -6], ["f", 1.5], ["u", 2 ** 63], ["city", "Bonn"],
    ]));
    // Of two names of one number the first is its own; a number without a name stays one.
    expect(read(framed(payment((writer) => void writer.uint32(tag(7, 0)).int32(1)))).attributes.get("channel")).toBe("WEB");
    expect(read(framed(payment((writer) => void writer.uint32(tag(7, 0)).int32(9).uint32(tag(12, 0)).sint64(-3n)))).attributes).toEqual(new Map<string, unknown>([["channel", "9"], ...DEFAULTS.slice(1, 3), ["terminal", -3], ...DEFAULTS.slice(3)]));
  });

  test("proto2: plain types, and absence that can be told", () => {
    const writer = new ProtobufWriter(parseProto(PLAIN));
    const value = new BinaryWriter().uint32(tag(1, 2)).string("t").uint32(tag(2, 0)).int64(BigInt(EVENT_TIME)).uint32(tag(3, 2)).string("c").uint32(tag(4, 2)).string("m").uint32(tag(6, 2)).string("USD").finish();
    expect(rejectionOf(() => collector(writer)(framed(Buffer.from(value), [0])))).toContain("bad_amount");
    const whole = new BinaryWriter().raw(value).uint32(tag(5, 5)).float(2.5);
    expect(collector(writer)(framed(Buffer.from(whole.finish()), [2, 0]))).toEqual({ transactionId: "t", cardId: "c", merchantId: "m", amount: 2.5, currency: "USD", eventTime: EVENT_TIME, attributes: new Map() });
  });

  test("an attributes map of what can't be read says so when its schema is learnt", () => {
    const reader = new TransactionReader({ find: () => 0, number: () => {}, boolean: () => {}, text: () => {} });
    const withMap = (map: string): ProtobufWriter => new ProtobufWriter(parseProto(PLAIN.replace("optional int32 items = 7 [default = 3];", `map<string, ${map}> attributes = 7; message Any { optional double n = 1; }`)));
    expect(reader.learn(1, withMap("Any"))).toEqual([{ attribute: "attributes", type: "map<string, P.Any>" }]);
    expect(reader.learn(2, withMap("double"))).toEqual([]);
  });

  test("an envelope is a message in a message", () => {
    const inner = Buffer.from(new BinaryWriter().uint32(tag(1, 2)).bytes(payment()).finish());
    const shape = recordShape({ TRANSACTIONS_ENVELOPE: "payment", TRANSACTIONS_FIELDS: "place=city" }, "TRANSACTIONS", TRANSACTION_NAMES, true);
    expect(read(framed(inner, [4, 2, 0]), shape)).toMatchObject(FIELDS);
    expect(rejectionOf(() => read(framed(Buffer.alloc(0), [4, 2, 0]), shape))).toContain("no_payload");
  });

  test.each<[string, () => Buffer, string]>([
    ["another message of the file", () => framed(payment(), [0]), "lacks transaction_id"],
    ["a message that isn't there", () => framed(payment(), [2, 14]), "names a message that the .proto file doesn't have"],
    ["indexes without end", () => framed(payment(), [0xff, 0xff]), "protobuf_malformed"],
    ["a value that is cut off", () => framed(payment().subarray(0, -1)), "protobuf_malformed"],
    ["a length beyond the value", () => framed(Buffer.from([tag(1, 2), 0xff, 0xff, 0xff, 0xff, 0x7f])), "protobuf_malformed"],
    ["an unknown encoding", () => framed(Buffer.from([tag(1, 7)])), "protobuf_malformed"],
    ["no currency", () => framed(payment(() => {}, 0)), "bad_currency"],
    ["a currency in another encoding", () => framed(Buffer.concat([payment(), Buffer.from(new BinaryWriter().tag(3, WireType.Varint).int32(5).finish())])), "accepted"],
  ])("with %s", (_name, value, expected) => {
    expect(rejectionOf(() => read(value()))).toContain(expected);
  });

  test.each(["message {", "message P { string a = ; }", "message P { string a = 1;", "syntax", "message P { string a = 0; }", "§", `${"message A {".repeat(100)}`])("%j is no .proto file", (text) => {
    expect(() => parseProto(text)).toThrow(TypeError);
  });
});

describe("a schema that a header names", () => {
  const GUID = "8de79b7a-2dc2-4e0b-9d1e-0123456789ab";
  const header = (...parts: (string | number[])[]): Buffer => Buffer.concat(parts.map((part) => (typeof part === "string" ? Buffer.from(part.replaceAll("-", ""), "hex") : Buffer.from(part))));
  const keyOf = (value: Buffer | null, name = "__value_schema_id"): unknown => headerSchemaOf(fetchedRecords({ topic: "t" }, [{ value: Buffer.alloc(0), headers: [["other", null], ["__key_schema_id", header([1], GUID)], [name, value], ["x", Buffer.alloc(5)]] }]), 0);

  test("is its GUID or its id, with the message where it is Protocol Buffers", () => {
    expect(keyOf(header([1], GUID))).toBe(GUID);
    expect(keyOf(header([1], GUID, [0]))).toBe(`${GUID}#0`);
    expect(keyOf(header([1], GUID, [4, 2, 0]))).toBe(`${GUID}#1.0`);
    expect(keyOf(header([0, 0, 1, 0, 7]))).toBe(65_543);
    for (const bad of [null, header([]), header([1]), header([2], GUID), header([0, 1]), header([1], GUID, [4, 2]), header([1], GUID, [1])]) expect(keyOf(bad)).toBeNull();
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
      backoff: { firstMs: 1, mostMs: 1, signal: new AbortController().signal }, log: createLogger({ logLevel: "silent" }, "test"),
    });
    const both = fetchedRecords({ topic: "t" }, [
      { value: payment(), headers: [["__value_schema_id", header([1], GUID, [2, 2])]], timestamp: EVENT_TIME }, { value: framed(payment()), timestamp: EVENT_TIME },
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
