import { WireType } from "@bufbuild/protobuf/wire";
import { describe, expect, it } from "vitest";
import { attribute, node, opset, tensor, type Message } from "../../../../models/onnx/graph.js";
import { ModelSession } from "../../../../models/onnx/session.js";
import { checkModel } from "../../../../models/uploads/check-model.js";
import { columnsOf, type UploadedFeature } from "../../../../models/uploads/columns.js";
import { normaliseOnnx } from "../../../../models/uploads/normalise-onnx.js";
import { samplesOf } from "../../../../models/uploads/samples.js";
import type { GraphWords } from "../../../../models/uploads/score-map.js";
import { field, message } from "../../../support/uploads.js";

const FLOAT = 1;
const INT32 = 6;
const INT64 = 7;
const STRING = 8;
const BOOL = 9;
const DOUBLE = 11;
type Dim = number | "N";

/** ValueInfoProto of a tensor. */
function value(name: string, element: number, dims: readonly Dim[]): Message {
  const shape = message((writer) => {
    for (const dim of dims)
      writer.raw(
        field(
          1,
          message((each) => (dim === "N" ? each.raw(field(2, "N")) : each.tag(1, WireType.Varint).int64(dim))),
        ),
      );
  });
  const type = message((writer) => writer.tag(1, WireType.Varint).int32(element).raw(field(2, shape)));
  return message((writer) => writer.raw(field(1, name)).raw(field(2, field(1, type))));
}

function file(inputs: readonly Message[], nodes: readonly Message[], outputs: readonly Message[]): Message {
  const graph = message((writer) => {
    for (const each of nodes) writer.raw(field(1, each));
    writer.raw(field(2, "test"));
    for (const each of inputs) writer.raw(field(11, each));
    for (const each of outputs) writer.raw(field(12, each));
  });
  return message((writer) =>
    writer
      .tag(1, WireType.Varint)
      .int64(8)
      .raw(field(7, graph))
      .raw(field(8, opset("", 17)))
      .raw(field(8, opset("ai.onnx.ml", 3))),
  );
}

const constant = (name: string, content: Message): Message =>
  node("Constant", [], name, [attribute.tensor("value", content)]);
const number = (name: string, changed: Partial<UploadedFeature> = {}): UploadedFeature => ({
  name,
  type: "number",
  default: 0,
  ...changed,
});

async function scoresOf(
  onnx: Message,
  features: readonly UploadedFeature[],
  rows: readonly (readonly number[])[],
  words: GraphWords = {},
): Promise<number[]> {
  const { onnx: normal, input, output } = normaliseOnnx(onnx, words, columnsOf(features));
  const session = await ModelSession.load(normal, { input, output, features: rows[0].length });
  const scores = [...(await session.run(Float32Array.from(rows.flat()), rows.length))];
  await session.release();
  return scores;
}

/** Probabilities [N, columns]: what comes in. */
function classes(columns: number, labels?: Message): Message {
  const outputs = labels === undefined ? ["x", "y"] : ["x", "mapped"];
  return file(
    [value("x", FLOAT, ["N", columns])],
    labels === undefined
      ? [node("Identity", ["x"], "y")]
      : [node("Identity", ["x"], "y"), node("ZipMap", ["y"], "mapped", [labels], "ai.onnx.ml")],
    [
      labels === undefined
        ? value(outputs[1], FLOAT, ["N", columns])
        : message((writer) => writer.raw(field(1, "mapped"))),
    ],
  );
}
const named = (count: number): UploadedFeature[] => Array.from({ length: count }, (_, i) => number(`f${i}`));
const ROWS = [
  [0.1, 0.9],
  [0.7, 0.3],
];
const FIRST = [0.1, 0.7].map(Math.fround);
const SECOND = [0.9, 0.3].map(Math.fround);

describe("fraud's class", () => {
  const strings = (...labels: string[]): Message => attribute.strings("classlabels_strings", labels);
  const integers = (...labels: number[]): Message => attribute.ints("classlabels_int64s", labels);
  it.each<[string, Message, GraphWords, number[]]>([
    ["1 of 0 and 1", integers(0, 1), {}, SECOND],
    ["1 of 1 and 0", integers(1, 0), {}, FIRST],
    ["1 of -1 and 1", integers(-1, 1), {}, SECOND],
    ["0, as it is told", integers(0, 1), { fraud_class: 0 }, FIRST],
    ["Fraud of Fraud and Legit", strings("Fraud", "Legit"), {}, FIRST],
    ["fraud of genuine and fraud", strings("genuine", "fraud"), {}, SECOND],
    ["chargeback", strings("Chargeback", "ok"), {}, FIRST],
    ["True of False and True", strings("False", "True"), {}, SECOND],
    ["B, as it is told", strings("A", "B"), { fraud_class: "B" }, SECOND],
    ["a column, as it is told", strings("A", "B"), { fraud_column: 0 }, FIRST],
  ])("is %s", async (_name, labels, words, expected) => {
    expect(await scoresOf(classes(2, labels), named(2), ROWS, words)).toEqual(expected);
  });

  it.each<[string, Message, GraphWords, RegExp]>([
    ["no name", strings("A", "B"), {}, /classes are "A", "B": let the manifest say .*"fraud_class": "A"/],
    ["numbers that say nothing", integers(1, 2), {}, /classes are "1", "2": .*"fraud_class": 1/],
    ["two that could be", strings("fraud", "scam"), {}, /let the manifest say which is fraud/],
    ["another class", strings("A", "B"), { fraud_class: "C" }, /no class "C"; it has "A", "B"/],
    ["a column too many", integers(0, 1), { fraud_column: 2 }, /has 2 columns/],
    ["a contradiction", strings("A", "B"), { fraud_class: "A", fraud_column: 1 }, /fraud_class is column 0/],
  ])("is asked for: %s", async (_name, labels, words, reason) => {
    await expect(scoresOf(classes(2, labels), named(2), ROWS, words)).rejects.toThrow(reason);
  });

  it("is a column of a tensor: the second of two, or the one stated", async () => {
    expect(await scoresOf(classes(2), named(2), ROWS)).toEqual(SECOND);
    expect(await scoresOf(classes(2), named(2), ROWS, { fraud_column: 0 })).toEqual(FIRST);
    const three = [[0.1, 0.2, 0.7]];
    expect(await scoresOf(classes(3), named(3), three, { fraud_column: 2 })).toEqual([Math.fround(0.7)]);
    await expect(scoresOf(classes(3), named(3), three)).rejects.toThrow(/3 columns: .*fraud_column/);
    await expect(scoresOf(classes(2), named(2), ROWS, { fraud_class: "Fraud" })).rejects.toThrow(/fraud_column/);
  });
});

describe("outputs", () => {
  it("of labels only are refused, saying how to export probabilities", () => {
    const onnx = file(
      [value("x", FLOAT, ["N", 2])],
      [node("ArgMax", ["x"], "label", [attribute.int("axis", 1), attribute.int("keepdims", 0)])],
      [value("label", INT64, ["N"])],
    );
    const refused = (words: GraphWords): void => void normaliseOnnx(onnx, words, columnsOf(named(2)));
    expect(() => refused({})).toThrow(/gives labels only \("label"\).*predict_proba.*score_map/);
    expect(() => refused({ output: "label" })).toThrow(/labels; it has "label".*predict_proba/);
  });

  it("that are not probabilities are mapped, linearly or by a sigmoid", async () => {
    const onnx = file([value("x", FLOAT, ["N", 1])], [node("Identity", ["x"], "y")], [value("y", FLOAT, ["N", 1])]);
    const rows = [[-1], [-0.3], [0], [0.2], [9]];
    expect(await scoresOf(onnx, named(1), rows, { score_map: { kind: "linear", zero: 0.2, one: -0.3 } })).toEqual([
      1,
      1,
      Math.fround(0.4),
      0,
      0,
    ]);
    const [low, , middle] = await scoresOf(onnx, named(1), rows, { score_map: { kind: "sigmoid", slope: -2 } });
    expect(low).toBeCloseTo(1 / (1 + Math.exp(-2)), 6);
    expect(middle).toBe(0.5);
  });

  it("of float64 behind a ZipMap are accepted, although onnxruntime supports only float32 there", async () => {
    const type = (no: number, inner: Message): Message => field(no, inner);
    const double = message((writer) => writer.tag(1, WireType.Varint).int32(DOUBLE));
    const map = message((writer) =>
      writer
        .tag(1, WireType.Varint)
        .int32(INT64)
        .raw(field(2, type(1, double))),
    );
    const maps = field(4, field(1, type(5, map)));
    const onnx = file(
      [value("x", DOUBLE, ["N", 2])],
      [
        node("Identity", ["x"], "y"),
        node("ZipMap", ["y"], "mapped", [attribute.ints("classlabels_int64s", [0, 1])], "ai.onnx.ml"),
      ],
      [message((writer) => writer.raw(field(1, "mapped")).raw(field(2, maps)))],
    );
    expect(await scoresOf(onnx, named(2), ROWS)).toEqual(SECOND);
  });

  it("beyond 0 and 1 by rounding are 0 and 1, as sums of many trees are", async () => {
    const onnx = file([value("x", FLOAT, ["N", 1])], [node("Identity", ["x"], "y")], [value("y", FLOAT, ["N", 1])]);
    const beyond = [1.0000001192092896, -1e-7, 1.0001, -0.0001].map(Math.fround);
    expect(
      await scoresOf(
        onnx,
        named(1),
        beyond.map((score) => [score]),
      ),
    ).toEqual([1, 0, beyond[2], beyond[3]]);
  });

  it("of float64, and of one value per row, are accepted", async () => {
    const onnx = file(
      [value("x", DOUBLE, ["N", 1])],
      [constant("flat", tensor.integers([1], [-1])), node("Reshape", ["x", "flat"], "y")],
      [value("y", DOUBLE, ["N"])],
    );
    expect(await scoresOf(onnx, named(1), [[0.25], [0.75]])).toEqual([0.25, 0.75]);
  });
});

describe("inputs", () => {
  /** The sum of inputs of several types, each cast to float32 [N, 1]. */
  const mixed = (dims: Readonly<Record<string, readonly Dim[]>> = {}): Message => {
    const types = { whole: INT64, small: INT32, wide: DOUBLE, flag: BOOL };
    const names = Object.entries(types);
    return file(
      names.map(([name, type]) => value(name, type, dims[name] ?? ["N", 1])),
      [
        constant("column", tensor.integers([2], [-1, 1])),
        ...names.flatMap(([name]) => [
          node("Cast", [name], `${name}32`, [attribute.int("to", FLOAT)]),
          node("Reshape", [`${name}32`, "column"], `${name}1`),
        ]),
        node(
          "Sum",
          names.map(([name]) => `${name}1`),
          "y",
        ),
      ],
      [value("y", FLOAT, ["N", 1])],
    );
  };
  const features = [number("wide"), number("whole"), { ...number("flag"), type: "boolean" as const }, number("small")];

  it("of other types take the feature of their name, whatever the order", async () => {
    expect(await scoresOf(mixed(), features, [[0.5, 3, 1, -2]])).toEqual([2.5]);
    // Cut off towards zero, and held within the type's range.
    expect(await scoresOf(mixed(), features, [[0, 1.75, 7, 3.75]])).toEqual([5]);
    expect(await scoresOf(mixed(), features, [[0, 0, 0, 1e12]])).toEqual([2_147_483_520]);
  });

  it("of one dimension are accepted", async () => {
    expect(
      await scoresOf(mixed({ whole: ["N"], flag: ["N"] }), features, [
        [0.5, 3, 1, -2],
        [1, 1, 0, 1],
      ]),
    ).toEqual([2.5, 3]);
  });

  it("of several columns are told which features they hold", async () => {
    const onnx = file(
      [value("a", FLOAT, ["N", 2]), value("b", FLOAT, ["N", 1]), value("unused", STRING, ["N", 1])],
      [node("Concat", ["a", "b"], "all", [attribute.int("axis", 1)]), node("Softmax", ["all"], "y")],
      [value("y", FLOAT, ["N", 3])],
    );
    const words = {
      inputs: [
        { name: "a", features: ["third", "first"] },
        { name: "b", features: ["second"] },
      ],
    };
    const three = ["first", "second", "third"].map((name) => number(name));
    const weights = [3, 1, 2].map(Math.exp);
    const [score] = await scoresOf(onnx, three, [[1, 2, 3]], { ...words, fraud_column: 0 });
    expect(score).toBeCloseTo(weights[0] / weights.reduce((a, b) => a + b), 6);
    const refused = (given: GraphWords): void =>
      void normaliseOnnx(onnx, { fraud_column: 0, ...given }, columnsOf(three));
    expect(() => refused({})).toThrow(/no feature has the name of "a", "b"; say it in the manifest: "inputs"/);
    expect(() => refused({ inputs: [words.inputs[0]] })).toThrow(/inputs lack "b"/);
    expect(() => refused({ inputs: [...words.inputs, { name: "c", features: ["first"] }] })).toThrow(/no input "c"/);
    expect(() => refused({ inputs: [words.inputs[0], { name: "b", features: ["fourth"] }] })).toThrow(
      /"second" feed no input|"fourth", which is not one/,
    );
    expect(() => refused({ inputs: [{ name: "a", features: ["first"] }, words.inputs[1]] })).toThrow(
      /"third" feed no input/,
    );
  });

  it("are refused if a feature can't have their type", () => {
    const refused = (changed: UploadedFeature[]): void => void normaliseOnnx(mixed(), {}, columnsOf(changed));
    const but = (name: string, changed: Partial<UploadedFeature>): UploadedFeature[] =>
      features.map((each) => (each.name === name ? { ...each, ...changed } : each));
    expect(() => refused(but("whole", { default: null }))).toThrow(/int64.*can't be missing: give its feature "whole"/);
    const source = { kind: "ratio" as const, of: ["amount", "attributes.limit"] };
    expect(() => refused(but("whole", { source, default: null }))).toThrow(/int64.*can't be missing/);
    expect(() => refused(but("flag", { default: null }))).toThrow(/bool.*can't be missing/);
    expect(() => refused(but("wide", { default: null }))).not.toThrow();
    expect(() => refused(but("wide", { type: "category", categories: ["a"], default: null }))).toThrow(
      /double.*"wide" is a category; export the model with its encoder/,
    );
    const texts = file(
      [value("x", STRING, ["N", 1])],
      [node("Cast", ["x"], "y", [attribute.int("to", 1)])],
      [value("y", FLOAT, ["N", 1])],
    );
    expect(() => normaliseOnnx(texts, {}, columnsOf(named(1)))).toThrow(/texts. Give its feature "f0" the type/);
    const deep = file([value("x", FLOAT, ["N", 1, 2])], [node("Identity", ["x"], "y")], [value("y", FLOAT, ["N"])]);
    expect(() => normaliseOnnx(deep, {}, columnsOf(named(2)))).toThrow(/float \[N, 1, 2\]; export it with the shape/);
  });
});

describe("texts", () => {
  /** 0.25 for "web", 0.75 for "pos", 0.5 for an empty text, 0 for any other. */
  const encoder = file(
    [value("channel", STRING, ["N", 1])],
    [
      node(
        "LabelEncoder",
        ["channel"],
        "y",
        [attribute.strings("keys_strings", ["web", "pos", ""]), attribute.floats("values_floats", [0.25, 0.75, 0.5])],
        "ai.onnx.ml",
      ),
    ],
    [value("y", FLOAT, ["N", 1])],
  );
  const rows = [
    [1, 0],
    [0, 1],
    [0, 0],
    [Number.NaN, Number.NaN],
  ];
  const channel: UploadedFeature = { name: "channel", type: "category", categories: ["web", "pos"] };

  it("are what the attribute is, unseen or absent", async () => {
    // onnxruntime's default for an unseen text is -0.
    const withEmpty = [...rows.map((row) => [...row, Number.isNaN(row[0]) ? Number.NaN : 0]), [0, 0, 1]];
    expect((await scoresOf(encoder, [channel], withEmpty)).map(Math.abs)).toEqual([0.25, 0.75, 0, 0.5, 0.5]);
  });

  it("are the declared ones if the attribute is unknown or absent", async () => {
    const declared = { ...channel, default: "web", unknown: "pos" };
    expect(await scoresOf(encoder, [declared], rows)).toEqual([0.25, 0.75, 0.75, 0.25]);
  });

  it("become features of their own, as the stream computes them", () => {
    const [{ features }] = columnsOf([{ ...channel, source: { kind: "attribute", attribute: "how" } }]);
    expect(features).toEqual([
      {
        name: "channel=web",
        type: "boolean",
        source: { kind: "attribute", attribute: "how", equals: "web" },
        default: null,
      },
      {
        name: "channel=pos",
        type: "boolean",
        source: { kind: "attribute", attribute: "how", equals: "pos" },
        default: null,
      },
      // What an absent one stands for, since an attribute may come as that, too.
      {
        name: "channel=",
        type: "boolean",
        source: { kind: "attribute", attribute: "how", equals: "" },
        default: null,
      },
    ]);
    expect(() => columnsOf([channel, number("channel=web")])).toThrow(/two features have the name "channel=web"/);
    expect(() => columnsOf([{ name: "a", type: "category" }])).toThrow(/no categories, neither in the manifest/);
    expect(() => columnsOf([{ name: "a", type: "category", categories: ["x"], default: 1 }])).toThrow(/a text or null/);
    expect(() => columnsOf([number("a", { default: "x" })])).toThrow(/a number or null/);
    expect(() => columnsOf([number("a", { categories: ["x"] })])).toThrow(/its type must be "category"/);
    const many = Array.from({ length: 2_001 }, (_, i) => `c${i}`);
    expect(() => columnsOf([{ name: "a", type: "category" }], () => many)).toThrow(/come to 2002 values/);
  });

  it("that the model's encoder knows but that are not category names are reported", async () => {
    const columns = columnsOf([{ ...channel, categories: ["web"], default: "" }]);
    const samples = {
      columns: ["channel"],
      rows: Array.from({ length: 100 }, () => ["web"]),
      scores: Array.from({ length: 100 }, () => 0.25),
    };
    const { warnings } = await checkModel({ onnx: encoder, columns, samples: samplesOf(samples, columns) });
    expect(warnings).toEqual([expect.stringMatching(/know 1 texts that are none of the categories.*"pos"/)]);
  });
});

describe("a fixed batch", () => {
  /** The mean of two features, for batches of so many rows; `baked`: within the graph, too. */
  const mean = (rows: number, baked: boolean): Message =>
    file(
      [value("x", FLOAT, [rows, 2])],
      [
        constant("shape", tensor.integers([2], baked ? [rows, 2] : [-1, 2])),
        node("Reshape", ["x", "shape"], "same"),
        node("ReduceMean", ["same"], "mean", [attribute.ints("axes", [1]), attribute.int("keepdims", 1)]),
        node("Clip", ["mean", "zero", "one"], "y"),
      ].toSpliced(0, 0, constant("zero", tensor.floats([], [0])), constant("one", tensor.floats([], [1]))),
      [value("y", FLOAT, [rows, 1])],
    );
  const check = (onnx: Message): ReturnType<typeof checkModel> => {
    const columns = columnsOf(named(2));
    const rows = Array.from({ length: 101 }, (_, row) => [row / 128, 0.25]);
    const scores = rows.map(([a, b]) => (a + b) / 2);
    return checkModel({ onnx, columns, samples: samplesOf({ columns: ["f0", "f1"], rows, scores }, columns) });
  };

  it.each([1, 4])("of %i is removed if nothing in the graph needs it", async (rows) => {
    const checked = await check(mean(rows, false));
    expect(checked.batch).toBeUndefined();
    expect(checked.greatestDifference).toBeLessThan(1e-6);
  });

  it.each([1, 4])("of %i is kept, and filled up, if the graph needs it", async (rows) => {
    const checked = await check(mean(rows, true));
    expect(checked).toMatchObject({ batch: rows, differingRows: 0 });
    const session = await ModelSession.load(checked.onnx, { ...checked, features: 2 });
    const scores = await session.run(
      Float32Array.from({ length: 22 }, (_, i) => i / 32),
      11,
    );
    expect([...scores]).toEqual(Array.from({ length: 11 }, (_, row) => (4 * row + 1) / 64));
    await session.release();
  });
});
