/** A small, seeded slice of `npm run test:fuzz`. */
import { expect, test } from "vitest";
import { csvSamples } from "../../../fuzz/csv-samples.js";
import { fuzzCsv, fuzzOnnx } from "../../../fuzz/files.js";
import { Findings } from "../../../fuzz/findings.js";
import { fuzzRecords } from "../../../fuzz/records.js";

test("mutated records each have one outcome, in scoring and in the sink", async () => {
  const findings = new Findings();
  const { records, predictions, forwarded, deadLetters } = await fuzzRecords(7, 6_000, findings);
  expect(findings.found).toEqual([]);
  expect(predictions + forwarded + Object.values(deadLetters).reduce((sum, count) => sum + count, 0)).toBe(records);
  expect(predictions).toBeGreaterThan(300);
  expect(Object.keys(deadLetters).length).toBeGreaterThan(14);
});

test("mutated CSV and ONNX files are accepted, or refused with a code", async () => {
  const findings = new Findings();
  const csv = await fuzzCsv(7, 80, await csvSamples(), findings);
  const onnx = await fuzzOnnx(7, 150, 75, findings);
  expect(findings.found).toEqual([]);
  expect([csv.taken > 5, Object.keys(csv.refused).length > 4, onnx.processes]).toEqual([true, true, 2]);
});
