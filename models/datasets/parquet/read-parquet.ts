import { open, type FileHandle } from "node:fs/promises";
import { setImmediate } from "node:timers/promises";
import { RequestError } from "../../../schemas/errors.js";
import { badParquet } from "../files/source.js";
import { refuseBomb, refuseColumns, refuseRows, type ReadOptions, type RecordSink } from "../records.js";
import { ColumnPages, type Hold } from "./column-pages.js";
import { DamagedParquet } from "./damaged.js";
import type { ParquetFooter, RowGroup } from "./footer.js";

/** Rows that are read before others get their turn. */
const BLOCK_ROWS = 4_096;
/** Of the pages of all columns that are unpacked at a time, whatever wrote the file. */
const MOST_HELD_BYTES = 1024 * 1024 * 1024;

/**
 * Reads the columns of a Parquet file that hold single values, row by row, as cells of text: nulls are empty. What is
 * held of it are a page of each column, and the columns' dictionaries.
 *
 * @param start gets the trimmed names of the columns and returns what takes the records. What either throws ends the
 *   reading
 * @returns what `start` returned
 * @throws RequestError `csv_empty`, `bad_parquet` with the row group and the column, `csv_too_large`, and by `limits`
 *   `csv_bomb`, `csv_too_many_rows`, `csv_too_many_columns`; each names the file
 */
export async function readParquet<T extends RecordSink>(
  file: string,
  footer: ParquetFooter,
  start: (header: string[]) => T,
  options: ReadOptions = {},
): Promise<T> {
  const { limits, signal } = options;
  const { columns, groups } = footer;
  refuseColumns(file, columns.length + footer.leftOut.length, limits);
  refuseRows(file, footer.rows, limits);
  if (footer.rows === 0) throw new RequestError("csv_empty", `${file} holds no rows`);
  const sink = start(columns.map(({ name }) => name.trim()));
  const handle = await open(file);
  try {
    const { size } = await handle.stat();
    // What the file says of itself is refused before a page of it is unpacked.
    if (limits !== undefined) refuseBomb(file, footer.unpackedBytes, size, limits);
    let bytes = 0;
    let rows = 0;
    const add = (cells: string[]): void => {
      for (const cell of cells) bytes += cell.length + 1;
      rows += 1;
      sink.add(cells, rows + 1);
    };
    for (const [index, group] of groups.entries()) {
      const rowGroup = new GroupReader(handle, file, footer, group, index, limits !== undefined);
      try {
        for (let left = group.rows; left > 0;) {
          left -= await rowGroup.read(Math.min(left, BLOCK_ROWS), add);
          if (limits !== undefined) refuseBomb(file, bytes, size, limits);
          options.onProgress?.((100 * rows) / footer.rows, rows);
          await setImmediate();
          signal?.throwIfAborted();
        }
      } finally {
        rowGroup.close();
      }
    }
  } finally {
    await handle.close();
  }
  return sink;
}

/** One row group. */
class GroupReader {
  readonly #pages: readonly ColumnPages[];
  readonly #named: (column: number, error: unknown) => unknown;

  constructor(
    handle: FileHandle,
    file: string,
    { columns }: ParquetFooter,
    group: RowGroup,
    index: number,
    limited: boolean,
  ) {
    const hold = holding(file, limited);
    this.#pages = columns.map((column) => {
      return new ColumnPages(handle, column, group.chunks[column.leaf], group.rows, hold);
    });
    this.#named = (column, error) => {
      // A RangeError is a length or a place that the data doesn't have.
      if (!(error instanceof DamagedParquet || error instanceof RangeError)) return error;
      return badParquet(file, error, `row group ${index + 1}, column ${JSON.stringify(columns[column].name)}: `);
    };
  }

  /** @returns how many rows were added: at most so many, and at least one */
  async read(most: number, add: (cells: string[]) => void): Promise<number> {
    const pages = this.#pages;
    let rows = most;
    for (const [column, page] of pages.entries()) {
      try {
        await page.fill();
      } catch (error) {
        throw this.#named(column, error);
      }
      rows = Math.min(rows, page.ready);
    }
    for (let row = 0; row < rows; row++) add(this.#cells(pages));
    return rows;
  }

  #cells(pages: readonly ColumnPages[]): string[] {
    const cells = new Array<string>(pages.length);
    let column = 0;
    try {
      for (; column < pages.length; column++) cells[column] = pages[column].next();
    } catch (error) {
      throw this.#named(column, error);
    }
    return cells;
  }

  close(): void {
    for (const page of this.#pages) page.close();
  }
}

/** Counts what is unpacked. @param limited whether the file may have been made to do harm */
function holding(file: string, limited: boolean): Hold {
  let held = 0;
  return (bytes, packed) => {
    held += bytes;
    if (held > MOST_HELD_BYTES)
      throw new RequestError(
        "csv_too_large",
        `${file}: the pages of its columns hold more than ${MOST_HELD_BYTES} bytes at a time, the most that are ` +
          "taken: write it with smaller pages",
      );
    if (limited && packed !== undefined) refuseBomb(file, bytes, packed, { bytes: MOST_HELD_BYTES, rows: 0 });
  };
}
