import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { packageRoot } from "../../infra/package-root.js";
import { attribute, doubles, model, node, type Message } from "../../models/onnx/graph.js";
import { endlessLoop, field, message } from "./onnx-loop.js";

export { field, message };
import type { UploadedManifest } from "../../models/uploads/upload.js";

/** One exported model of tests/fixtures/onnx, in the parts of an upload. */
export interface Fixture {
  name: string;
  manifest: UploadedManifest;
  onnx: Buffer;
  samples: { columns: string[]; rows: (number | null)[][]; scores: number[] };
}

const FOLDER = join(packageRoot(), "tests", "fixtures", "onnx");

/** Every exported model, by name. */
export function fixtures(): Fixture[] {
  const names = readdirSync(FOLDER)
    .filter((file) => file.endsWith(".onnx"))
    .map((file) => file.slice(0, -".onnx".length));
  return names.sort().map((name) => fixture(name));
}

export function fixture(name: string): Fixture {
  const json = (part: string): unknown => JSON.parse(readFileSync(join(FOLDER, `${name}.${part}.json`), "utf8"));
  return {
    name,
    onnx: readFileSync(join(FOLDER, `${name}.onnx`)),
    manifest: json("manifest") as UploadedManifest,
    samples: json("samples") as Fixture["samples"],
  };
}

/** A model from x [N, 2] to y [N, 1] of these nodes. */
export function graphOf(nodes: readonly Message[], constants: readonly Message[] = []): Message {
  return model({ name: "test", input: { name: "x", features: 2 }, output: "y", nodes, constants, metadata: {} });
}

/**
 * The mean of the two features: of values from 0 to 1 a score that a test can work out; of others, or none, a score as
 * well.
 */
export function mean(): Message {
  return graphOf(meanNodes("y"), [doubles("lower", [], [0]), doubles("upper", [], [1])]);
}

/** The nodes of `mean`, whose result has a name. */
export function meanNodes(result: string): Message[] {
  return [
    node("Cast", ["x"], "wide", [attribute.int("to", 11)]),
    node("IsNaN", ["wide"], "missing"),
    node("Where", ["missing", "lower", "wide"], "filled"),
    node("ReduceMean", ["filled"], "average", [attribute.ints("axes", [1])]),
    node("Clip", ["average", "lower", "upper"], "bounded"),
    node("Cast", ["bounded"], result, [attribute.int("to", 1)]),
  ];
}

/** The mean, by way of `values` numbers in memory. */
export function memoryBomb(values: number): Message {
  const nodes = [
    node("Cast", ["size"], "shape", [attribute.int("to", 7)]),
    node("ConstantOfShape", ["shape"], "zeros"),
    node("ReduceSum", ["zeros"], "zero"),
    ...meanNodes("mean"),
    node("Add", ["mean", "zero"], "y"),
  ];
  return graphOf(nodes, [doubles("size", [1], [values]), doubles("lower", [], [0]), doubles("upper", [], [1])]);
}

/** Work for minutes: matrices of 4,000 × 4,000 multiplied by each other, again and again. */
export function slow(): Message {
  const side = 4_000;
  const nodes = [node("Cast", ["size"], "shape", [attribute.int("to", 7)]), node("ConstantOfShape", ["shape"], "m0")];
  for (let i = 0; i < 100; i++) nodes.push(node("MatMul", [`m${i}`, `m${i}`], `m${i + 1}`));
  nodes.push(
    node("ReduceSum", ["m100"], "zero", [attribute.int("keepdims", 0)]),
    ...meanNodes("mean"),
    node("Add", ["mean", "zero"], "y"),
  );
  return graphOf(nodes, [doubles("size", [2], [side, side]), doubles("lower", [], [0]), doubles("upper", [], [1])]);
}

/** A model with a Loop that never ends for a batch with a value above 1; what it gives otherwise is the mean. */
export function endless(): Message {
  const nodes = [
    ...meanNodes("mean"),
    node("Cast", ["x"], "doubled", [attribute.int("to", 11)]),
    node("ReduceMax", ["doubled"], "largest", [attribute.int("keepdims", 0)]),
    node("Greater", ["largest", "upper"], "turns"),
    endlessLoop("turns", "mean", "y"),
  ];
  return graphOf(nodes, [doubles("lower", [], [0]), doubles("upper", [], [1])]);
}
