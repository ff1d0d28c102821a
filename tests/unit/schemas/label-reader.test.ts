import avro from "avsc";
import { describe, expect, test } from "vitest";
import { LabelReader } from "../../../schemas/label-reader.js";
import type { AvroSchema } from "../../../schemas/avro-cursor.js";
import { labelSchema } from "../../../schemas/generated.js";
import { writeWireHead } from "../../../schemas/wire-format.js";

const ID = 77;
const record = (fields: unknown[]): object => ({ type: "record", name: "L", namespace: "n", fields });
const plain = {
  transaction_id: "string",
  card_id: "string",
  is_fraud: "boolean",
  label_time: { type: "long", logicalType: "timestamp-millis" },
};
const fieldsOf = (types: Record<string, unknown>): unknown[] =>
  Object.entries(types).map(([name, type]) => ({ name, type }));
const label = { transaction_id: "t-1", card_id: "é", is_fraud: true, label_time: 1_700_000_000_000 };

/** Reads what avsc wrote with a schema, in the middle of other bytes; null: it is no label. */
function read(schema: object, value: unknown, cut = 0): unknown {
  const body = avro.Type.forSchema(schema as avro.Schema).toBuffer(value);
  const bytes = Buffer.alloc(body.length + 25, 0xff);
  body.copy(bytes, writeWireHead(bytes, 10, ID));
  const reader = new LabelReader();
  reader.learn(ID, schema as AvroSchema);
  if (!reader.read(bytes, 10, body.length + 5 + cut)) return null;
  const { cardAt, cardLength, transactionAt, transactionLength, isFraud, labelTime } = reader;
  return {
    transaction_id: bytes.toString("utf8", transactionAt, transactionAt + transactionLength),
    card_id: bytes.toString("utf8", cardAt, cardAt + cardLength),
    is_fraud: isFraud,
    label_time: labelTime,
  };
}

describe("labels", () => {
  test("are read with our schema and with any that has its fields by name", () => {
    expect(read(labelSchema, label)).toEqual(label);
    const other = record([
      { name: "note", type: ["null", "string"] },
      { name: "label_time", type: "long" },
      { name: "is_fraud", type: ["null", "boolean"] },
      { name: "by", type: { type: "record", name: "By", fields: [{ name: "who", type: "string" }] } },
      { name: "card_id", type: { type: "string" } },
      { name: "transaction_id", type: ["string", "int"] },
      { name: "by2", type: "By" },
    ]);
    const value = {
      ...label,
      note: { string: "x" },
      is_fraud: { boolean: true },
      transaction_id: { string: "t-1" },
      by: { who: "a" },
      by2: { who: "b" },
    };
    const type = avro.Type.forSchema(other as avro.Schema, { wrapUnions: true });
    const body = type.toBuffer(value);
    const bytes = Buffer.alloc(body.length + 5);
    body.copy(bytes, writeWireHead(bytes, 0, ID));
    const reader = new LabelReader();
    reader.learn(ID, other as AvroSchema);
    expect(reader.read(bytes, 0, bytes.length)).toBe(true);
    expect([
      reader.isFraud,
      reader.labelTime,
      bytes.toString("utf8", reader.cardAt, reader.cardAt + reader.cardLength),
    ]).toEqual([true, label.label_time, "é"]);
    // A branch that is no id.
    const wrong = type.toBuffer({ ...value, transaction_id: { int: 4 } });
    expect(reader.read(Buffer.concat([bytes.subarray(0, 5), wrong]), 0, wrong.length + 5)).toBe(false);
  });

  test.each([
    ["an empty id", { ...label, card_id: "" }],
    ["a time before 1970", { ...label, label_time: -1 }],
    ["a time after 2299", { ...label, label_time: Date.UTC(2300, 0, 2) }],
    ["an id of more than 256 bytes", { ...label, transaction_id: "é".repeat(129) }],
    ["a card of more than 256 bytes", { ...label, card_id: "c".repeat(257) }],
  ])("with %s are none, as for the sink", (_, value) => {
    expect(read(labelSchema, value)).toBeNull();
  });

  test("have ids of the same bytes at most as transactions, and say so", () => {
    expect(read(labelSchema, { ...label, transaction_id: "é".repeat(128), card_id: "c".repeat(256) })).not.toBeNull();
    const reader = new LabelReader({ of: () => Buffer.alloc(20) });
    for (const [field, id] of [
      ["transaction_id", "é".repeat(129)],
      ["card_id", "c".repeat(257)],
    ] as const) {
      expect(
        reader.read(
          Buffer.from(JSON.stringify({ ...label, [field]: id })),
          0,
          Buffer.byteLength(JSON.stringify({ ...label, [field]: id })),
        ),
      ).toBe(false);
      expect(reader.refusal).toEqual({ code: "long_id", reason: `${field} is longer than 256 bytes` });
    }
  });

  test("of a schema without a field, or with another type, or cut off, are none", () => {
    expect(read(record(fieldsOf(plain).slice(1)), label)).toBeNull();
    expect(read(record(fieldsOf(plain)), label)).toEqual(label);
    expect(read(record(fieldsOf({ ...plain, is_fraud: "string" })), { ...label, is_fraud: "yes" })).toBeNull();
    expect(read(labelSchema, label, -1)).toBeNull();
    expect(read(labelSchema, label, 1)).toBeNull();
    const reader = new LabelReader();
    expect(reader.read(Buffer.from([0, 0, 0, 0, 9, 1]), 0, 6)).toBe(false);
    expect(reader.read(Buffer.from("{}"), 0, 2)).toBe(false);
  });
});

test("a label without its card is refused with what to do about it, as Avro and as JSON", () => {
  const reader = new LabelReader();
  const refusalOf = (value: Buffer) => {
    reader.bytes = value;
    expect(reader.read(value, 0, value.length)).toBe(false);
    return reader.refusal;
  };
  const what = /^card_id .*is missing.*LABELS_FIELDS.*POST \/api\/v1\/labels, which looks the card up$/;
  for (const card of [undefined, null, ""]) {
    const value = Buffer.from(
      JSON.stringify({ transaction_id: "t", card_id: card, is_fraud: true, label_time: "2026-11-22T09:30:00Z" }),
    );
    expect(refusalOf(value)).toEqual({
      code: card === "" ? "missing_id" : "missing_field",
      reason: expect.stringMatching(card === "" ? /^card_id is missing or empty: .*POST/ : what) as string,
    });
  }
});
