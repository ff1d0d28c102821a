import { MOST_CATEGORIES } from "../datasets/attribute-builder.js";
import { plainName } from "../datasets/column-names.js";
import type { OperandColumn } from "../datasets/dataset.js";
import { whyIdentifier } from "../datasets/identifiers.js";
import { operandOf } from "./column-sources.js";
import { addressesOf, type Offering } from "./declared-features.js";
import type { DeclaredFeature } from "./features-file.js";
import { partCodes } from "./text-parts.js";

/** Names (as `plainName` makes them) of columns that belong together, and the feature that lies between them. */
interface Pair {
  columns: readonly (readonly string[])[];
  /** @param operands of the columns, in their order */
  feature: (operands: readonly string[]) => DeclaredFeature;
  /** For people, of the columns' names. */
  formula: (names: readonly string[]) => string;
}

const PAIRS: readonly Pair[] = [
  {
    // PaySim's, as it spells them, and evenly.
    columns: [
      ["oldbalanceorg", "oldbalanceorig"],
      ["newbalanceorig", "newbalanceorg"],
    ],
    feature: ([old, now]) => ({
      name: "balance_error_orig",
      kind: "sum_error",
      total: old,
      plus: [now, "amount"],
    }),
    formula: ([old, now]) => `${now} + amount - ${old}`,
  },
  {
    columns: [["oldbalancedest"], ["newbalancedest"]],
    feature: ([old, now]) => ({ name: "balance_error_dest", kind: "sum_error", total: now, plus: [old, "amount"] }),
    formula: ([old, now]) => `${old} + amount - ${now}`,
  },
  {
    columns: [
      ["lat", "latitude", "cardlat", "customerlat", "userlat", "homelat"],
      ["long", "lon", "lng", "longitude", "cardlong", "customerlong", "userlong", "homelong"],
      ["merchlat", "merchantlat", "merchantlatitude", "storelat", "terminallat"],
      ["merchlong", "merchlon", "merchantlong", "merchantlon", "merchantlng", "merchantlongitude", "storelong"],
    ],
    feature: ([lat, lon, toLat, toLon]) => ({
      name: "distance_km",
      kind: "distance",
      from: [lat, lon],
      to: [toLat, toLon],
    }),
    formula: ([lat, lon, toLat, toLon]) => `kilometres from ${lat}, ${lon} to ${toLat}, ${toLon}`,
  },
];
/** Names of birth dates. */
const BIRTH = ["dob", "dateofbirth", "birthdate", "birthday", "customerdob", "birthdt"];

const PAIRED: ReadonlySet<string> = new Set(PAIRS.flatMap(({ columns }) => columns.flat()));

/** Whether features are made of a column of this name, whatever it holds. */
export function isPaired(name: string): boolean {
  return PAIRED.has(plainName(name));
}

/** A default feature from columns, and what it is in words. */
export interface ColumnDefault {
  feature: DeclaredFeature;
  words: string;
}

/** The features from columns that a data set has by default: where it has pairs that are plainly recognised. */
export function columnDefaults(dataset: Offering): ColumnDefault[] {
  const all = new Map<string, OperandColumn>([...dataset.attributes, ...(dataset.operands ?? [])]);
  const found: ColumnDefault[] = [];
  const add = (feature: DeclaredFeature, words: string): void => void found.push({ feature, words });
  for (const { columns, feature, formula } of PAIRS) {
    const names = columns.map((choices) => named(all, choices, ({ type }) => type === "number"));
    if (names.every((name) => name !== undefined)) add(feature(names.map(operandOf)), formula(names));
  }
  const born = named(dataset.operands ?? new Map(), BIRTH, ({ type }) => type === "time" || type === "text");
  if (born !== undefined) add({ name: "age_years", kind: "age", since: operandOf(born) }, `years since ${born}`);
  for (const [name, column] of dataset.operands ?? []) {
    const part = addressesOf(column);
    if (part === null || column.type !== "text" || !isCategory(dataset, name, column, part)) continue;
    const words = part === "email_domain" ? "domain" : "/24";
    add({ name: `${name} ${words}`, kind: "text_part", of: operandOf(name), part }, `the ${words} of ${name}`);
  }
  return found;
}

function named(
  columns: ReadonlyMap<string, OperandColumn>,
  choices: readonly string[],
  fits: (column: OperandColumn) => boolean,
): string | undefined {
  const names = [...columns].filter(([, column]) => fits(column)).map(([name]) => name);
  return choices.map((choice) => names.find((name) => plainName(name) === choice)).find((name) => name !== undefined);
}

/** Whether a text's part has few enough values, that come again. */
function isCategory(
  { cardId = [], hasCards = false }: Offering,
  name: string,
  column: OperandColumn & { type: "text" },
  part: "email_domain" | "ipv4_24",
): boolean {
  const { codes, parts } = partCodes(column.categories, part);
  if (parts.length === 0 || parts.length > MOST_CATEGORIES) return false;
  const ofRows = column.codes.map((code) => (code < 0 ? -1 : codes[code]));
  return (
    whyIdentifier(name, { type: "text", codes: ofRows, categories: parts }, { cardId, hasCards, order: null }) === null
  );
}
