import avro from "avsc";
import { describe, expect, it } from "vitest";
import { RowBinaryWriter } from "../../../../../infra/clickhouse/row-binary.js";
import { AvroTranscoder } from "../../../../../pipelines/sink/rows/avro-transcoder.js";
import { predictionSchema, type Prediction } from "../../../../../schemas/generated.js";
import { RowBinaryReader } from "../../../infra/clickhouse/row-binary-reader.js";

interface Field {
  name: string;
  type: unknown;
  default?: unknown;
}
interface RecordSchema {
  type: "record";
  name: string;
  fields: Field[];
}

const current = predictionSchema as unknown as RecordSchema;
const prediction: Prediction = {
  transaction_id: "t-1",
  card_id: "Karte-ü🙂",
  merchant_id: "m".repeat(200),
  amount: -1234.56,
  currency: "EUR",
  event_time: 1_767_225_600_123,
  scored_at: 1_767_225_600_140,
  scoring_ms: 2.5,
  score: 0.75,
  decision: "review",
  model: "cards@12",
  epoch: 2 ** 40 + 5,
  features: [1.5, -0, NaN, Infinity, 3e38],
  stale: true,
  reasons: [
    { feature: "amount", contribution: 1.25 },
    { feature: "", contribution: -0.5 },
  ],
  source_topic: "fraud.transactions",
  source_partition: 3,
  source_offset: 2 ** 33,
};
const stored = {
  ...prediction,
  event_time: BigInt(prediction.event_time),
  scored_at: BigInt(prediction.scored_at),
  epoch: BigInt(prediction.epoch),
  source_offset: BigInt(prediction.source_offset),
  stale: 1,
  reasons: [
    ["amount", 1.25],
    ["", -0.5],
  ],
};

describe("AvroTranscoder", () => {
  it("writes every field of our own schema", () => {
    expect(transcode(current, prediction)).toEqual(stored);
    expect(transcode(current, { ...prediction, reasons: null, features: [], amount: 0, transaction_id: "" })).toEqual({
      ...stored,
      reasons: [],
      features: [],
      amount: 0,
      transaction_id: "",
    });
  });

  it("reads an older writer: a field with a default is missing, others are in another order", () => {
    const older = { ...current, fields: current.fields.filter(({ name }) => name !== "reasons").reverse() };
    expect(transcode(older, prediction)).toEqual({ ...stored, reasons: [] });
  });

  it("skips whatever a newer writer adds, of every type", () => {
    const added: Field[] = [
      {
        name: "a",
        type: [
          "null",
          "string",
          {
            type: "record",
            name: "Point",
            fields: [
              { name: "x", type: "double" },
              { name: "next", type: ["null", "Point"] },
            ],
          },
        ],
      },
      { name: "b", type: { type: "map", values: { type: "array", items: "long" } } },
      { name: "c", type: { type: "fixed", name: "Hash", size: 6 } },
      { name: "d", type: { type: "array", items: "Hash" } },
      { name: "e", type: "bytes" },
      { name: "f", type: "null" },
      { name: "g", type: { type: "enum", name: "Mood", symbols: ["good", "bad"] } },
    ];
    const newer = { ...current, fields: [...added.slice(0, 4), ...current.fields, ...added.slice(4)] };
    const more = {
      a: { "fraudstream.Point": { x: 1, next: { "fraudstream.Point": { x: 2, next: null } } } },
      b: { k: [1, -(2 ** 40)], l: [] },
      c: Buffer.alloc(6),
      d: [Buffer.alloc(6, 1)],
      e: Buffer.from("xyz"),
      f: null,
      g: "bad",
    };
    const type = avro.Type.forSchema(newer as avro.Schema, { wrapUnions: true });
    const reasons = { array: prediction.reasons };
    expect(transcodeBytes(newer, type.toBuffer({ ...prediction, ...more, reasons }))).toEqual(stored);
  });

  it("follows Avro's promotions and unions if types differ", () => {
    const types: Record<string, unknown> = {
      amount: "int",
      score: ["float", "null"],
      epoch: "int",
      source_offset: ["null", "long"],
      currency: ["null", "string"],
    };
    const other = {
      ...current,
      fields: current.fields.map((field) => (field.name in types ? { ...field, type: types[field.name] } : field)),
    };
    // Avro decides whether they resolve; where a writer may send what we can't hold, it doesn't.
    const promoted = {
      ...current,
      fields: current.fields.map((field) => (field.name === "amount" ? { ...field, type: "int" } : field)),
    };
    expect(transcode(promoted, { ...prediction, amount: 7 })).toEqual({ ...stored, amount: 7 });
    expect(() => new AvroTranscoder(other, current)).toThrow(TypeError);
  });

  it("finds types that are named where another field defined them, by short and by full name", () => {
    for (const name of ["Decision", "fraudstream.Decision"]) {
      const wrapped = {
        name: "first",
        type: {
          type: "record",
          name: "First",
          fields: [{ name: "decision", type: current.fields.find((field) => field.name === "decision")!.type }],
        },
      };
      const fields = [
        wrapped,
        ...current.fields.map((field) => (field.name === "decision" ? { ...field, type: name } : field)),
      ];
      expect(
        transcode({ ...current, fields }, { ...prediction, first: { decision: "approve" } } as Prediction),
      ).toEqual(stored);
    }
  });

  it("accepts an unknown decision", () => {
    const fields = current.fields.map((field) =>
      field.name === "decision"
        ? { ...field, type: { type: "enum", name: "Decision", symbols: ["hold", "approve"] } }
        : field,
    );
    expect(transcode({ ...current, fields }, { ...prediction, decision: "hold" as never })).toEqual({
      ...stored,
      decision: "hold",
    });
  });

  it("reads arrays in several blocks, with and without their size in bytes", () => {
    const schema: RecordSchema = {
      type: "record",
      name: "R",
      fields: [
        { name: "features", type: { type: "array", items: "float" } },
        current.fields.find(({ name }) => name === "reasons")!,
      ],
    };
    const float = (value: number): Buffer => Buffer.from(new Float32Array([value]).buffer);
    const pair = Buffer.concat([Buffer.from([2 * 1]), Buffer.from("f"), Buffer.from(new Float64Array([4]).buffer)]);
    const features = Buffer.concat([
      Buffer.from([2 * 2]),
      float(1),
      float(2),
      Buffer.from([1, 2 * 4]),
      float(3),
      Buffer.from([0]),
    ]);
    const reasons = Buffer.concat([
      Buffer.from([2, 1, 2 * pair.length]),
      pair,
      Buffer.from([2]),
      pair,
      Buffer.from([0]),
    ]);
    const bytes = Buffer.concat([features, reasons]);
    const out = new RowBinaryWriter(1);
    expect(new AvroTranscoder(schema, schema).write(bytes, 0, bytes.length, out)).toBeNull();
    const reader = new RowBinaryReader(out.written());
    expect(reader.list(() => reader.float32())).toEqual([1, 2, 3]);
    expect(reader.list(() => [reader.text(), reader.float64()])).toEqual([
      ["f", 4],
      ["f", 4],
    ]);
    expect(reader.done).toBe(true);
  });

  it("refuses a record cut off anywhere, one with bytes left over, and random bytes", () => {
    const transcoder = new AvroTranscoder(current, current);
    const bytes = typeOf(current).toBuffer(prediction);
    const padded = Buffer.concat([bytes, bytes]);
    for (let end = 0; end < bytes.length; end++)
      expect(transcoder.write(padded, 0, end, new RowBinaryWriter(8))?.code, `cut at ${end}`).toBe("malformed_avro");
    expect(transcoder.write(padded, 0, bytes.length + 1, new RowBinaryWriter(8))?.code).toBe("malformed_avro");
    let seed = 1;
    const random = (): number => (seed = (seed * 48_271) % 2_147_483_647);
    for (let round = 0; round < 2_000; round++) {
      const noise = Buffer.from(bytes);
      for (let i = 0; i < 4; i++) noise[random() % noise.length] = random() % 256;
      const out = new RowBinaryWriter(8);
      const refusal = transcoder.write(noise, 0, noise.length, out);
      // What passes is a whole row: nothing was read or written out of bounds.
      if (!refusal) readRow(out.written());
    }
  });

  it("refuses times that no partition can hold, and integers beyond 53 bits", () => {
    const wide = {
      ...current,
      fields: current.fields.map((field) => (field.name === "epoch" ? { ...field, type: "double" } : field)),
    };
    expect(() => new AvroTranscoder(wide, current)).toThrow(TypeError);
    expect(refusal(current, { ...prediction, event_time: Date.UTC(30_000, 0) })).toBe("bad_time");
    expect(refusal(current, { ...prediction, scored_at: -1 })).toBe("bad_time");
    const long: RecordSchema = { type: "record", name: "R", fields: [{ name: "n", type: "long" }] };
    const beyond = Buffer.from([0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]);
    expect(new AvroTranscoder(long, long).write(beyond, 0, beyond.length, new RowBinaryWriter(8))?.code).toBe(
      "malformed_avro",
    );
  });

  it("refuses a writer schema that lacks a field without a default, and anything that is not a schema", () => {
    expect(() => new AvroTranscoder({ ...current, fields: current.fields.slice(1) }, current)).toThrow(
      /transaction_id/,
    );
    for (const wrong of [
      null,
      "string",
      7,
      { type: "record", name: "X" },
      { type: "record", name: "X", fields: [{ name: "a", type: "Unknown" }] },
    ]) {
      expect(() => new AvroTranscoder(wrong, current)).toThrow(TypeError);
    }
  });
});

function typeOf(schema: RecordSchema): avro.Type {
  return avro.Type.forSchema(schema as avro.Schema);
}

function transcode(writer: RecordSchema, value: Prediction): unknown {
  return transcodeBytes(writer, typeOf(writer).toBuffer(value));
}

function transcodeBytes(writer: RecordSchema, bytes: Buffer): unknown {
  const out = new RowBinaryWriter(1);
  // Neighbours before and behind it must not matter.
  const padded = Buffer.concat([Buffer.alloc(3, 0xff), bytes, Buffer.alloc(40, 0xff)]);
  expect(new AvroTranscoder(writer, current).write(padded, 3, 3 + bytes.length, out)).toBeNull();
  return readRow(out.written());
}

function refusal(writer: RecordSchema, value: Prediction): string | undefined {
  const bytes = typeOf(writer).toBuffer(value);
  return new AvroTranscoder(writer, current).write(bytes, 0, bytes.length, new RowBinaryWriter(8))?.code;
}

function readRow(bytes: Buffer): unknown {
  const r = new RowBinaryReader(bytes);
  const row = {
    transaction_id: r.text(),
    card_id: r.text(),
    merchant_id: r.text(),
    amount: r.float64(),
    currency: r.text(),
    event_time: r.int64(),
    scored_at: r.int64(),
    scoring_ms: r.float32(),
    score: r.float32(),
    decision: r.text(),
    model: r.text(),
    epoch: r.int64(),
    features: r.list(() => r.float32()).map((value) => (value === Math.fround(3e38) ? 3e38 : value)),
    stale: r.byte(),
    reasons: r.list(() => [r.text(), r.float64()]),
    source_topic: r.text(),
    source_partition: r.int32(),
    source_offset: r.int64(),
  };
  expect(r.done).toBe(true);
  return row;
}
