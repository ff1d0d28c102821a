import { describe, expect, it } from "vitest";
import { attribute, doubles, node, type Message } from "../../../../models/onnx/graph.js";
import { checkOperators } from "../../../../models/uploads/operators.js";
import { endless, field, fixtures, graphOf, mean, memoryBomb, message } from "../../../support/uploads.js";

const told = (onnx: Uint8Array, input = "x"): string => {
  try {
    checkOperators(onnx, input);
  } catch (error) {
    return (error as Error).message;
  }
  return "taken";
};
const int64 = node("Cast", ["x"], "n", [attribute.int("to", 7)]);

it("accepts what exporters write", () => {
  for (const { name, onnx, manifest } of fixtures())
    expect([name, told(onnx, manifest.input)]).toEqual([name, "taken"]);
  for (const onnx of [mean(), memoryBomb(10)]) expect(told(onnx)).toBe("taken");
});

describe("refuses, naming operator and node,", () => {
  const subgraph = (name: string): Message =>
    message((writer) => writer.raw(field(1, name)).raw(field(6, field(2, "g"))));
  const named = (of: Message, name: string): Message => message((writer) => writer.raw(of).raw(field(3, name)));
  const cases: [what: string, onnx: Uint8Array, message: RegExp][] = [
    ["a loop", endless(), /operator "Loop" \(node "y"\) is control flow/],
    [
      "a branch",
      graphOf([named(node("If", ["c"], "y", [subgraph("then_branch"), subgraph("else_branch")]), "chosen")]),
      /operator "If" \(node "chosen"\) is control flow/,
    ],
    ["a scan", graphOf([node("Scan", ["x"], "y", [subgraph("body")])]), /"Scan".* is control flow/],
    [
      "a graph within an operator that needs none",
      graphOf([node("Relu", ["x"], "y", [subgraph("body")])]),
      /"Relu".* is control flow/,
    ],
    [
      "results as many as the values say",
      graphOf([node("NonZero", ["x"], "y")]),
      /"NonZero".* is not one of the operators/,
    ],
    ["another domain", graphOf([node("Relu", ["x"], "y", [], "com.example")]), /of the domain "com.example"/],
    [
      "onnxruntime's own domain",
      graphOf([node("Sampling", ["x"], "y", [], "com.microsoft")]),
      /of the domain "com.microsoft"/,
    ],
    [
      "the domain of an object's own properties",
      graphOf([node("Relu", ["x"], "y", [], "constructor")]),
      /of the domain "constructor"/,
    ],
    [
      "functions of its own",
      message((writer) => writer.raw(mean()).raw(field(25, field(1, "mine")))),
      /functions of its own/,
    ],
    [
      "a size from the payment",
      graphOf([int64, node("ConstantOfShape", ["n"], "y")]),
      /"ConstantOfShape" \(node "y"\) takes a size from the payment's values/,
    ],
    [
      "a size from the payment, by way of others",
      graphOf([int64, node("Mul", ["n", "n"], "nn"), node("Expand", ["x", "nn"], "y")]),
      /"Expand".* takes a size/,
    ],
    [
      "repeats from the payment, nodes in any order",
      graphOf([node("Tile", ["x", "n"], "y"), int64]),
      /"Tile".* takes a size/,
    ],
    [
      "a range up to the payment's amount",
      graphOf([node("Range", ["zero", "x", "one"], "y")], [doubles("zero", [], [0]), doubles("one", [], [1])]),
      /"Range".* takes a size/,
    ],
    [
      "as many neighbours as the payment says",
      graphOf([int64, node("TopK", ["x", "n"], "y")]),
      /"TopK".* takes a size/,
    ],
    ["images", graphOf([node("Resize", ["x", "", "x"], "y")]), /"Resize".* is not one of/],
  ];
  it.each(cases)("%s", (_what, onnx, expected) => {
    expect(told(onnx)).toMatch(expected);
  });
});

it("accepts sizes that follow from the number of rows", () => {
  expect(
    told(
      graphOf([
        node("Shape", ["x"], "shape"),
        node("ConstantOfShape", ["shape"], "zeros"),
        node("Add", ["x", "zeros"], "y"),
      ]),
    ),
  ).toBe("taken");
});

describe("trees", () => {
  const trees = (whenTrue: number[], whenFalse: number[], modes: string[]): Uint8Array => {
    const ids = whenTrue.map((_, i) => i);
    return graphOf([
      node(
        "TreeEnsembleRegressor",
        ["x"],
        "y",
        [
          attribute.ints(
            "nodes_treeids",
            ids.map(() => 0),
          ),
          attribute.ints("nodes_nodeids", ids),
          attribute.ints("nodes_truenodeids", whenTrue),
          attribute.ints("nodes_falsenodeids", whenFalse),
          attribute.strings("nodes_modes", modes),
        ],
        "ai.onnx.ml",
      ),
    ]);
  };

  it("must lead down to a leaf", () => {
    expect(told(trees([1, 0, 0], [2, 0, 0], ["BRANCH_LEQ", "LEAF", "LEAF"]))).toBe("taken");
    expect(told(trees([1, 0, 0], [2, 2, 0], ["BRANCH_LEQ", "BRANCH_LEQ", "LEAF"]))).toMatch(/lead back to themselves/);
    expect(told(trees([0], [0], ["BRANCH_LEQ"]))).toMatch(/lead back to themselves/);
  });

  it("of ai.onnx.ml 5, too", () => {
    const ensemble = (whenTrue: number[], trueLeafs: number[]): Uint8Array =>
      graphOf([
        node(
          "TreeEnsemble",
          ["x"],
          "y",
          [
            attribute.ints("nodes_truenodeids", whenTrue),
            attribute.ints("nodes_falsenodeids", [0, 0]),
            attribute.ints("nodes_trueleafs", trueLeafs),
            attribute.ints("nodes_falseleafs", [1, 1]),
            attribute.ints("tree_roots", [0]),
          ],
          "ai.onnx.ml",
        ),
      ]);
    expect(told(ensemble([1, 0], [0, 1]))).toBe("taken");
    expect(told(ensemble([1, 0], [0, 0]))).toMatch(/lead back to themselves/);
  });
});
