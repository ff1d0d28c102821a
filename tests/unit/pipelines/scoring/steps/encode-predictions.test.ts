import { describe, expect, it } from "vitest";
import { encodeHeaders } from "../../../../../infra/kafka/record-batch-builder.js";
import { AlertReasons } from "../../../../../models/explain/alert-reasons.js";
import { PartitionOutput } from "../../../../../infra/kafka/partition-output.js";
import {
  PredictionEncoder,
  decide,
  type ScoredBatch,
} from "../../../../../pipelines/scoring/steps/encode-predictions.js";
import { TransactionBatch } from "../../../../../pipelines/transactions/transaction-batch.js";
import type { Prediction } from "../../../../../schemas/generated.js";
import { TransactionFields } from "../../../../../schemas/transaction-reader.js";
import {
  PREDICTION_SCHEMA_ID,
  readPrediction,
  transaction,
  transactionReader,
  wireValue,
} from "../../../../support/transactions.js";
import { outputRecords, type OutputRecord } from "../../runtime/output-records.js";

type Given = ReturnType<typeof transaction>;

interface Case {
  transactions: Given[];
  offsets?: number[];
  source?: { topic: string; partition: number };
  scored?: Partial<ScoredBatch>;
  headersOf?: (row: number) => Buffer | null;
}

const TIME = Date.UTC(2026, 0, 1);

function encode({
  transactions,
  offsets,
  source = { topic: "fraud.transactions", partition: 3 },
  scored = {},
  headersOf = () => null,
}: Case): OutputRecord[] {
  const batch = new TransactionBatch([]);
  const reader = transactionReader(batch);
  const fields = new TransactionFields();
  batch.reset(transactions.length);
  transactions.forEach((value, record) => {
    const bytes = wireValue(value);
    reader.read(bytes, 0, bytes.length, value.event_time, fields);
    batch.add(fields, record);
  });
  const full: ScoredBatch = {
    model: "cards@12",
    epoch: 42,
    featureCount: 2,
    features: Float32Array.from(transactions.flatMap((_, i) => [i, Number.NaN])),
    scores: Float32Array.from(transactions, () => 0.5),
    review: 0.5,
    decline: 0.9,
    reasons: null,
    scoringMs: 1.5,
    scoredAt: TIME + 7,
    ...scored,
  };
  const output = new PartitionOutput("fraud.predictions", source.partition);
  new PredictionEncoder(source, PREDICTION_SCHEMA_ID).encode(
    batch,
    full,
    Float64Array.from(offsets ?? transactions.keys()),
    headersOf,
    output,
  );
  return outputRecords(output);
}

function decode(records: OutputRecord[]): Prediction[] {
  return records.map(({ value }) => readPrediction(value as Buffer));
}

const fine = (n: number, changed: Partial<Given> = {}): Given => transaction(n, { event_time: TIME, ...changed });

describe("PredictionEncoder", () => {
  it("writes every field as avsc reads it", () => {
    const [record] = encode({
      transactions: [fine(1, { amount: -12.5 })],
      offsets: [9],
      headersOf: () => encodeHeaders([["reply-to", "r"]]),
    });
    expect(decode([record])).toEqual([
      {
        transaction_id: "t1",
        card_id: "c1",
        merchant_id: "m1",
        amount: -12.5,
        currency: "EUR",
        event_time: TIME,
        scored_at: TIME + 7,
        scoring_ms: 1.5,
        score: 0.5,
        decision: "review",
        model: "cards@12",
        epoch: 42,
        features: [0, Number.NaN],
        stale: false,
        reasons: null,
        source_topic: "fraud.transactions",
        source_partition: 3,
        source_offset: 9,
      },
    ]);
    expect(record.key?.toString()).toBe("c1");
    expect(record.headers).toEqual([["reply-to", Buffer.from("r")]]);
  });

  it.each([
    ["one byte", "x"],
    ["unicode", "Karte-ü-日本-🙂"],
    ["47 bytes", "a".repeat(47)],
    ["48 bytes, the last that are copied by hand", "b".repeat(48)],
    ["49 bytes", "c".repeat(49)],
    ["64 bytes, a length of two bytes", "d".repeat(64)],
    ["256 bytes, the longest", "🙂".repeat(64)],
  ])("copies ids of %s", (_what, id) => {
    const records = encode({
      transactions: [fine(1, { transaction_id: id }), fine(2, { card_id: id }), fine(3, { merchant_id: id })],
    });
    expect(
      decode(records).map(({ transaction_id, card_id, merchant_id }) => [transaction_id, card_id, merchant_id]),
    ).toEqual([
      [id, "c1", "m1"],
      ["t2", id, "m2"],
      ["t3", "c3", id],
    ]);
    expect(records.map(({ key }) => key?.toString())).toEqual(["c1", id, "c3"]);
  });

  it.each([
    0,
    1,
    63,
    64,
    2 ** 30 - 1,
    2 ** 30,
    2 ** 31 - 1,
    2 ** 31,
    2 ** 32,
    2 ** 40 + 1,
    2 ** 52 + 1,
    Number.MAX_SAFE_INTEGER - 1,
  ])("writes the offset and the epoch %d", (number) => {
    const [prediction] = decode(
      encode({ transactions: [fine(1)], offsets: [number], scored: { epoch: number, scoredAt: number } }),
    );
    expect(prediction).toMatchObject({ source_offset: number, epoch: number, scored_at: number });
  });

  it("leaves rows without a score out, and keeps the coordinates of the others", () => {
    const records = encode({
      transactions: [fine(1), fine(2), fine(3), fine(4)],
      offsets: [10, 11, 12, 13],
      scored: {
        scores: Float32Array.of(Number.NaN, 0.25, Number.NaN, 1),
        features: Float32Array.of(1, 1, 2, 2, 3, 3, 4, 4),
      },
    });
    expect(
      decode(records).map(({ transaction_id, source_offset, score, features }) => [
        transaction_id,
        source_offset,
        score,
        features,
      ]),
    ).toEqual([
      ["t2", 11, 0.25, [2, 2]],
      ["t4", 13, 1, [4, 4]],
    ]);
  });

  it("writes nothing for an empty batch", () => {
    expect(encode({ transactions: [] })).toEqual([]);
  });

  it("has room for a record much longer than the one before", () => {
    const features = Float32Array.from({ length: 5_000 }, (_, i) => i / 3);
    const source = { topic: "t".repeat(249), partition: 2 ** 31 - 1 };
    const [prediction] = decode(
      encode({
        transactions: [fine(1, { card_id: "k".repeat(256) })],
        source,
        scored: { features, featureCount: 5_000, model: `${"m".repeat(63)}@999999999` },
      }),
    );
    expect(prediction).toMatchObject({
      features: [...features],
      source_topic: source.topic,
      source_partition: source.partition,
      model: `${"m".repeat(63)}@999999999`,
    });
  });

  it("gives alerts their reasons, from the row's own features, and approvals none", () => {
    const asked: number[] = [];
    const explainer = {
      expected: 0,
      features: 4,
      contributions: (values: Float32Array, at: number, out: Float64Array): void => {
        asked.push(at / 4);
        out.set(values.subarray(at, at + 4));
      },
    };
    const reasons = new AlertReasons(explainer, ["amount", "Höhe 🙂", "c".repeat(300), "d"]);
    const predictions = decode(
      encode({
        transactions: [fine(1), fine(2), fine(3), fine(4)],
        scored: {
          reasons,
          featureCount: 4,
          features: Float32Array.of(9, 9, 9, 9, 1, 0.5, 2, 0.25, -1, 3, 0, -1, -1, 0, 0, -1),
          scores: Float32Array.of(0.1, 0.5, 0.95, 0.95),
        },
      }),
    );
    expect(predictions.map(({ decision, reasons }) => [decision, reasons])).toEqual([
      ["approve", null],
      [
        "review",
        [
          { feature: "c".repeat(300), contribution: 2 },
          { feature: "amount", contribution: 1 },
          { feature: "Höhe 🙂", contribution: 0.5 },
        ],
      ],
      ["decline", [{ feature: "Höhe 🙂", contribution: 3 }]],
      ["decline", null],
    ]);
    expect(predictions.map(({ source_offset }) => source_offset)).toEqual([0, 1, 2, 3]);
    expect(asked).toEqual([1, 2, 3]);
  });

  it("has room for long reasons", () => {
    const names = ["a", "b", "c"].map((letter) => letter.repeat(5_000));
    const reasons = new AlertReasons(
      { expected: 0, features: 3, contributions: (_values, _at, out) => out.set([1, 2, 3]) },
      names,
    );
    const [prediction] = decode(
      encode({ transactions: [fine(1)], scored: { reasons, featureCount: 3, features: new Float32Array(3) } }),
    );
    expect(prediction.reasons).toEqual([2, 1, 0].map((i) => ({ feature: names[i], contribution: i + 1 })));
  });

  it("gives each row its own headers", () => {
    const records = encode({
      transactions: [fine(1), fine(2)],
      headersOf: (row) => (row === 0 ? null : encodeHeaders([["reply-to", "second"]])),
    });
    expect(records.map(({ headers }) => headers)).toEqual([[], [["reply-to", Buffer.from("second")]]]);
  });
});

describe("decide", () => {
  it.each([
    [0.5, 0.5, 0.9, 1],
    [Math.fround(0.5 - 2 ** -25), 0.5, 0.9, 0],
    [0.875, 0.5, 0.875, 2],
    [Math.fround(0.875 - 2 ** -24), 0.5, 0.875, 1],
    [0.5, 0.5, 0.5, 2],
    [0, 0, 1, 1],
    [1, 0, 1, 2],
    [1, 2, 2, 0],
    [0.6, 0.9, 0.5, 2],
  ])("of a score of %d with thresholds %d and %d is %d", (score, review, decline, decision) => {
    expect(decide(score, review, decline)).toBe(decision);
  });
});
