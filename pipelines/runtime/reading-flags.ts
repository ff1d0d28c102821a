import { Option, type Command } from "commander";
import { parseColumnOverrides } from "../../models/datasets/columns.js";
import { parseLabelWords } from "../../models/datasets/labels.js";
import { DECIMAL_NAMES, DELIMITER_NAMES, type ReadingRequest } from "../../models/datasets/reading-request.js";

/** Options of a command that say how to read a file. */
export interface ReadingFlags {
  columns?: string[];
  timeFormat?: string;
  dayFirst?: boolean;
  labels?: string[];
  keep?: string[];
  drop?: string[];
  decimal?: (typeof DECIMAL_NAMES)[number];
  delimiter?: (typeof DELIMITER_NAMES)[number];
  encoding?: string;
}

const collect = (value: string, before: string[] = []): string[] => [...before, value];

/** Names that an option lists, one after the other or separated by commas. */
export function names(value: string, before: string[] = []): string[] {
  return [
    ...before,
    ...value
      .split(",")
      .map((name) => name.trim())
      .filter((name) => name !== ""),
  ];
}

/** Adds to a command the options that say how to read a file whose content leaves it open. */
export function addReadingFlags(command: Command): Command {
  return command
    .option(
      "--columns <role=column,...>",
      "which column is what, where names don't tell: transaction_id, event_time, card_id, merchant_id, amount, " +
        "currency, label; several columns joined by +",
      collect,
    )
    .option(
      "--time-format <format>",
      "how times are written: what numbers count (seconds, minutes, hours, days; epoch-s, epoch-ms, ...; excel-days) " +
        "or a pattern such as %d/%m/%Y %H:%M",
    )
    .option("--day-first", "dates such as 3/4/2024 have the day first")
    .option("--no-day-first", "dates such as 3/4/2024 have the month first")
    .option(
      "--labels <fraud=word,genuine=word,...>",
      "which words of the label column mean what, where they are none that are known",
      collect,
    )
    .option("--keep <name,...>", "columns to use that would be left out", names)
    .option("--drop <name,...>", "columns to leave out", names)
    .addOption(new Option("--decimal <mark>", "what separates decimals").choices(DECIMAL_NAMES))
    .addOption(new Option("--delimiter <name>", "what separates cells").choices(DELIMITER_NAMES))
    .option("--encoding <name>", "of the file, such as utf-8 or windows-1252");
}

/**
 * What the options say, in the form of a training request.
 *
 * @throws RequestError `bad_columns`, `bad_labels`
 */
export function readingRequestOf(flags: ReadingFlags): ReadingRequest {
  const { columns, timeFormat, dayFirst, labels, keep, drop, decimal, delimiter, encoding } = flags;
  const { fraud, genuine } = labels === undefined ? {} : parseLabelWords(labels);
  return {
    ...(columns && { columns: parseColumnOverrides(columns) }),
    ...(timeFormat !== undefined && { time_format: timeFormat }),
    ...(dayFirst !== undefined && { day_first: dayFirst }),
    ...(labels && { labels: { ...(fraud && { fraud: [...fraud] }), ...(genuine && { genuine: [...genuine] }) } }),
    ...(keep && { keep: [...new Set(keep)] }),
    ...(drop && { drop: [...new Set(drop)] }),
    ...(decimal !== undefined && { decimal }),
    ...(delimiter !== undefined && { delimiter }),
    ...(encoding !== undefined && { encoding }),
  };
}
