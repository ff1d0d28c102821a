import avsc from "avsc";
import { describe, expect, test } from "vitest";
import {
  AvroTruncated,
  AvroCursor,
  compileSkip,
  type AvroObject,
  type AvroSchema,
} from "../../../schemas/avro-cursor.js";
import { transactionSchema } from "../../../schemas/generated.js";
import { TransactionFields, TransactionReader } from "../../../schemas/transaction-reader.js";
import { TransactionRejected } from "../../../schemas/transaction-rejected.js";
import { EVENT_TIME, collector, wired, type Collected } from "./collected.js";

const REQUIRED = [
  { name: "transaction_id", type: "string" },
  { name: "event_time", type: "long" },
  { name: "card_id", type: "string" },
  { name: "merchant_id", type: "string" },
  { name: "amount", type: "double" },
  { name: "currency", type: "string" },
];
const VALUE = {
  transaction_id: "t",
  event_time: EVENT_TIME,
  card_id: "c",
  merchant_id: "m",
  amount: 12.5,
  currency: "EUR",
  attributes: {},
};

/** A writer's schema of the required fields, some of another type, and further ones. */
function writer(further: { name: string; type: unknown }[] = [], types: Record<string, unknown> = {}): AvroObject {
  return {
    type: "record",
    name: "Payment",
    namespace: "com.acme",
    fields: [...REQUIRED.map(({ name, type }) => ({ name, type: types[name] ?? type })), ...further],
  } as AvroObject;
}

function encode(schema: AvroObject, value: object): Buffer {
  return wired(avsc.Type.forSchema(schema as avsc.Schema, { wrapUnions: true }).toBuffer({ ...VALUE, ...value }));
}

const read = (schema: AvroObject, value: object): Collected => collector(schema)(encode(schema, value));

function codeOf(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    if (error instanceof TransactionRejected) return error.code;
    throw error;
  }
  return "accepted";
}

describe("a writer's schema", () => {
  test("may name types in namespaces that are inherited, given, and part of the name", () => {
    const schema = writer([
      { name: "channel", type: { type: "enum", name: "Channel", symbols: ["pos", "web"] } },
      {
        name: "place",
        type: {
          type: "record",
          name: "Place",
          fields: [
            { name: "country", type: { type: "fixed", name: "Country", size: 2 } },
            { name: "channel", type: "Channel" },
          ],
        },
      },
      { name: "issuer", type: "com.acme.Country" },
      { name: "acquirer", type: "Country" },
      { name: "other", type: { type: "fixed", name: "org.bank.Country", size: 3 } },
      {
        name: "third",
        type: {
          type: "record",
          name: "Holder",
          namespace: "org.bank",
          fields: [
            { name: "of", type: "Country" },
            { name: "channel", type: "com.acme.Channel" },
          ],
        },
      },
      { name: "last", type: "boolean" },
    ]);
    const value = {
      channel: "web",
      place: { country: Buffer.from("de"), channel: "pos" },
      issuer: Buffer.from("fr"),
      acquirer: Buffer.from("it"),
      other: Buffer.from("usa"),
      third: { of: Buffer.from("can"), channel: "web" },
      last: true,
    };
    expect(read(schema, value).attributes).toEqual(
      new Map<string, unknown>([
        ["channel", "web"],
        ["last", true],
      ]),
    );
  });

  test("may contain itself, directly and in its fields' types", () => {
    const schema = writer([
      { name: "former", type: ["null", "Payment"] },
      {
        name: "tree",
        type: { type: "record", name: "Tree", fields: [{ name: "below", type: { type: "array", items: "Tree" } }] },
      },
      { name: "last", type: "string" },
    ]);
    const former = { "com.acme.Payment": { ...VALUE, former: null, tree: { below: [] }, last: "" } };
    expect(
      read(schema, { former, tree: { below: [{ below: [] }, { below: [{ below: [] }] }] }, last: "x" }).attributes,
    ).toEqual(new Map([["last", "x"]]));
  });

  test("may have another name, no namespace, its fields in any order, and a null before or behind a type", () => {
    const schema = writer(
      [
        { name: "score", type: ["null", "double"] },
        { name: "known", type: ["boolean", "null"] },
      ],
      { transaction_id: ["null", "string"], amount: ["double", "null"] },
    );
    schema.fields?.reverse();
    schema.name = "X";
    delete schema.namespace;
    const some = {
      transaction_id: { string: "t" },
      amount: { double: 1 },
      score: { double: 2 },
      known: { boolean: true },
    };
    expect(read(schema, some)).toMatchObject({
      transactionId: "t",
      amount: 1,
      attributes: new Map<string, unknown>([
        ["known", true],
        ["score", 2],
      ]),
    });
    const none = { ...some, score: null, known: null };
    expect(read(schema, none).attributes.size).toBe(0);
    expect(codeOf(() => read(schema, { ...some, amount: null }))).toBe("bad_amount");
    expect(codeOf(() => read(schema, { ...some, transaction_id: null }))).toBe("missing_id");
  });

  test.each([
    ["milliseconds", "long", 1],
    ["named milliseconds", { type: "long", logicalType: "timestamp-millis" }, 1],
    ["microseconds", { type: "long", logicalType: "timestamp-micros" }, 1000],
    ["null or microseconds", ["null", { type: "long", logicalType: "timestamp-micros" }], 1000],
    ["microseconds or null", [{ type: "long", logicalType: "timestamp-micros" }, "null"], 1000],
  ])("gives event_time in %s", (_name, type, perMillisecond) => {
    const value = EVENT_TIME * perMillisecond + (perMillisecond - 1);
    expect(
      read(writer([], { event_time: type }), { event_time: Array.isArray(type) ? { long: value } : value }).eventTime,
    ).toBe(EVENT_TIME);
  });

  test("keeps attributes in a map, or in a union of one; another branch rejects the record", () => {
    const map = { type: "map", values: ["double", "string", "boolean", "null", { type: "array", items: "long" }] };
    const attributes = { a: { double: 1 }, b: { string: "x" }, c: { boolean: false }, d: null, e: { array: [1, 2] } };
    const expected = new Map<string, unknown>([
      ["a", 1],
      ["b", "x"],
      ["c", false],
    ]);
    expect(read(writer([{ name: "attributes", type: map }]), { attributes }).attributes).toEqual(expected);
    const union = writer([
      { name: "attributes", type: ["string", "null", map] },
      { name: "behind", type: "long" },
    ]);
    expect(read(union, { attributes: { map: attributes }, behind: 7 }).attributes).toEqual(expected.set("behind", 7));
    expect(read(union, { attributes: null, behind: 7 }).attributes).toEqual(new Map([["behind", 7]]));
    // The text would be read as what follows it.
    expect(codeOf(() => read(union, { attributes: { string: "\u0002" }, behind: 7 }))).toBe("schema_mismatch");
  });

  test("gives a map in blocks with and without their length in bytes", () => {
    const schema = writer([{ name: "attributes", type: { type: "map", values: "long" } }]);
    const start = encode(schema, { attributes: {} }).subarray(0, -1);
    const entry = (name: string, value: number): number[] => [2, name.charCodeAt(0), value * 2];
    const blocks = Buffer.from([2, ...entry("a", 1), 3, 12, ...entry("b", 2), ...entry("c", 3), 0]);
    expect(collector(schema)(Buffer.concat([start, blocks])).attributes).toEqual(
      new Map([
        ["a", 1],
        ["b", 2],
        ["c", 3],
      ]),
    );
  });

  test.each<[string, unknown, string]>([
    ["no record", "string", "schema_mismatch"],
    ["no schema at all", 5, "schema_mismatch"],
    ["no fields", { type: "record", name: "X" }, "schema_mismatch"],
    ["no amount", { ...writer(), fields: REQUIRED.filter(({ name }) => name !== "amount") }, "schema_mismatch"],
    ["an unknown type", writer([{ name: "x", type: "Nowhere" }]), "schema_mismatch"],
    ["bytes as amount", writer([], { amount: "bytes" }), "schema_mismatch"],
    ["a number as card", writer([], { card_id: "long" }), "schema_mismatch"],
    ["nothing for its id", null, "unknown_schema"],
  ])("with %s rejects its records", (_name, schema, code) => {
    expect(codeOf(() => collector(schema as AvroSchema)(wired(Buffer.alloc(100, 2))))).toBe(code);
  });
});

describe("hostile bytes", () => {
  const start = encode(writer(), {});

  test("records nested without end are rejected, not followed", () => {
    const schema = writer([
      { name: "list", type: { type: "record", name: "List", fields: [{ name: "next", type: ["null", "List"] }] } },
    ]);
    expect(collector(schema)(Buffer.concat([start, Buffer.alloc(400, 2), Buffer.from([0])]))).toBeDefined();
    expect(codeOf(() => collector(schema)(Buffer.concat([start, Buffer.alloc(1_000_000, 2), Buffer.from([0])])))).toBe(
      "avro_truncated",
    );
    const endless = writer([
      { name: "self", type: { type: "record", name: "Self", fields: [{ name: "self", type: "Self" }] } },
    ]);
    expect(codeOf(() => collector(endless)(start))).toBe("avro_truncated");
  });

  test.each([
    ["nulls", "null"],
    [
      "empty records",
      { type: "record", name: "Empty", fields: [{ name: "x", type: { type: "fixed", name: "None", size: 0 } }] },
    ],
  ])("lists of %s cost no time", (_name, items) => {
    const schema = writer([{ name: "list", type: { type: "array", items } }]);
    // 200,000 blocks that each claim two billion items.
    const block = Buffer.from([0xfe, 0xff, 0xff, 0xff, 0x0f]);
    const body = Buffer.concat([start, Buffer.concat(Array.from({ length: 200_000 }, () => block)), Buffer.from([0])]);
    expect(collector(schema)(body).cardId).toBe("c");
  });

  test("a list or map that claims more items than it has bytes is rejected", () => {
    for (const type of [
      { type: "array", items: "long" },
      { type: "map", values: "null" },
      { type: "array", items: { type: "array", items: "null" } },
    ]) {
      const schema = writer([{ name: "list", type }]);
      expect(
        codeOf(() =>
          collector(schema)(Buffer.concat([start, Buffer.from([0xfe, 0xff, 0xff, 0xff, 0x0f]), Buffer.alloc(50)])),
        ),
      ).toBe("avro_truncated");
    }
    const attributes = writer([{ name: "attributes", type: { type: "map", values: "long" } }]);
    expect(
      codeOf(() =>
        collector(attributes)(Buffer.concat([start, Buffer.from([0xfe, 0xff, 0xff, 0xff, 0x0f]), Buffer.alloc(50)])),
      ),
    ).toBe("avro_truncated");
  });

  test("a boolean that is neither 0 nor 1 is rejected, whether it is wanted or stepped over", () => {
    const [field, map] = [
      { name: "known", type: "boolean" },
      { name: "attributes", type: { type: "map", values: ["double", "boolean"] } },
    ];
    for (const [further, body] of [
      [field, [0x20]],
      [map, [0x02, 0x02, 0x78, 0x02, 0x20, 0x00]],
    ] as const) {
      for (const wanted of [true, false])
        expect(
          codeOf(() => collector(writer([further]), () => wanted)(Buffer.concat([start, Buffer.from(body)]))),
        ).toBe("avro_truncated");
    }
  });

  test("a number longer than ten bytes is rejected; one of ten is read", () => {
    const cursor = new AvroCursor();
    const long = (...bytes: number[]): number => {
      cursor.set(Buffer.from(bytes), 0, bytes.length);
      return cursor.long();
    };
    const full = Array.from({ length: 9 }, () => 0xff);
    expect(long(...full, 0x01)).toBe(-(2 ** 63));
    expect(() => long(...full, 0x81, 0x01)).toThrow(AvroTruncated);
    expect(() => long(...Array.from({ length: 100_000 }, () => 0x80), 0)).toThrow(AvroTruncated);
    // Beyond 2^53 a double rounds, but keeps the sign.
    expect(long(0xfd, ...full.slice(1), 0x01)).toBe(-(2 ** 63));
    expect(long(0xfc, ...full.slice(1), 0x01)).toBe(2 ** 63);
    expect(long(0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f)).toBe(-(2 ** 52));
    expect([long(0), long(1), long(2), long(0x80, 0x01)]).toEqual([0, -1, 1, 64]);
  });

  test("names of attributes are not remembered without bound", () => {
    const asked: string[] = [];
    const reader = new TransactionReader({
      find: (name) => asked.push(name) * 0 - 1,
      number: () => {},
      boolean: () => {},
      text: () => {},
    });
    reader.learn(1_000_001, transactionSchema as unknown as AvroSchema);
    const type = avsc.Type.forSchema(transactionSchema as unknown as avsc.Schema);
    const send = (name: string): void => {
      const value = type.toBuffer({ ...VALUE, attributes: { [name]: 1 } });
      const bytes = Buffer.concat([Buffer.from([0, 0, 0x0f, 0x42, 0x41]), value]);
      reader.read(bytes, 0, bytes.length, EVENT_TIME, new TransactionFields());
    };
    for (const name of ["short", "short", "x".repeat(5_000), "x".repeat(5_000)]) send(name);
    expect(asked.map((name) => name.length)).toEqual([5, 5_000, 5_000]);
  });

  test("a schema that is none is a TypeError", () => {
    expect(() => compileSkip("Nowhere")).toThrow(TypeError);
  });
});

describe("what is no transaction", () => {
  const schema = writer();
  const code = (value: object, recordTime?: number): string => {
    const bytes = encode(schema, value);
    return codeOf(() => collector(schema)(bytes, 0, bytes.length, recordTime));
  };

  test.each<[string, object, string]>([
    ["amount NaN", { amount: Number.NaN }, "bad_amount"],
    ["amount infinite", { amount: Number.NEGATIVE_INFINITY }, "bad_amount"],
    ["amount zero", { amount: 0 }, "accepted"],
    ["a refund", { amount: -3 }, "accepted"],
    ["amount 1e308", { amount: 1e308 }, "accepted"],
    ["an empty id", { transaction_id: "" }, "missing_id"],
    ["an empty card", { card_id: "" }, "missing_id"],
    ["an empty merchant", { merchant_id: "" }, "missing_id"],
    ["an id of 256 bytes", { transaction_id: "ü".repeat(128) }, "accepted"],
    ["an id of 257 bytes", { transaction_id: "x" + "ü".repeat(128) }, "long_id"],
    ["a lower-case currency", { currency: "eur" }, "bad_currency"],
    ["an unknown currency", { currency: "QQQ" }, "bad_currency"],
    ["two letters", { currency: "EU" }, "bad_currency"],
    ["four letters", { currency: "EURO" }, "bad_currency"],
    ["a currency beyond ASCII", { currency: "Ä1" }, "bad_currency"],
    ["the bolívar digital", { currency: "VED" }, "accepted"],
    ["the gold ounce", { currency: "XAU" }, "accepted"],
    ["the last moment of 1999", { event_time: Date.UTC(2000, 0, 1) - 1 }, "event_time_early"],
    ["the first of 2000", { event_time: Date.UTC(2000, 0, 1) }, "accepted"],
    ["a negative time", { event_time: -1 }, "event_time_early"],
    ["five minutes ahead", { event_time: EVENT_TIME + 300_000 }, "accepted"],
    ["a millisecond more", { event_time: EVENT_TIME + 300_001 }, "event_time_ahead"],
    ["the year 30,000", { event_time: Date.UTC(30_000, 0, 1) }, "event_time_ahead"],
    ["the largest time that avsc writes", { event_time: Number.MAX_SAFE_INTEGER - 1 }, "event_time_ahead"],
  ])("%s", (_name, value, expected) => {
    expect(code(value)).toBe(expected);
  });

  test("an event time that is no number", () => {
    const doubles = writer([], { event_time: "double" });
    for (const event_time of [Number.NaN, Number.NEGATIVE_INFINITY])
      expect(codeOf(() => read(doubles, { event_time }))).toBe("event_time_early");
    expect(codeOf(() => read(doubles, { event_time: Number.POSITIVE_INFINITY }))).toBe("event_time_ahead");
    expect(read(doubles, { event_time: EVENT_TIME + 0.75 }).eventTime).toBe(EVENT_TIME);
  });

  test("an id that is not UTF-8", () => {
    const bytes = encode(schema, { transaction_id: "éé" });
    bytes[6] = 0xff;
    expect(codeOf(() => collector(schema)(bytes))).toBe("invalid_utf8");
  });

  test("no value, an empty one, other formats, an unknown schema, bytes too many", () => {
    const bytes = encode(schema, {});
    const of = (value: Buffer, length?: number): string => codeOf(() => collector(schema)(value, 0, length));
    expect(of(Buffer.alloc(0), -1)).toBe("empty_value");
    expect(of(Buffer.alloc(0), 0)).toBe("empty_value");
    expect(of(bytes, 4)).toBe("unknown_format");
    expect(of(Buffer.from("text"))).toBe("unknown_format");
    expect(of(Buffer.from([0, 0xff, 0xff, 0xff, 0xff, 0]))).toBe("unknown_schema");
    expect(of(Buffer.concat([bytes, Buffer.from([0])]))).toBe("avro_trailing");
    expect(of(bytes)).toBe("accepted");
  });

  test("an id that was unknown can be learnt once it is forgotten", () => {
    const reader = new TransactionReader({ find: () => -1, number: () => {}, boolean: () => {}, text: () => {} });
    const bytes = encode(schema, {});
    const attempt = (): string =>
      codeOf(() => reader.read(bytes, 0, bytes.length, EVENT_TIME, new TransactionFields()));
    expect([reader.knows(7), attempt()]).toEqual([false, "unknown_schema"]);
    reader.learn(7, null);
    expect([reader.knows(7), attempt()]).toEqual([true, "unknown_schema"]);
    reader.forgetUnknown();
    expect(reader.knows(7)).toBe(false);
    reader.learn(7, schema);
    reader.forgetUnknown();
    expect([reader.knows(7), attempt()]).toEqual([true, "accepted"]);
  });
});
