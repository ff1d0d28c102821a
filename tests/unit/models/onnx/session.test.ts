import { expect, it } from "vitest";
import { attribute, model, node } from "../../../../models/onnx/graph.js";
import { ModelSession } from "../../../../models/onnx/session.js";

const IO = { input: "x", output: "y", features: 2 };

/** A graph of one node from x [N, 2] to y. */
function graph(opType: string, attributes: Uint8Array[] = []): Uint8Array {
  return model({
    name: "test",
    input: { name: "x", features: 2 },
    output: "y",
    nodes: [node(opType, ["x"], "y", attributes)],
    constants: [],
    metadata: {},
  });
}

it("takes an output of one column, or the second of two", async () => {
  const greater = await ModelSession.load(graph("ReduceMax", [attribute.ints("axes", [1])]), IO);
  expect([...(await greater.run(Float32Array.of(1, 2, 4, 3), 2))]).toEqual([2, 4]);
  await greater.release();
  const both = await ModelSession.load(graph("Identity"), IO);
  expect([...(await both.run(Float32Array.of(1, 2, 4, 3), 2))]).toEqual([2, 3]);
  expect([...(await both.run(Float32Array.of(1, 2, 4, 3), 1))]).toEqual([2]);
  await both.release();
});

it("refuses an output that isn't one score per row", async () => {
  const total = await ModelSession.load(graph("ReduceSum"), IO);
  await expect(total.run(Float32Array.of(1, 2, 4, 3), 2)).rejects.toMatchObject({ code: "model_shape" });
  await total.release();
});

it("refuses a model that it can't call, with a code", async () => {
  await expect(ModelSession.load(Uint8Array.of(1, 2, 3), IO)).rejects.toMatchObject({ code: "model_invalid" });
  await expect(ModelSession.load(new Uint8Array(), IO)).rejects.toMatchObject({ code: "model_invalid" });
  const good = graph("ReduceMax", [attribute.ints("axes", [1])]);
  await expect(ModelSession.load(good, { ...IO, input: "z" })).rejects.toMatchObject({ code: "model_shape" });
  await expect(ModelSession.load(good, { ...IO, output: "z" })).rejects.toMatchObject({ code: "model_shape" });
  await expect(ModelSession.load(good, { ...IO, features: 3 })).rejects.toMatchObject({ code: "model_shape" });
  const session = await ModelSession.load(good, IO);
  await expect(session.run(Float32Array.of(1), 1)).rejects.toMatchObject({ code: "model_shape" });
  expect(await session.run(new Float32Array(), 0)).toHaveLength(0);
  await session.release();
});
