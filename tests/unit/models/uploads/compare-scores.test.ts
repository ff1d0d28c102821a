import { describe, expect, it } from "vitest";
import { Value } from "@sinclair/typebox/value";
import { attribute, doubles, node } from "../../../../models/onnx/graph.js";
import { checkModel, type CheckRequest } from "../../../../models/uploads/check-model.js";
import { compareScores, mostDiffering } from "../../../../models/uploads/compare-scores.js";
import { UploadedManifest, uploadedColumns } from "../../../../models/uploads/upload.js";
import { samplesOf } from "../../../../models/uploads/samples.js";
import { exportedPipeline } from "../../../support/exported-pipelines.js";
import { graphOf } from "../../../support/uploads.js";

/** The check of a StandardScaler before a RandomForest, whose rows at thresholds ONNX puts on the other side. */
function scaledForest(change: { name?: string; cell?: (value: number) => number } = {}): CheckRequest {
  const { name = "scaled-forest", cell = (value) => value } = change;
  const { manifest, onnx, samples } = exportedPipeline(name);
  const columns = uploadedColumns(manifest);
  const rows = samples.rows.map((cells) => cells.map((value) => (typeof value === "number" ? cell(value) : value)));
  return { onnx, columns, samples: samplesOf({ ...samples, rows }, columns), words: manifest };
}

describe("a scaled forest with values at its thresholds", () => {
  it("is refused for ties, naming row, feature and threshold, and what to do", async () => {
    await expect(checkModel(scaledForest())).rejects.toThrow(
      expect.objectContaining({
        code: "scores_differ",
        message: expect.stringMatching(
          new RegExp(
            '31 of 10000 sample rows.*ties at a threshold.*in row 553 "amount" is [\\d.]+, and the score changes ' +
              "between [\\d.]+ and [\\d.]+; in row 639 .*float32 already.*'div'.*\"differing_rows\": 31",
            "s",
          ),
        ) as string,
      }) as Error,
    );
  });

  it("is accepted where it is exported with division", async () => {
    const checked = await checkModel(scaledForest({ name: "scaled-forest-div" }));
    expect(checked).toMatchObject({ differingRows: 0 });
    expect(checked.greatestDifference).toBeLessThan(1e-6);
  });

  it("is accepted if the manifest lets that many rows differ, and the rows are counted", async () => {
    const request = scaledForest();
    expect(await checkModel({ ...request, tolerance: { differing_rows: 31 } })).toMatchObject({ differingRows: 31 });
    await expect(checkModel({ ...request, tolerance: { differing_rows: 30 } })).rejects.toThrow(
      /31 of 10000 sample rows are more than 0.00001 off \(30 may be\)/,
    );
  });

  it("is told to score float32 values if the samples have others", async () => {
    const decimals = scaledForest({ cell: (value) => Number(value.toPrecision(7)) });
    await expect(checkModel(decimals)).rejects.toThrow(/ties at a threshold.*no float32.*X\.astype\(numpy\.float32\)/s);
  });
});

describe("scores that differ for other reasons", () => {
  const request = (
    onnx: Uint8Array,
    score: (row: number) => number,
    cell = (row: number) => row / 128,
  ): CheckRequest => {
    const columns = uploadedColumns({
      name: "m",
      thresholds: { review: 0.5, decline: 0.9 },
      features: [
        { name: "a", type: "number", default: 0 },
        { name: "b", type: "number", default: 0 },
      ],
    });
    const rows = Array.from({ length: 100 }, (_, row) => [cell(row), cell(row)]);
    const samples = { columns: ["a", "b"], rows, scores: rows.map((_, row) => score(row)) };
    return { onnx, columns, samples: samplesOf(samples, columns) };
  };
  const first = graphOf([node("ReduceMean", ["x"], "y", [attribute.ints("axes", [1]), attribute.int("keepdims", 1)])]);

  it.each<[string, RegExp, CheckRequest]>([
    ["the other class", /those of the other class: name fraud's/, request(first, (row) => 1 - row / 128)],
    [
      "no float32",
      /100 sample values are no float32|sample values are no float32/,
      request(
        first,
        () => 0.99,
        (row) => row / 130,
      ),
    ],
    ["another model", /aren't at thresholds: compare the order/, request(first, () => 0.99)],
    [
      "no probabilities",
      /no probability \(row 1 gives .*score_map/,
      request(
        graphOf(
          [
            node("Cast", ["x"], "wide", [attribute.int("to", 11)]),
            node("ReduceMean", ["wide"], "mean", [attribute.ints("axes", [1])]),
            node("Mul", ["mean", "ten"], "large"),
            node("Cast", ["large"], "y", [attribute.int("to", 1)]),
          ],
          [doubles("ten", [1], [-10])],
        ),
        (row) => row / 128,
      ),
    ],
  ])("%s", async (_name, message, given) => {
    await expect(checkModel(given)).rejects.toThrow(message);
  });
});

it("bounds what a manifest may declare", () => {
  expect([100, 150, 500, 10_000].map((rows) => mostDiffering(rows, { differing_rows: 100 }))).toEqual([1, 1, 5, 100]);
  expect(mostDiffering(10_000, {})).toBe(0);
  const manifest = {
    name: "m",
    features: [{ name: "a", type: "number" }],
    thresholds: { review: 0.5, decline: 0.9 },
  };
  const fits = (tolerance: object): boolean => Value.Check(UploadedManifest, { ...manifest, tolerance });
  expect([{ differing_rows: 3 }, { difference: 0.001 }, {}].map(fits)).toEqual([true, true, true]);
  expect([{ differing_rows: 101 }, { difference: 0.1 }, { difference: 0 }, { rows: 1 }].map(fits)).toEqual([
    false,
    false,
    false,
    false,
  ]);
});

it("counts a score that is not a number as differing", () => {
  const samples = { rows: 2, values: new Float32Array(2), scores: Float64Array.of(0.5, 0.5) };
  expect(compareScores(Float32Array.of(Number.NaN, 0.5), samples, {})).toEqual({
    greatestDifference: 0,
    differing: [0],
  });
});
