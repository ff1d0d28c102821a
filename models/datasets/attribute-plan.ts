import { RequestError } from "../../schemas/errors.js";
import { MOST_CATEGORIES, ONLY_DATES, type AttributeKind } from "./attribute-builder.js";
import { plainName, whyNotAttribute } from "./column-names.js";
import type { ColumnProfile } from "./column-profile.js";
import { findColumn, type RolePlan } from "./columns.js";
import type { DecimalMark } from "./numbers.js";
import type { ReadingOptions } from "./reading-options.js";
import { readingOf } from "./times/time-reading.js";
import { quoted } from "./values.js";

/** What becomes of a column that has no role. */
export type AttributePlan =
  /** `kept`: the user wants it, whatever it looks like. `declared`: features are made of it. */
  | { index: number; name: string; kind: AttributeKind; kept: boolean; declared: boolean }
  | { index: number; name: string; leftOut: string };

/** Texts of few kinds may be codes, some of which are written with digits. */
const FEW_CODES = 20;

/**
 * What becomes of each column that has no role.
 *
 * @param ambiguous what `1,234` means where no other cell tells
 * @throws RequestError `csv_missing_column`, `bad_columns` for a column to keep or drop that isn't one
 */
export function planAttributes(
  file: string,
  columns: readonly ColumnProfile[],
  { roles }: RolePlan,
  { keep = [], drop = [], decimal, operands = [], dayFirst }: ReadingOptions,
  ambiguous: DecimalMark,
): AttributePlan[] {
  const header = columns.map(({ name }) => name);
  const kept = new Set(keep.map((name) => findColumn(file, header, name, "--keep")));
  const dropped = new Set(drop.map((name) => findColumn(file, header, name, "--drop")));
  const taken = new Map(Object.entries(roles).flatMap(([role, indexes]) => indexes.map((index) => [index, role])));
  for (const [option, indexes] of [
    ["--keep", kept],
    ["--drop", dropped],
  ] as const)
    for (const index of indexes) {
      const role = taken.get(index);
      if (role !== undefined)
        throw new RequestError(
          "bad_columns",
          `${file}: ${option} names column ${JSON.stringify(header[index])}, which is the ${role}; ` +
            `--columns ${role}= takes it from there`,
        );
      if (kept.has(index) && dropped.has(index))
        throw new RequestError(
          "bad_columns",
          `${file}: column ${JSON.stringify(header[index])} is both kept and dropped`,
        );
    }
  return columns.flatMap((column, index): AttributePlan[] => {
    if (taken.has(index)) return [];
    const { name } = column;
    if (dropped.has(index)) return [{ index, name, leftOut: "as --drop says" }];
    const why = name === "" ? "it has no name" : kept.has(index) ? null : whyNotAttribute(plainName(name));
    if (why !== null) return [{ index, name, leftOut: why }];
    const isKept = kept.has(index);
    const declared = operands.includes(name);
    const kind =
      column.times.allDates && !isKept
        ? datesOf(file, column, dayFirst)
        : kindOf(column, decimal, ambiguous, { kept: isKept, declared });
    return [typeof kind === "string" ? { index, name, leftOut: kind } : { index, name, kind, kept: isKept, declared }];
  });
}

/** How a column of dates is read, or why it can't be. */
function datesOf(file: string, column: ColumnProfile, dayFirst: boolean | undefined): AttributeKind | string {
  try {
    const { parse } = readingOf(file, column, {
      ...(dayFirst !== undefined && { dayFirst }),
      knownLength: null,
      now: Date.now(),
    });
    return { type: "time", parse };
  } catch (error) {
    if (error instanceof RequestError) return `${ONLY_DATES} (these leave open which number is the day)`;
    throw error;
  }
}

/** How a column is read, or why it is no attribute. */
function kindOf(
  { numbers, times, texts, isEmpty }: ColumnProfile,
  decimal: DecimalMark | undefined,
  ambiguous: DecimalMark,
  { kept, declared }: { kept: boolean; declared: boolean },
): AttributeKind | string {
  if (isEmpty || (numbers.numbers === 0 && numbers.otherCount === 0)) return "empty on every line";
  if (!kept && times.allClocks) return "times of day: only the event time's is used";
  const mark = decimal ?? numbers.mark(ambiguous);
  const mostly = numbers.numbers > numbers.otherCount;
  if (numbers.isNumeric || (kept && mostly))
    return mark === null ? "it mixes decimal points and decimal commas: say --decimal" : { type: "number", mark };
  if (mostly && !kept && !declared && (texts === null || texts.size > FEW_CODES)) {
    const [[text, { line }]] = numbers.others;
    return `neither numbers (line ${line} holds ${quoted(text)}) nor at most ${MOST_CATEGORIES} different texts`;
  }
  return { type: "text" };
}
