import { WireType } from "@bufbuild/protobuf/wire";
import { describe, expect, it } from "vitest";
import { attribute, doubles, model, node, type Message } from "../../../../models/onnx/graph.js";
import { ModelSession } from "../../../../models/onnx/session.js";
import { inspectOnnx } from "../../../../models/uploads/inspect-onnx.js";
import { normaliseOnnx } from "../../../../models/uploads/normalise-onnx.js";
import { columnOfFeature } from "../../../../models/uploads/columns.js";
import { uploadedColumns } from "../../../../models/uploads/upload.js";
import { field, fixture, fixtures, graphOf, mean, message } from "../../../support/uploads.js";

const refused = (work: () => unknown): string => {
  try {
    work();
  } catch (error) {
    return (error as { code?: string }).code ?? String(error);
  }
  return "taken";
};
const inModel = (graphField: Message): Message => message((writer) => writer.raw(field(7, graphField)));
const tensor = (write: (writer: Parameters<Parameters<typeof message>[0]>[0]) => void): Message =>
  message((writer) => write(writer.raw(field(8, "w"))));

describe("inspectOnnx", () => {
  it("accepts what exporters and our own writer produce", () => {
    for (const { name, onnx } of fixtures()) expect([name, refused(() => inspectOnnx(onnx))]).toEqual([name, "taken"]);
    expect(refused(() => inspectOnnx(mean()))).toBe("taken");
  });

  it("finds external data wherever a tensor can be", () => {
    const byEntry = tensor((writer) =>
      writer.raw(
        field(
          13,
          message((entry) => entry.raw(field(1, "location")).raw(field(2, "/etc/passwd"))),
        ),
      ),
    );
    const byLocation = tensor((writer) => writer.tag(14, WireType.Varint).int32(1));
    for (const external of [byEntry, byLocation]) {
      const inAttribute = field(1, field(5, field(5, external)));
      const inSubgraph = field(1, field(5, field(6, field(5, external))));
      for (const graph of [field(5, external), field(15, field(1, external)), inAttribute, inSubgraph])
        expect(refused(() => inspectOnnx(inModel(graph)))).toBe("onnx_external_data");
      expect(refused(() => inspectOnnx(field(25, field(7, field(5, field(10, external))))))).toBe("onnx_external_data");
    }
  });

  it("refuses tensors that claim more values than there are, dimensions packed or not", () => {
    const claims = (...dims: number[]): Message =>
      field(
        5,
        tensor((writer) => dims.forEach((dim) => writer.tag(1, WireType.Varint).int64(dim))),
      );
    const packed = field(
      5,
      tensor((writer) =>
        writer
          .tag(1, WireType.LengthDelimited)
          .fork()
          .int64(1 << 30)
          .int64(4)
          .join(),
      ),
    );
    for (const graph of [claims(1 << 28), claims(1 << 20, 1 << 20, 1 << 20), packed])
      expect(refused(() => inspectOnnx(inModel(graph)))).toBe("onnx_size");
    expect(refused(() => inspectOnnx(inModel(claims(-1))))).toBe("onnx_malformed");
  });

  it("refuses a file that isn't protobuf, is cut off, or claims a gigabyte", () => {
    const { onnx } = fixture("xgboost");
    const claim = message((writer) => writer.tag(7, WireType.LengthDelimited).uint32(2 ** 30));
    const garbage = Buffer.from("PK\u0003\u0004 this is not a model \xff\xff\xff");
    for (const bytes of [garbage, claim, onnx.subarray(0, onnx.length - 10), onnx.subarray(0, 5000)])
      expect(refused(() => inspectOnnx(bytes))).toBe("onnx_malformed");
  });

  it("refuses random operators, training information and bottomless graphs", () => {
    expect(refused(() => inspectOnnx(graphOf([node("RandomUniformLike", ["x"], "y")])))).toBe("onnx_random");
    expect(refused(() => inspectOnnx(field(20, "")))).toBe("onnx_training");
    let graph: Message = field(2, "leaf");
    for (let i = 0; i < 20; i++) graph = field(1, field(5, field(6, graph)));
    expect(refused(() => inspectOnnx(inModel(graph)))).toBe("onnx_too_deep");
  });
});

const TWO = ["a", "b"].map((name) =>
  columnOfFeature({ name, type: "number", source: { kind: "attribute", attribute: name }, default: 0 }),
);

describe("normaliseOnnx", () => {
  const run = async (
    onnx: Uint8Array,
    io: { input: string; output: string },
    features: number,
    rows: number[][],
  ): Promise<number[]> => {
    const session = await ModelSession.load(onnx, { ...io, features });
    const scores = [...(await session.run(Float32Array.from(rows.flat()), rows.length))];
    await session.release();
    return scores;
  };

  it("cuts ZipMap out, finds input and output on its own, and keeps the scores", async () => {
    for (const { name, onnx, manifest, samples } of fixtures()) {
      const normalised = normaliseOnnx(onnx, {}, uploadedColumns(manifest));
      expect([name, normalised.input]).toEqual([name, manifest.input]);
      expect(Buffer.from(normalised.onnx).includes("ZipMap")).toBe(false);
      // A label, where the exporter gave one, isn't computed any more.
      expect(Buffer.from(normalised.onnx).includes("ArrayFeatureExtractor")).toBe(false);
      const rows = samples.rows.slice(0, 5).map((row) => row.map((value) => value ?? NaN));
      const scores = await run(normalised.onnx, normalised, manifest.features.length, rows);
      scores.forEach((score, row) => expect(score).toBeCloseTo(samples.scores[row], 6));
      expect(normaliseOnnx(onnx, manifest, uploadedColumns(manifest))).toEqual(normalised);
    }
  });

  it("keeps what nested graphs read", async () => {
    const value = (name: string): Message =>
      message((writer) =>
        writer.raw(field(1, name)).raw(
          field(
            2,
            field(
              1,
              message((type) => type.tag(1, WireType.Varint).int32(1)),
            ),
          ),
        ),
      );
    const branch = (name: string, from: string, nodes: Message[] = []): Message => {
      const graph = message((writer) => {
        for (const each of nodes) writer.raw(field(1, each));
        writer.raw(field(2, name)).raw(field(12, value(from)));
      });
      return message((writer) => writer.raw(field(1, name)).raw(field(6, graph)).tag(20, WireType.Varint).int32(5));
    };
    const nodes = [
      node("ReduceMean", ["x"], "mean", [attribute.ints("axes", [1])]),
      node("Neg", ["x"], "unused"),
      node("Cast", ["one"], "yes", [attribute.int("to", 9)]),
      node("If", ["yes"], "y", [
        branch("then_branch", "half", [node("Mul", ["mean", "mean"], "half")]),
        branch("else_branch", "other", [node("Neg", ["mean"], "other")]),
      ]),
    ];
    const normalised = normaliseOnnx(graphOf(nodes, [doubles("one", [], [1])]), {}, TWO);
    expect(Buffer.from(normalised.onnx).includes("unused")).toBe(false);
    expect(await run(normalised.onnx, normalised, 2, [[0.2, 0.4]])).toEqual([
      Math.fround(Math.fround(0.3) * Math.fround(0.3)),
    ]);
  });

  it("refuses other inputs and outputs, and names those that exist", () => {
    const { onnx, manifest } = fixture("lightgbm-zipmap");
    const columns = uploadedColumns(manifest);
    expect(refused(() => normaliseOnnx(onnx, { input: "features" }, columns))).toBe("onnx_inputs");
    expect(() => normaliseOnnx(onnx, { output: "score" }, columns)).toThrow('"label", "probabilities"');
    expect(refused(() => normaliseOnnx(onnx, { output: "label" }, columns))).toBe("onnx_outputs");
    expect(refused(() => normaliseOnnx(field(2, "nothing"), {}, TWO))).toBe("onnx_malformed");
    const twice = model({
      name: "t",
      input: { name: "x", features: 2 },
      output: "x2",
      nodes: [],
      constants: [],
      metadata: {},
    });
    const second = message((writer) => writer.raw(twice).raw(field(7, field(2, "another graph"))));
    expect(refused(() => normaliseOnnx(second, {}, TWO))).toBe("onnx_malformed");
  });

  it("refuses more than two classes unless it is told which one is fraud", () => {
    const zipMap = message((writer) =>
      writer.raw(node("ZipMap", ["x"], "y", [attribute.ints("classlabels_int64s", [0, 1, 2])], "ai.onnx.ml")),
    );
    expect(() => normaliseOnnx(graphOf([zipMap]), {}, TWO)).toThrow(
      /classes are "0", "1", "2": let the manifest say which is fraud/,
    );
  });
});
