import { FraudstreamError } from "../../schemas/errors.js";
import { fieldsOf, type Field } from "../onnx/fields.js";

/** What a message of onnx.proto may hold that has to be looked into, by field number. */
type Kind = "model" | "graph" | "node" | "attribute" | "tensor" | "sparse" | "function";
const PARTS: Readonly<Record<Kind, Readonly<Record<number, Kind>>>> = {
  model: { 7: "graph", 25: "function" },
  graph: { 1: "node", 5: "tensor", 15: "sparse" },
  node: { 5: "attribute" },
  attribute: { 5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse" },
  tensor: {},
  sparse: { 1: "tensor", 2: "tensor" },
  function: { 7: "node", 11: "attribute" },
};

const MODEL_TRAINING_INFO = 20;
const NODE_OP_TYPE = 4;
const TENSOR = { dims: 1, externalData: 13, dataLocation: 14 } as const;
/** Protobuf readers stop at 100; no model that scores transactions nests graphs this deep. */
const DEEPEST = 24;
/** Scores must be repeatable. */
const RANDOM = new Set([
  "RandomNormal",
  "RandomNormalLike",
  "RandomUniform",
  "RandomUniformLike",
  "Multinomial",
  "Bernoulli",
]);

/**
 * Looks through a whole ONNX file before onnxruntime sees it.
 *
 * @throws FraudstreamError `onnx_malformed`; `onnx_external_data` where a tensor's values are in another file;
 *   `onnx_size` where one claims more values than the file holds; `onnx_random`, `onnx_training`, `onnx_too_deep`
 */
export function inspectOnnx(onnx: Uint8Array): void {
  inspect(onnx, "model", 0);
}

function inspect(message: Uint8Array, kind: Kind, depth: number): void {
  if (depth > DEEPEST)
    throw new FraudstreamError("onnx_too_deep", `the model's graphs are nested more than ${DEEPEST} messages deep`);
  if (kind === "tensor") {
    inspectTensor(message);
    return;
  }
  for (const field of fieldsOf(message)) {
    if (kind === "model" && field.holds(MODEL_TRAINING_INFO))
      throw new FraudstreamError("onnx_training", "the model has training information; export it for inference");
    if (kind === "node" && field.holds(NODE_OP_TYPE) && RANDOM.has(field.text))
      throw new FraudstreamError("onnx_random", `the model has a ${field.text} operator: its scores can't be repeated`);
    const part = field.holds(field.no) ? PARTS[kind][field.no] : undefined;
    if (part !== undefined) inspect(field.bytes, part, depth + 1);
  }
}

function inspectTensor(message: Uint8Array): void {
  let values = 1;
  for (const field of fieldsOf(message)) {
    if (isExternal(field))
      throw new FraudstreamError(
        "onnx_external_data",
        "the model keeps tensors in another file; export it as a single file",
      );
    if (field.no !== TENSOR.dims) continue;
    for (const size of field.integers) {
      if (size < 0) throw new FraudstreamError("onnx_malformed", `a tensor of the model has a dimension of ${size}`);
      values *= size;
    }
  }
  // The most compact encoding puts two 4-bit values into a byte.
  if (values > 2 * message.length)
    throw new FraudstreamError("onnx_size", `a tensor of the model claims ${values} values in ${message.length} bytes`);
}

function isExternal(field: Field): boolean {
  return (
    field.holds(TENSOR.externalData) ||
    (field.no === TENSOR.dataLocation && field.integers.some((location) => location !== 0))
  );
}
