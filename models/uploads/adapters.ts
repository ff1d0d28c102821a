import { FraudstreamError } from "../../schemas/errors.js";
import { attribute, node, tensor, type Message } from "../onnx/graph.js";
import type { BoundColumn, BoundInput } from "./bind-inputs.js";
import type { CategoryTexts } from "./columns.js";
import type { ChosenOutput } from "./fraud-class.js";
import type { Element } from "./graph-parts.js";
import type { ScoreMap } from "./score-map.js";

/** TensorProto's numbers. */
const NUMBERS: Readonly<Record<Element, number>> = {
  float: 1,
  uint8: 2,
  int8: 3,
  uint16: 4,
  int16: 5,
  int32: 6,
  int64: 7,
  string: 8,
  bool: 9,
  float16: 10,
  double: 11,
  uint32: 12,
  uint64: 13,
  bfloat16: 16,
};
/** What is beyond can't be cast, and would become anything; as far as float32 can say it. */
const RANGES: Partial<Record<Element, readonly [number, number]>> = {
  uint8: [0, 255],
  int8: [-128, 127],
  uint16: [0, 65_535],
  int16: [-32_768, 32_767],
  int32: [-2_147_483_648, 2_147_483_520],
  uint32: [0, 4_294_967_040],
  int64: [-(2 ** 62), 2 ** 62],
  uint64: [0, 2 ** 63],
  float16: [-65_504, 65_504],
};
const ML = "ai.onnx.ml";
/** Gather, Max and Min of several, IsNaN and Where are as they are used here from these versions on. */
const LEAST_OPSET = 9;

/** The versions of operators that the model is written for, and what is added to it where it names none. */
export interface Opsets {
  main: number;
  ml: number;
}

export const OWN_OPSETS: Opsets = { main: 17, ml: 3 };

/** Makes nodes whose names are nowhere else in the graph. */
export class AdapterNodes {
  readonly nodes: Message[] = [];
  readonly #opsets: Opsets;
  readonly #taken: ReadonlySet<string>;
  #count = 0;

  constructor(opsets: Opsets, taken: ReadonlySet<string>) {
    if (opsets.main < LEAST_OPSET)
      throw new FraudstreamError(
        "onnx_inputs",
        `the model is written for opset ${opsets.main}; export it for ${LEAST_OPSET} or later (target_opset)`,
      );
    this.#opsets = opsets;
    this.#taken = taken;
  }

  name(wanted: string): string {
    let name = wanted;
    while (this.#taken.has(name)) name = `${wanted}_${++this.#count}`;
    return name;
  }

  /** Makes an input of the graph from the matrix of features. */
  feed(features: string, width: number, { name, element, rank, columns }: BoundInput): void {
    if (element === "string") this.#feedTexts(features, name, rank, columns);
    else {
      const places = columns.map(({ at }) => at);
      const all = places.length === width && places.every((place, i) => place === i);
      const taken = all
        ? features
        : this.#add("Gather", [features, this.#integers(places)], [attribute.int("axis", 1)]);
      this.#shaped(this.#bounded(taken, element), element, rank, name);
    }
  }

  /** Makes the score of an output. @returns its name */
  score({ name, element, column, rank }: ChosenOutput, map: ScoreMap | undefined): string {
    let value = element === "float" ? name : this.#cast(name, "float");
    if (column !== null && rank !== 1)
      value = this.#add("Gather", [value, this.#integers([column])], [attribute.int("axis", 1)]);
    if (map?.kind === "linear") {
      const moved = this.#add("Sub", [value, this.#floats([map.zero])]);
      const scaled = this.#add("Mul", [moved, this.#floats([1 / (map.one - map.zero)])]);
      value = this.#add("Min", [this.#add("Max", [scaled, this.#floats([0])]), this.#floats([1])]);
    } else if (map?.kind === "sigmoid") {
      const moved = this.#add("Sub", [value, this.#floats([map.centre ?? 0])]);
      value = this.#add("Sigmoid", [this.#add("Mul", [moved, this.#floats([map.slope ?? 1])])]);
    }
    const score = this.name("fraud_score");
    this.nodes.push(node("Identity", [value], score));
    return score;
  }

  #feedTexts(features: string, name: string, rank: 1 | 2, columns: readonly BoundColumn[]): void {
    const texts = columns.map(({ at, column: { category, features: each } }) => {
      if (category === null) throw new Error("only categories are texts");
      const places = each.map((_, i) => at + i);
      return this.#text(this.#add("Gather", [features, this.#integers(places)], [attribute.int("axis", 1)]), category);
    });
    const together = texts.length === 1 ? texts[0] : this.#add("Concat", texts, [attribute.int("axis", 1)]);
    this.#shaped(together, "string", rank, name);
  }

  /**
   * The text of a row: its features say which it is (1) and which it isn't (0), or are all missing. The sum of each
   * one's number is that of the text.
   */
  #text(flags: string, { values, absent, unknown }: CategoryTexts): string {
    const numbers = values.map((_, i) => i + 1);
    const none = values.length + 1;
    const sum = this.#add("MatMul", [flags, this.#floats(numbers, [values.length, 1])]);
    const whole = this.#add("Where", [this.#add("IsNaN", [sum]), this.#floats([none]), sum]);
    const code = this.#cast(this.#bounded(whole, "int64"), "int64");
    const texts = [unknown, ...values, absent];
    const keys =
      this.#opsets.ml < 2
        ? [attribute.strings("classes_strings", texts)]
        : [attribute.ints("keys_int64s", texts.keys()), attribute.strings("values_strings", texts)];
    return this.#add("LabelEncoder", [code], [...keys, attribute.string("default_string", unknown)], ML);
  }

  #bounded(value: string, element: Element): string {
    const range = RANGES[element];
    if (range === undefined) return value;
    return this.#add("Min", [this.#add("Max", [value, this.#floats([range[0]])]), this.#floats([range[1]])]);
  }

  /** Casts, brings into the rank, and gives it its name. */
  #shaped(value: string, element: Element, rank: 1 | 2, name: string): void {
    const typed = element === "string" || element === "float" ? value : this.#cast(value, element);
    if (rank === 2) this.nodes.push(node("Identity", [typed], name));
    else this.nodes.push(node("Reshape", [typed, this.#integers([-1])], name));
  }

  #cast(value: string, to: Element): string {
    return this.#add("Cast", [value], [attribute.int("to", NUMBERS[to])]);
  }

  /** Constants as nodes: initializers of old files have to be inputs, too. */
  #integers(values: readonly number[]): string {
    return this.#add("Constant", [], [attribute.tensor("value", tensor.integers([values.length], values))]);
  }

  #floats(values: readonly number[], dims: readonly number[] = [values.length]): string {
    return this.#add("Constant", [], [attribute.tensor("value", tensor.floats(dims, values))]);
  }

  #add(opType: string, inputs: readonly string[], attributes: readonly Message[] = [], domain = ""): string {
    const output = this.name(`adapter_${++this.#count}`);
    this.nodes.push(node(opType, inputs, output, attributes, domain));
    return output;
  }
}
