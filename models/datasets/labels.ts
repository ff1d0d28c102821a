import { RequestError } from "../../schemas/errors.js";
import type { ColumnProfile } from "./column-profile.js";
import { isMissingMarker, parseNumber, quoted } from "./values.js";

/** Which words of the label column mean what, as the user says. */
export interface LabelWords {
  fraud?: readonly string[];
  genuine?: readonly string[];
}

/** What a word of the label column means: fraud (1), genuine (0), or nothing (null). */
export type LabelMeanings = (text: string) => number | null | undefined;

const FRAUD = words(
  "1 true t yes y fraud fraudulent fraudster frauds is_fraud confirmed_fraud suspected_fraud chargeback charged_back " +
    "chargebacked cb disputed illicit bad scam stolen unauthorized unauthorised positive pos anomaly attack " +
    "malicious criminal theft",
);
const GENUINE = words(
  "0 false f no n legit legitimate genuine not_fraud non_fraud nonfraud notfraud no_fraud nofraud not_fraudulent " +
    "non_fraudulent valid normal licit good clean ok okay authorized authorised negative neg benign honest regular " +
    "no_chargeback not_chargeback safe settled",
);
const NONE = words("pending unlabeled unlabelled open undecided tbd in_review under_review review not_labeled");

function words(text: string): ReadonlySet<string> {
  return new Set(text.split(/\s+/));
}

/** `Not Fraud`, `non-fraud` and `not_fraud` are one word. */
function normal(text: string): string {
  return text
    .trim()
    .toLowerCase()
    .replace(/[\s_-]+/g, "_")
    .replace(/[.!]+$/, "");
}

/** Reads `fraud=chargeback,genuine=ok`; each may be named more than once. @throws RequestError `bad_labels` */
export function parseLabelWords(texts: readonly string[]): LabelWords {
  const fraud: string[] = [];
  const genuine: string[] = [];
  for (const part of texts.flatMap((text) => text.split(","))) {
    const equals = part.indexOf("=");
    const kind = part.slice(0, Math.max(equals, 0)).trim();
    if (kind !== "fraud" && kind !== "genuine")
      throw new RequestError(
        "bad_labels",
        `--labels ${JSON.stringify(part)}: it must be fraud=WORD or genuine=WORD, such as --labels fraud=cb,genuine=ok`,
      );
    (kind === "fraud" ? fraud : genuine).push(part.slice(equals + 1).trim());
  }
  return { ...(fraud.length > 0 && { fraud }), ...(genuine.length > 0 && { genuine }) };
}

/**
 * What the words of a label column mean. Where the user names only those of fraud, every other word is genuine; where
 * only those of genuine, every other one is fraud; an empty cell is no label.
 *
 * @param file for messages
 * @throws RequestError `csv_bad_value` with the first word that means neither, `bad_labels`
 */
export function labelMeanings(file: string, { name, texts }: ColumnProfile, given: LabelWords): LabelMeanings {
  const { fraud, genuine } = given;
  const stated = new Map<string, number>();
  for (const [list, value] of [
    [fraud ?? [], 1],
    [genuine ?? [], 0],
  ] as const)
    for (const word of list) {
      if (stated.get(normal(word)) === 1 - value)
        throw new RequestError("bad_labels", `--labels: ${quoted(word)} cannot be both fraud and genuine`);
      stated.set(normal(word), value);
    }
  const other = fraud === undefined ? (genuine === undefined ? undefined : 1) : genuine === undefined ? 0 : undefined;
  const meaning = (text: string): number | null | undefined => {
    const word = normal(text);
    const said = stated.get(word);
    if (said !== undefined) return said;
    if (word === "" || isMissingMarker(text) || NONE.has(word)) return null;
    return other ?? known(word);
  };
  if (texts !== null)
    for (const [text, { line }] of texts)
      if (meaning(text) === undefined) throw badLabel(file, name, line, text, [...texts.keys()]);
  const meanings = new Map<string, number | null | undefined>();
  return (text) => {
    let found = meanings.get(text);
    if (found === undefined && !meanings.has(text) && meanings.size < 1_000)
      meanings.set(text, (found = meaning(text)));
    return found;
  };
}

/** @param others what else the column holds, for the hint */
export function badLabel(
  file: string,
  column: string,
  line: number,
  text: string,
  others: readonly string[] = [],
): RequestError {
  const list = others
    .filter((word) => word !== "")
    .slice(0, 6)
    .map(quoted)
    .join(", ");
  return new RequestError(
    "csv_bad_value",
    `${file} line ${line}, column ${JSON.stringify(column)}: ${quoted(text)} is not a label (0 or 1, true or false, ` +
      `fraud or genuine): say which words are which with --labels fraud=WORD,genuine=WORD` +
      (others.length > 1 ? `; the column holds ${list}` : ""),
  );
}

function known(word: string): number | undefined {
  if (FRAUD.has(word)) return 1;
  if (GENUINE.has(word)) return 0;
  // 1.0, 0.000
  const number = parseNumber(word);
  return number === 1 ? 1 : number === 0 ? 0 : undefined;
}
