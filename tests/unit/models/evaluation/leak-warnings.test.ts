import { describe, expect, test } from "vitest";
import { buildModel } from "../../../../models/build-model.js";
import { readCsv } from "../../../../models/datasets/read-csv.js";
import { fileWith } from "../datasets/csv-files.js";
import { csvOf, iso, payments, type Payment } from "../datasets/payments-csv.js";

const params = { num_iterations: 20, max_depth: 4 };

async function warningsOf(leak: (payment: Payment) => string | number, options = {}): Promise<string[]> {
  const rows = payments(2_000, 5);
  const file = csvOf("event_time,card_id,amount,is_fraud,flow", rows, (payment) => [
    iso(payment.time),
    payment.card,
    // Nothing tells but `flow`.
    ((payment.row * 7_919) % 4_001) / 10,
    Number(payment.fraud),
    leak(payment),
  ]);
  const { warnings, notes } = await buildModel(await readCsv(fileWith(file)), { model: "x@1", params, ...options });
  for (const warning of warnings) expect(notes).toContain(warning);
  return warnings;
}

const noise = (row: number): number => ((row * 611_953) % 1_000_003) / 1_000_003;

describe("what is too good to be true", () => {
  test.each<[string, (payment: Payment) => string | number]>([
    ["the label itself", ({ fraud }) => (fraud ? 2 : 3)],
    ["the label, a little blurred", ({ fraud, row }) => (fraud ? 1 : 0) + noise(row) * 0.99],
    ["a text that only frauds have", ({ fraud }) => (fraud ? "blocked" : "booked")],
    ["a missing value", ({ fraud, row }) => (fraud ? "" : noise(row))],
  ])("%s", async (_, leak) => {
    for (const options of [{}, { testFraction: 0 }]) {
      const [metrics, feature] = await warningsOf(leak, options);
      expect(metrics).toMatch(/^WARNING: ROC AUC .* on the (test|validation) part are too good to be true/);
      expect(feature).toMatch(/^WARNING: feature "flow.*" by itself finds the frauds .* --drop "flow"$/);
    }
  });

  test("includes a feature that almost gives the label away", async () => {
    const warnings = await warningsOf(({ fraud, row }) => (fraud && noise(row) > 0.08 ? 1 : 0));
    expect(warnings.join()).toMatch(/feature "flow" by itself/);
  });

  test("does not include a feature that is merely informative", async () => {
    expect(await warningsOf(({ fraud, row }) => (fraud ? 0.4 : 0) + noise(row))).toEqual([]);
  });
});
