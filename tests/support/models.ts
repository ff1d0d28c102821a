import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { sha256 } from "../../models/artifacts.js";
import { featureHash, type FeatureSpec } from "../../models/features/plan.js";
import type { Manifest } from "../../models/manifest.js";
import { attribute, doubles, model, node, type Message } from "../../models/onnx/graph.js";
import { endlessLoop } from "./onnx-loop.js";

// Tiny models whose scores a test can compute, and some that misbehave.

/** The probability that `logistic` models give: a sigmoid of the amount, in units of 100. */
export function sigmoidOf(amount: number): number {
  return 1 / (1 + Math.exp(-amount / 100));
}

export const amountFeature: FeatureSpec = { name: "amount", type: "number", source: { kind: "amount" }, default: null };

/** A number attribute as a feature. */
export function numberFeature(name: string, missing: number | null = null): FeatureSpec {
  return { name, type: "number", source: { kind: "attribute", attribute: name }, default: missing };
}

/** A test model: its features, and the ONNX file that reads them. */
export interface TestModel {
  features: FeatureSpec[];
  onnx: Uint8Array;
}

/** `sigmoid(amount / 100)`; further features count with weight 0. */
export function logistic(features: FeatureSpec[] = [amountFeature]): TestModel {
  return {
    features,
    onnx: graph(features.length, [linear(features.length, "raw"), node("Sigmoid", ["raw"], "probability")]),
  };
}

/** `sigmoid(Σ weight × feature)`. */
export function weighted(features: FeatureSpec[], weights: number[]): TestModel {
  return {
    features,
    onnx: graph(features.length, [linear(features.length, "raw", weights), node("Sigmoid", ["raw"], "probability")]),
  };
}

/** `amount / 100` as it is: outside of 0..1 for amounts below 0 or above 100. */
export function unbounded(): TestModel {
  return { features: [amountFeature], onnx: graph(1, [linear(1, "probability")]) };
}

/** The square root of `amount / 100`: NaN for a refund; further features count with weight 0. */
export function nanForRefunds(features: FeatureSpec[] = [amountFeature]): TestModel {
  return {
    features,
    onnx: graph(features.length, [linear(features.length, "raw"), node("Sqrt", ["raw"], "probability")]),
  };
}

/** NaN for every amount: the square root of -1 - amount². */
export function alwaysNan(): TestModel {
  const nodes = [
    linear(1, "raw"),
    node("Mul", ["raw", "raw"], "square"),
    node("Neg", ["square"], "negative"),
    node("Cast", ["one"], "one32", [attribute.int("to", 1)]),
    node("Sub", ["negative", "one32"], "below"),
    node("Sqrt", ["below"], "probability"),
  ];
  return { features: [amountFeature], onnx: graph(1, nodes, [doubles("one", [1], [1])]) };
}

/**
 * Looks `amount / 100`, cut to a whole number, up in a table: onnxruntime throws for amounts of `100 × table.length` or
 * more.
 */
export function lookup(table: number[] = [0.1, 0.2]): TestModel {
  const cast = (from: string, to: string, type: number): Message =>
    node("Cast", [from], to, [attribute.int("to", type)]);
  const nodes = [
    linear(1, "raw"),
    cast("raw", "index", 7),
    node("Gather", ["table", "index"], "found"),
    cast("found", "probability", 1),
  ];
  return { features: [amountFeature], onnx: graph(1, nodes, [doubles("table", [table.length], table)]) };
}

/** The scores of `nanForRefunds`, and a loop without an end for a batch with an amount above `limit`. */
export function hangsAbove(limit: number, features: FeatureSpec[] = [amountFeature]): TestModel {
  const nodes = [
    linear(features.length, "raw"),
    node("Sqrt", ["raw"], "root"),
    node("Cast", ["raw"], "wide", [attribute.int("to", 11)]),
    node("ReduceMax", ["wide"], "largest", [attribute.int("keepdims", 0)]),
    node("Greater", ["largest", "limit"], "turns"),
    endlessLoop("turns", "root", "probability"),
  ];
  return { features, onnx: graph(features.length, nodes, [doubles("limit", [], [limit / 100])]) };
}

function linear(
  features: number,
  output: string,
  weights: number[] = Array.from({ length: features }, (_, i) => (i === 0 ? 0.01 : 0)),
): Message {
  return node(
    "LinearRegressor",
    ["features"],
    output,
    [attribute.floats("coefficients", weights), attribute.floats("intercepts", [0])],
    "ai.onnx.ml",
  );
}

function graph(features: number, nodes: Message[], constants: Message[] = []): Uint8Array {
  return model({
    name: "test",
    input: { name: "features", features },
    output: "probability",
    nodes,
    constants,
    metadata: {},
  });
}

/** The manifest of a test model. */
export function manifestOf(id: string, { features, onnx }: TestModel): Manifest {
  return {
    format: 1,
    model: id,
    algorithm: "test",
    input: "features",
    output: "probability",
    features,
    feature_hash: featureHash(features),
    sha256: sha256(onnx),
    thresholds: { review: 0.5, decline: 0.9 },
    training: { source: "test", rows: 1, frauds: 0, from: 0, to: 1, params: {}, seconds: 0 },
    validation: null,
    test: null,
    created_at: "2026-01-01T00:00:00.000Z",
  };
}

/** Writes an artifact's files without looking at whether they fit each other. @returns the manifest's sha256 */
export async function writeArtifact(artifacts: string, manifest: Manifest, onnx: Uint8Array | null): Promise<string> {
  const folder = join(artifacts, manifest.model);
  const text = JSON.stringify(manifest);
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, "manifest.json"), text);
  if (onnx !== null) await writeFile(join(folder, "model.onnx"), onnx);
  return sha256(text);
}
