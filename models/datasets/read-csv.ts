import { RequestError } from "../../schemas/errors.js";
import { isCurrencyCode } from "../../schemas/currencies.js";
import { FileProfile } from "./column-profile.js";
import { readRecords } from "./csv-records.js";
import type { Dataset } from "./dataset.js";
import { DatasetBuilder } from "./dataset-builder.js";
import { delimiterName } from "./files/dialect.js";
import { BadBytes } from "./files/encoding.js";
import { formatOf, type TableFormat } from "./files/source.js";
import { readParquet } from "./parquet/read-parquet.js";
import { planReading } from "./reading-plan.js";
import type { ReadingOptions } from "./reading-options.js";
import type { ReadOptions, RecordSink } from "./records.js";
import { quoted } from "./values.js";

/** ISO 4217 for "no currency": nothing is claimed that the file doesn't say. */
export const DEFAULT_CURRENCY = "XXX";

export interface CsvOptions extends ReadOptions, ReadingOptions {}

/** Part of the progress that the first reading takes: it looks at each cell in more ways than one. */
const PROFILED = 55;

/**
 * Reads labelled transactions into typed arrays, from a delimited file, plain, gzipped, zipped or by Zstandard, or from
 * a Parquet file, whose values are read as the cells that they would be in a delimited one. It is read twice: first
 * every cell is looked at, to find how the file is written and what its columns hold (reading-plan.ts), then it is read
 * so. `notes` say what was recognised, made up or left out.
 *
 * @throws RequestError one line that names file, line (of Parquet: row) and column; those of `formatOf`,
 *   `readRecords`, `readParquet` and `planReading`, and `csv_bad_value`, `csv_one_class`, `bad_currency`
 */
export async function readCsv(file: string, options: CsvOptions = {}): Promise<Dataset> {
  const currency = options.currency ?? DEFAULT_CURRENCY;
  if (!isCurrencyCode(currency))
    throw new RequestError(
      "bad_currency",
      `the currency is ${quoted(currency)}; it must be three capital letters (ISO 4217)`,
    );
  const format = await formatOf(file, options);
  if (format.parquet === null) return readTable(file, format, options, currency);
  try {
    const dataset = await readTable(file, format, options, currency);
    const { leftOut } = format.parquet;
    dataset.notes = dataset.notes.map(inRowWords);
    dataset.notes.splice(1, 0, ...leftOut.map(({ name, why }) => `left out: column ${JSON.stringify(name)}, ${why}`));
    dataset.columns = [
      ...(dataset.columns ?? []).map((column) => ({ ...column, why: inRowWords(column.why) })),
      ...leftOut.map(({ name, why }) => ({ name, taken_for: "left out", why, examples: [], missing: 0 })),
    ];
    return dataset;
  } catch (error) {
    if (!(error instanceof RequestError)) throw error;
    throw new RequestError(error.code, inRowWords(error.message), { cause: error });
  }
}

/** What is said of the lines of a table, of the rows of a Parquet file, which has no line for its header. */
function inRowWords(text: string): string {
  return text
    .replace(/ line 1\b(?=[:,])| lines 2 to the end\b/g, "")
    .replace(/\bline (\d+)/g, (_, line: string) => `row ${Number(line) - 1}`);
}

async function readTable(file: string, format: TableFormat, options: CsvOptions, currency: string): Promise<Dataset> {
  const profile = await profiled(file, format, options);
  const plan = planReading(file, profile.file, options, profile.format.delimiter, currency);
  const { onProgress } = options;
  const builder = await recordsOf(file, profile.format, () => new DatasetBuilder(file, plan), {
    ...options,
    ...(onProgress && {
      onProgress: (percent, records) => onProgress(PROFILED + (percent * (100 - PROFILED)) / 100, records),
    }),
  });
  const dataset = builder.finish();
  dataset.notes.unshift(...describeFormat(profile.format));
  return dataset;
}

function recordsOf<T extends RecordSink>(
  file: string,
  format: TableFormat,
  start: (header: string[]) => T,
  options: ReadOptions,
): Promise<T> {
  return format.parquet === null
    ? readRecords(file, format, start, options)
    : readParquet(file, format.parquet, start, options);
}

/**
 * Looks at every cell. What is not UTF-8 is read again as Windows-1252, unless letters before it were UTF-8: a file in
 * two encodings is damaged.
 */
async function profiled(
  file: string,
  format: TableFormat,
  options: CsvOptions,
): Promise<{ file: FileProfile; format: TableFormat }> {
  const { onProgress } = options;
  const read = (as: TableFormat): Promise<FileProfile> =>
    recordsOf(file, as, (header) => new FileProfile(header), {
      ...options,
      ...(onProgress && { onProgress: (percent, records) => onProgress((percent * PROFILED) / 100, records) }),
    });
  try {
    return { file: await read(format), format };
  } catch (error) {
    if (!(error instanceof BadBytes)) throw error;
    if (format.encoding !== "utf-8" || error.proven || options.encoding !== undefined)
      throw badEncoding(file, error.line, format.encoding);
    const other: TableFormat = { ...format, encoding: "windows-1252" };
    try {
      return { file: await read(other), format: other };
    } catch (second) {
      if (second instanceof BadBytes) throw badEncoding(file, second.line, "utf-8 or windows-1252");
      throw second;
    }
  }
}

function badEncoding(file: string, line: number, encoding: string): RequestError {
  return new RequestError(
    "csv_bad_encoding",
    `${file} line ${line}: its bytes are no text in ${encoding}: save the file as UTF-8, or name its encoding with ` +
      "--encoding NAME",
  );
}

/** What is not plain UTF-8 with commas. */
function describeFormat({ encoding, delimiter, quote, packing, parquet }: TableFormat): string[] {
  if (parquet !== null) return ["file: Parquet"];
  const notes = [
    ...(encoding === "utf-8"
      ? []
      : [`read as ${encoding === "windows-1252" ? "Windows-1252: it is not UTF-8" : encoding.toUpperCase()}`]),
    ...(delimiter === "," ? [] : [`separated by ${delimiterName(delimiter)}`]),
    ...(quote === "'" ? ["cells in apostrophes"] : []),
    ...(packing.length < 2 ? [] : [`packed ${packing.length} times (${packing.join(", ")})`]),
  ];
  return notes.length === 0 ? [] : [`file: ${notes.join(", ")}`];
}
