import { readGraph } from "../onnx/read-graph.js";
import type { ModelColumn } from "./columns.js";
import { listed } from "./graph-parts.js";

/** Attributes that hold the texts which an encoder knows. */
const ENCODERS = new Set(["OneHotEncoder", "LabelEncoder", "CategoryMapper"]);
const KNOWN_TEXTS = ["cats_strings", "keys_strings"];

/** What is said of texts that the model's encoders know, and none of its categories: for people. */
export function unnamedTexts(onnx: Uint8Array, columns: readonly ModelColumn[]): string[] {
  const named = new Set(
    columns.flatMap(({ category }) =>
      category === null ? [] : [...category.values, category.absent, category.unknown],
    ),
  );
  if (named.size === 0) return [];
  const known = readGraph(onnx)
    .nodes.filter(({ opType }) => ENCODERS.has(opType))
    .flatMap((node) => KNOWN_TEXTS.flatMap((name) => node.texts(name)));
  const unnamed = [...new Set(known)].filter((text) => !named.has(text));
  if (unnamed.length === 0) return [];
  return [
    `the model's encoders know ${unnamed.length} texts that are none of the categories, and are taken as unknown: ` +
      `${listed(unnamed)}; name them in the manifest (categories) if payments have them`,
  ];
}
