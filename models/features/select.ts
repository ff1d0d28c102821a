import { RequestError } from "../../schemas/errors.js";
import type { Dataset } from "../datasets/dataset.js";
import { HISTORY_NAMES, defaultHistory, historyFeature } from "./history-features.js";
import type { FeatureSpec } from "./plan.js";

type Offering = Pick<Dataset, "attributes"> & Partial<Pick<Dataset, "hasCards" | "hasMerchants">>;

/**
 * The features that a data set offers: amount, hour, weekend, night, its attributes, and, where its cards or merchants
 * are real, what windows say of them. A number or boolean is one feature, missing (NaN) where it is absent; a text is
 * one feature `name=value` for each of its values, 0 where it is absent.
 */
export function selectFeatures(dataset: Offering): FeatureSpec[] {
  const specs: FeatureSpec[] = [
    { name: "amount", type: "number", source: { kind: "amount" }, default: null },
    { name: "hour", type: "number", source: { kind: "hour" }, default: null },
    { name: "weekend", type: "boolean", source: { kind: "weekend" }, default: null },
    { name: "night", type: "boolean", source: { kind: "night" }, default: null },
  ];
  const names = new Set(specs.map(({ name }) => name));
  const add = (wanted: string, spec: Omit<FeatureSpec, "name">): void => {
    // An attribute may be called "hour", or like another one's indicator.
    let name = wanted;
    while (names.has(name)) name = `attributes.${name}`;
    names.add(name);
    specs.push({ name, ...spec });
  };
  for (const [attribute, column] of dataset.attributes) {
    if (column.type !== "text")
      add(attribute, { type: column.type, source: { kind: "attribute", attribute }, default: null });
    else
      for (const value of column.categories)
        add(`${attribute}=${value}`, {
          type: "boolean",
          source: { kind: "attribute", attribute, equals: value },
          default: 0,
        });
  }
  const { hasCards = false, hasMerchants = false } = dataset;
  for (const { name, ...spec } of defaultHistory({ hasCards, hasMerchants })) add(name, spec);
  return specs;
}

/**
 * Features by name: what the data set offers, a text attribute's name for all of its values, or any windowed feature.
 *
 * @throws RequestError `unknown_feature`
 */
export function featuresNamed(dataset: Offering, names: readonly string[]): FeatureSpec[] {
  const offered = selectFeatures(dataset);
  const chosen = new Map<string, FeatureSpec>();
  for (const name of names) {
    const found = offered.filter(
      (spec) =>
        spec.name === name ||
        (spec.source.kind === "attribute" && spec.source.equals !== undefined && spec.source.attribute === name),
    );
    const windowed = found.length > 0 ? null : historyFeature(name);
    if (windowed !== null) found.push(windowed);
    if (found.length === 0)
      throw new RequestError(
        "unknown_feature",
        `there is no feature ${JSON.stringify(name)}; the data set offers ${offered
          .map((spec) => spec.name)
          .join(", ")
          .slice(0, 1_000)}; over time there are ${HISTORY_NAMES}`,
      );
    for (const spec of found) chosen.set(spec.name, spec);
  }
  return [...chosen.values()];
}
