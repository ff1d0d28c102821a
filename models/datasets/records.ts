import { RequestError } from "../../schemas/errors.js";

/**
 * A packed file that unpacks to more than this many times its size, beyond what tables of zeros do, was made to do
 * harm.
 */
const MOST_UNPACKED = { ratio: 200, from: 64 * 1024 * 1024 };
/** Of files that are limited: each column costs memory before it has a value. */
const MOST_COLUMNS = 2_000;

/** Limits for a file from an untrusted source. */
export interface FileLimits {
  /** Unpacked. */ bytes: number;
  rows: number;
}

export interface ReadOptions {
  /** 0 to 100, by how much of the file was read, and the records so far. */
  onProgress?: (percent: number, records: number) => void;
  limits?: FileLimits;
  signal?: AbortSignal;
}

/** Takes the records of a file. */
export interface RecordSink {
  /** @param cells as many as the header has @param line of a Parquet file, the one that its CSV file would have */
  add(cells: string[], line: number): void;
}

/** @throws RequestError `csv_too_large`, `csv_bomb` */
export function refuseBomb(file: string, unpacked: number, packed: number, { bytes }: FileLimits): void {
  if (unpacked > bytes)
    throw new RequestError("csv_too_large", `${file} holds more than ${bytes} bytes unpacked, the most that are taken`);
  const { ratio, from } = MOST_UNPACKED;
  if (unpacked > from && unpacked > ratio * packed)
    throw new RequestError(
      "csv_bomb",
      `${file} unpacks to more than ${ratio} times its size: it is taken for a compression bomb`,
    );
}

/** @param where the file, and its line @throws RequestError `csv_too_many_rows` */
export function refuseRows(where: string, rows: number, limits: FileLimits | undefined): void {
  if (limits !== undefined && rows > limits.rows)
    throw new RequestError("csv_too_many_rows", `${where}: more than ${limits.rows} rows, the most that are taken`);
}

/** @param where the file, and its line @throws RequestError `csv_too_many_columns` */
export function refuseColumns(where: string, columns: number, limits: FileLimits | undefined): void {
  if (limits !== undefined && columns > MOST_COLUMNS)
    throw new RequestError("csv_too_many_columns", `${where}: ${columns} columns; ${MOST_COLUMNS} are the most`);
}
