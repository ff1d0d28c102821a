import { Type, type Static } from "@sinclair/typebox";
import { ROLES } from "./column-names.js";
import type { ReadingOptions } from "./reading-options.js";

const closed = { additionalProperties: false } as const;
const Name = Type.String({ minLength: 1, maxLength: 200 });
/** How delimiters and decimal marks are called. */
export const DELIMITER_NAMES = ["comma", "semicolon", "tab", "pipe"] as const;
export const DECIMAL_NAMES = ["point", "comma"] as const;
const Words = Type.Array(Type.String({ minLength: 1, maxLength: 100 }), { minItems: 1, maxItems: 100 });
const ColumnNames = (description: string) =>
  Type.Optional(Type.Array(Name, { minItems: 1, maxItems: 2_000, uniqueItems: true, description }));

/** How a file is to be read, where its looks leave something open: the same on the command line and over HTTP. */
export const READING_FIELDS = {
  columns: Type.Optional(
    Type.Object(Object.fromEntries(ROLES.map((role) => [role, Type.Optional(Type.Union([Name, Type.Null()]))])), {
      ...closed,
      description:
        "Which column of the file has which role, where its name does not say; several are joined by + " +
        "(first+last); null: the file has none",
    }),
  ),
  time_format: Type.Optional(
    Type.String({
      minLength: 1,
      maxLength: 100,
      description:
        "How event times are written: what their numbers count (seconds, minutes, hours, days since the file's " +
        "start; epoch-s, epoch-ms, epoch-us, epoch-ns, epoch-days; excel-days), or a pattern (%d/%m/%Y %H:%M)",
    }),
  ),
  day_first: Type.Optional(
    Type.Boolean({ description: "Of dates such as 3/4/2024: true for 3 April, false for 4 March" }),
  ),
  labels: Type.Optional(
    Type.Object(
      { fraud: Type.Optional(Words), genuine: Type.Optional(Words) },
      {
        ...closed,
        description:
          "Which words of the label column mean fraud, and which genuine, where they are none that are known. Where " +
          "only one is given, every other word is the other one",
      },
    ),
  ),
  keep: ColumnNames("Columns to use that would be left out: what looks like an identifier, or like the label"),
  drop: ColumnNames("Columns to leave out"),
  decimal: Type.Optional(
    Type.Union(
      DECIMAL_NAMES.map((name) => Type.Literal(name)),
      { description: "What separates decimals" },
    ),
  ),
  delimiter: Type.Optional(
    Type.Union(
      DELIMITER_NAMES.map((name) => Type.Literal(name)),
      { description: "What separates cells" },
    ),
  ),
  encoding: Type.Optional(
    Type.String({ minLength: 1, maxLength: 40, description: "Of the file: utf-8, windows-1252, iso-8859-15, ..." }),
  ),
  currency: Type.Optional(
    Type.String({ pattern: "^[A-Z]{3}$", description: "Of transactions that do not name theirs. Default: XXX" }),
  ),
};
export const ReadingRequest = Type.Object(READING_FIELDS, closed);
export type ReadingRequest = Static<typeof ReadingRequest>;

/** Names of the fields, for requests that may not have them. */
export const READING_FIELD_NAMES = Object.keys(READING_FIELDS) as (keyof ReadingRequest)[];

export function toReadingOptions(request: ReadingRequest): ReadingOptions {
  const { columns, time_format, day_first, labels, keep, drop, decimal, delimiter, encoding, currency } = request;
  return {
    ...(columns && { columns }),
    ...(time_format !== undefined && { timeFormat: time_format }),
    ...(day_first !== undefined && { dayFirst: day_first }),
    ...(labels && { labels }),
    ...(keep && { keep }),
    ...(drop && { drop }),
    ...(decimal !== undefined && { decimal: decimal === "comma" ? "," : "." }),
    ...(delimiter !== undefined && { delimiter }),
    ...(encoding !== undefined && { encoding }),
    ...(currency !== undefined && { currency }),
  };
}
