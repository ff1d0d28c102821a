import { Value } from "@sinclair/typebox/value";
import { describe, expect, it } from "vitest";
import { UploadedManifest, manifestOfUpload, uploadedColumns } from "../../../../models/uploads/upload.js";
import { samplesOf } from "../../../../models/uploads/samples.js";
import type { FeatureSpec } from "../../../../models/features/plan.js";
import { Manifest } from "../../../../models/manifest.js";
import { fixtures } from "../../../support/uploads.js";

const upload = (changed: Partial<UploadedManifest> = {}): UploadedManifest => ({
  name: "mine",
  thresholds: { review: 0.5, decline: 0.9 },
  features: [
    { name: "amount", type: "number" },
    { name: "distance", type: "number", default: 7 },
    { name: "card_present", type: "boolean" },
  ],
  ...changed,
});
const rows = (length: number): { columns: string[]; rows: unknown[][]; scores: unknown[] } => ({
  columns: ["distance", "card_present", "amount"],
  rows: Array.from({ length }, (_, i) => [i === 0 ? null : 0.1, i % 2 === 0, i === 1 ? null : i]),
  scores: Array.from({ length }, () => 0.25),
});

const featuresOf = (manifest: UploadedManifest): FeatureSpec[] =>
  uploadedColumns(manifest).flatMap(({ features }) => features);

describe("an uploaded manifest", () => {
  it("gets sources and defaults if its author leaves them out", () => {
    expect(featuresOf(upload())).toEqual([
      { name: "amount", type: "number", source: { kind: "amount" }, default: null },
      { name: "distance", type: "number", source: { kind: "attribute", attribute: "distance" }, default: 7 },
      {
        name: "card_present",
        type: "boolean",
        source: { kind: "attribute", attribute: "card_present" },
        default: null,
      },
    ]);
    expect(featuresOf(upload({ features: [{ name: "toString", type: "number" }] }))[0].source).toEqual({
      kind: "attribute",
      attribute: "toString",
    });
  });

  it("becomes a manifest that fits its schema", () => {
    const manifest = manifestOfUpload(upload(), uploadedColumns(upload()), {
      onnx: Uint8Array.of(1),
      input: "x",
      output: "y",
    });
    expect(Value.Check(Manifest, manifest)).toBe(true);
    for (const each of fixtures())
      expect([each.name, Value.Check(UploadedManifest, each.manifest)]).toEqual([each.name, true]);
  });

  it("is refused if two features have the same name, or thresholds are in the wrong order", () => {
    expect(() =>
      featuresOf(
        upload({
          features: [
            { name: "a", type: "number" },
            { name: "a", type: "boolean" },
          ],
        }),
      ),
    ).toThrow('two features have the name "a"');
    expect(() => featuresOf(upload({ thresholds: { review: 0.9, decline: 0.5 } }))).toThrow(
      "above the decline threshold",
    );
    for (const name of ["../../etc", "a/b", "a@2", "A", "", "a".repeat(64)])
      expect(Value.Check(UploadedManifest, upload({ name }))).toBe(false);
  });
});

describe("sample rows", () => {
  const columns = uploadedColumns(upload());

  it("are put in the features' order, as float32, with defaults if a value is absent", () => {
    const samples = samplesOf(rows(100), columns);
    expect(samples.rows).toBe(100);
    expect([...samples.values.subarray(0, 9)]).toEqual([0, 7, 1, NaN, Math.fround(0.1), 0, 2, Math.fround(0.1), 1]);
  });

  const broken: [what: string, code: string, change: (samples: ReturnType<typeof rows>) => unknown][] = [
    ["99 rows", "samples_too_few", () => rows(99)],
    ["no list", "samples_invalid", () => [1]],
    ["null", "samples_invalid", () => null],
    ["a further field", "samples_invalid", (samples) => ({ ...samples, labels: [] })],
    ["a score too many", "samples_invalid", (samples) => ({ ...samples, scores: [...samples.scores, 0.5] })],
    [
      "another column",
      "samples_invalid",
      (samples) => ({ ...samples, columns: ["distance", "card_present", "amounts"] }),
    ],
    ["a column too many", "samples_invalid", (samples) => ({ ...samples, columns: [...samples.columns, "more"] })],
    ["a short row", "samples_invalid", (samples) => ({ ...samples, rows: samples.rows.with(50, [1, 2]) })],
    ["text in a row", "samples_invalid", (samples) => ({ ...samples, rows: samples.rows.with(50, [1, 2, "3"]) })],
    ["no score", "samples_invalid", (samples) => ({ ...samples, scores: samples.scores.with(3, null) })],
    ["NaN as a score", "samples_invalid", (samples) => ({ ...samples, scores: samples.scores.with(3, NaN) })],
    ["a score above 1", "samples_invalid", (samples) => ({ ...samples, scores: samples.scores.with(3, 1.01) })],
  ];
  it.each(broken)("are refused with %s", (_what, code, change) => {
    expect(() => samplesOf(change(rows(100)), columns)).toThrow(expect.objectContaining({ code }) as Error);
  });
});
