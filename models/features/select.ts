import { RequestError } from "../../schemas/errors.js";
import { columnDefaults } from "./column-defaults.js";
import { specsOf, type Offering } from "./declared-features.js";
import type { FeatureEntry } from "./features-file.js";
import { HISTORY_NAMES, defaultHistory, historyFeature } from "./history-features.js";
import type { FeatureSpec } from "./plan.js";

/**
 * The features that a data set offers: amount, hour, weekend, night, its attributes, what lies between columns that
 * belong together, and, where its cards or merchants are real, what windows say of them. A number or boolean is one
 * feature, missing (NaN) where it is absent; a text is one feature `name=value` for each of its values, 0 where it is
 * absent.
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
  for (const { feature } of columnDefaults(dataset))
    for (const { name, ...spec } of specsOf(dataset, feature, feature.name)) add(name, spec);
  const { hasCards = false, hasMerchants = false } = dataset;
  for (const { name, ...spec } of defaultHistory({ hasCards, hasMerchants })) add(name, spec);
  return specs;
}

/**
 * The features that were asked for: by name (what the data set offers, a text attribute's name for all of its values,
 * any windowed feature), or by what they are made of.
 *
 * @throws RequestError `unknown_feature`
 */
export function featuresNamed(dataset: Offering, entries: readonly FeatureEntry[]): FeatureSpec[] {
  const offered = selectFeatures(dataset);
  const chosen = new Map<string, FeatureSpec>();
  entries.forEach((entry, index) => {
    if (typeof entry === "string") {
      for (const spec of featureNamed(offered, entry)) {
        const other = chosen.get(spec.name);
        if (other !== undefined && JSON.stringify(other.source) !== JSON.stringify(spec.source))
          throw new RequestError(
            "bad_features",
            `features[${index}]: another feature is called ${JSON.stringify(spec.name)}`,
          );
        chosen.set(spec.name, spec);
      }
      return;
    }
    const path = `features[${index}]`;
    for (const spec of specsOf(dataset, entry, path)) {
      if (chosen.has(spec.name))
        throw new RequestError("bad_features", `${path}.name: another feature is called ${JSON.stringify(spec.name)}`);
      chosen.set(spec.name, spec);
    }
  });
  return [...chosen.values()];
}

function featureNamed(offered: readonly FeatureSpec[], name: string): FeatureSpec[] {
  const found = offered.filter((spec) => spec.name === name || ofText(spec) === name);
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
  return found;
}

/** The name that stands for all features of a text's values; null: the feature is of none. */
function ofText({ name, source }: FeatureSpec): string | null {
  if (source.kind === "attribute") return source.equals === undefined ? null : source.attribute;
  return source.kind === "text_part" ? name.slice(0, -source.equals.length - 1) : null;
}
