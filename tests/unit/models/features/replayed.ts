import type { Dataset } from "../../../../models/datasets/dataset.js";
import { FeaturePlan, slotsOf, type FeatureSpec } from "../../../../models/features/plan.js";
import { LabelSchedule } from "../../../../pipelines/local/replay/label-schedule.js";
import { Pace } from "../../../../pipelines/local/replay/pace.js";
import { replayTransactions } from "../../../../pipelines/local/replay/replay-transactions.js";
import { TransactionBatch } from "../../../../pipelines/transactions/transaction-batch.js";
import { TransactionFields, type CardIds } from "../../../../schemas/transaction-reader.js";
import { transactionReader, wireValue } from "../../../support/transactions.js";

/** The feature vectors that the stream makes of a data set's replay, row by row: as JSON, or in Avro. */
export async function streamVectors(
  dataset: Dataset,
  specs: readonly FeatureSpec[],
  { json = false, cards = null }: { json?: boolean; cards?: CardIds | null } = {},
): Promise<Float32Array> {
  const slots = slotsOf([specs]);
  const batch = new TransactionBatch(slots);
  const plan = new FeaturePlan(specs, slots);
  const reader = transactionReader(batch, cards);
  const fields = new TransactionFields();
  batch.reset(dataset.length);
  await replayTransactions({
    rows: [{ dataset, start: 0, end: dataset.length }],
    schedule: new LabelSchedule(),
    publisher: {
      publish: (topic, records) => {
        for (const { value } of topic === "t" ? records : []) {
          const bytes = value as Buffer;
          reader.read(bytes, 0, bytes.length, Date.now(), fields);
          batch.add(fields, batch.length);
        }
        return Promise.resolve();
      },
    },
    topics: { transactions: "t", labels: "l" },
    encode: {
      transaction: (value) => (json ? Buffer.from(JSON.stringify(value)) : wireValue(value)),
      label: () => Buffer.alloc(0),
    },
    pace: new Pace(null),
    signal: new AbortController().signal,
  });
  const out = new Float32Array(batch.length * plan.size);
  plan.compute(batch, out);
  return out;
}

/** Where two sets of vectors differ in a bit. */
export function differences(a: Float32Array, b: Float32Array): number[] {
  const [x, y] = [a, b].map(({ buffer, byteOffset, length }) => new Uint32Array(buffer, byteOffset, length));
  return [...Array(Math.max(x.length, y.length)).keys()].filter((at) => x[at] !== y[at]);
}
