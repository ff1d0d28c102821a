import { readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import {
  artifactFolder,
  loadArtifact,
  nextVersion,
  saveArtifact,
  saveNextVersion,
  sha256,
} from "../../../models/artifacts.js";
import { featureHash } from "../../../models/features/plan.js";
import { selectFeatures } from "../../../models/features/select.js";
import type { Manifest } from "../../../models/manifest.js";
import { temporaryFolder } from "./datasets/csv-files.js";

const onnx = Uint8Array.from({ length: 1000 }, (_, i) => i % 251);

function manifestOf(model: string): Manifest {
  const features = selectFeatures({ attributes: new Map() });
  return {
    format: 1,
    model,
    algorithm: "gradient-boosted-trees",
    input: "features",
    output: "probability",
    features,
    feature_hash: featureHash(features),
    sha256: sha256(onnx),
    thresholds: { review: 0.5, decline: 0.9 },
    training: { source: "x.csv", rows: 10, frauds: 1, from: 0, to: 1, params: { num_leaves: 31 }, seconds: 0.1 },
    validation: null,
    test: null,
    created_at: "2026-01-01T00:00:00.000Z",
  };
}
const code = (expected: string): unknown => expect.objectContaining({ code: expected });

test("what was stored is what is loaded", async () => {
  const folder = join(temporaryFolder(), "not", "there", "yet");
  const saved = await saveArtifact(folder, manifestOf("fraud@1"), onnx);
  const loaded = await loadArtifact(folder, "fraud@1", saved.manifestSha256);
  expect(loaded.manifest).toEqual(manifestOf("fraud@1"));
  expect(Buffer.compare(loaded.onnx, onnx)).toBe(0);
  expect(loaded.manifestSha256).toBe(sha256(readFileSync(join(saved.folder, "manifest.json"))));
  expect(readdirSync(folder)).toEqual(["fraud@1"]);
});

test("an artifact is never overwritten, and an attempt leaves nothing behind", async () => {
  const folder = temporaryFolder();
  const { manifestSha256 } = await saveArtifact(folder, manifestOf("fraud@1"), onnx);
  await expect(saveArtifact(folder, { ...manifestOf("fraud@1"), created_at: "later" }, onnx)).rejects.toEqual(
    code("artifact_exists"),
  );
  await expect(loadArtifact(folder, "fraud@1", manifestSha256)).resolves.toBeDefined();
  expect(readdirSync(folder)).toEqual(["fraud@1"]);
});

test("concurrent stores get a version each", async () => {
  const folder = temporaryFolder();
  expect(await nextVersion(folder, "fraud")).toBe(1);
  const built = { manifest: manifestOf("fraud@1"), onnx };
  const saved = await Promise.all(Array.from({ length: 8 }, () => saveNextVersion(folder, "fraud", built)));
  expect(saved.map(({ manifest }) => manifest.model).sort()).toEqual(
    [1, 2, 3, 4, 5, 6, 7, 8].map((version) => `fraud@${version}`),
  );
  expect(readdirSync(folder).length).toBe(8);
  for (const { manifest, manifestSha256 } of saved) await loadArtifact(folder, manifest.model, manifestSha256);
});

test("the next version follows the highest number, among models of exactly that name", async () => {
  const folder = temporaryFolder();
  for (const model of ["fraud@9", "fraud@10", "fraud-eu@12"]) await saveArtifact(folder, manifestOf(model), onnx);
  expect(await nextVersion(folder, "fraud")).toBe(11);
  expect(await nextVersion(folder, "fraud-eu")).toBe(13);
  await expect(nextVersion(folder, "../fraud")).rejects.toEqual(code("model_name_invalid"));
});

test.each([
  "../fraud@1",
  "a/b@1",
  "fraud",
  "fraud@0",
  "fraud@01",
  "fraud@1/..",
  ".@1",
  "Fraud@1",
  "fraud@1\n",
  "",
  "fraud@1\0",
])("the model id %j is refused", async (id) => {
  expect(() => artifactFolder("/artifacts", id)).toThrow(
    expect.objectContaining({ code: "model_id_invalid" }) as Error,
  );
  await expect(loadArtifact("/artifacts", id)).rejects.toEqual(code("model_id_invalid"));
  await expect(saveArtifact("/artifacts", manifestOf(id), onnx)).rejects.toEqual(code("model_id_invalid"));
});

describe("what is refused on loading", () => {
  async function stored(): Promise<{ folder: string; manifestFile: string; onnxFile: string; hash: string }> {
    const folder = temporaryFolder();
    const saved = await saveArtifact(folder, manifestOf("fraud@1"), onnx);
    return {
      folder,
      manifestFile: join(saved.folder, "manifest.json"),
      onnxFile: join(saved.folder, "model.onnx"),
      hash: saved.manifestSha256,
    };
  }

  test("a missing artifact", async () => {
    const { folder, onnxFile } = await stored();
    await expect(loadArtifact(folder, "fraud@2")).rejects.toEqual(code("artifact_missing"));
    rmSync(onnxFile);
    await expect(loadArtifact(folder, "fraud@1")).rejects.toEqual(code("artifact_missing"));
  });

  test("a changed ONNX file", async () => {
    const { folder, onnxFile } = await stored();
    writeFileSync(onnxFile, onnx.subarray(1));
    await expect(loadArtifact(folder, "fraud@1")).rejects.toEqual(code("artifact_corrupt"));
  });

  test("a manifest other than the registered one", async () => {
    const { folder, manifestFile, hash } = await stored();
    writeFileSync(manifestFile, JSON.stringify({ ...manifestOf("fraud@1"), created_at: "later" }));
    await expect(loadArtifact(folder, "fraud@1", hash)).rejects.toEqual(code("artifact_corrupt"));
    await expect(loadArtifact(folder, "fraud@1")).resolves.toBeDefined();
  });

  test.each<[string, (manifest: Manifest) => unknown, string, RegExp]>([
    ["a truncated file", (manifest) => JSON.stringify(manifest).slice(0, 100), "manifest_invalid", /not JSON/],
    ["no object", () => [], "manifest_invalid", /expected object/i],
    [
      "a text for a threshold",
      (manifest) => ({ ...manifest, thresholds: { review: "0.5", decline: 1 } }),
      "manifest_invalid",
      /\/thresholds\/review: expected number/i,
    ],
    [
      "a feature's source that is unknown",
      (manifest) => ({ ...manifest, features: [{ ...manifest.features[0], source: { kind: "moon" } }] }),
      "unknown_feature",
      /features\[0\] is of the kind "moon", which this version can't compute/,
    ],
    [
      "another model's manifest",
      (manifest) => ({ ...manifest, model: "fraud@2" }),
      "manifest_invalid",
      /that of fraud@2/,
    ],
    [
      "review above decline",
      (manifest) => ({ ...manifest, thresholds: { review: 0.9, decline: 0.5 } }),
      "manifest_invalid",
      /above the decline threshold/,
    ],
    [
      "a feature twice",
      (manifest) => ({ ...manifest, features: [manifest.features[0], manifest.features[0]] }),
      "manifest_invalid",
      /same name/,
    ],
    [
      "features in another order",
      (manifest) => ({ ...manifest, features: manifest.features.toReversed() }),
      "feature_hash_differs",
      /hash/,
    ],
    [
      "another default",
      (manifest) => ({ ...manifest, features: manifest.features.map((feature) => ({ ...feature, default: 0 })) }),
      "feature_hash_differs",
      /hash/,
    ],
  ])("%s", async (_, change, expected, message) => {
    const { folder, manifestFile } = await stored();
    const changed = change(manifestOf("fraud@1"));
    writeFileSync(manifestFile, typeof changed === "string" ? changed : JSON.stringify(changed));
    await expect(loadArtifact(folder, "fraud@1")).rejects.toMatchObject({
      code: expected,
      message: expect.stringMatching(message) as string,
    });
  });
});

test("files that don't fit each other aren't stored", async () => {
  const folder = temporaryFolder();
  await expect(saveArtifact(folder, manifestOf("fraud@1"), onnx.subarray(1))).rejects.toEqual(code("artifact_corrupt"));
  await expect(saveArtifact(folder, { ...manifestOf("fraud@1"), feature_hash: "0".repeat(64) }, onnx)).rejects.toEqual(
    code("feature_hash_differs"),
  );
  await expect(
    saveArtifact(folder, { ...manifestOf("fraud@1"), thresholds: { review: Number.NaN, decline: 1 } }, onnx),
  ).rejects.toEqual(code("manifest_invalid"));
  expect(readdirSync(folder)).toEqual([]);
});
