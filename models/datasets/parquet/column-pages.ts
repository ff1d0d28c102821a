import type { FileHandle } from "node:fs/promises";
import { cellText, type Raw, type Values } from "./cell-text.js";
import { DamagedParquet } from "./damaged.js";
import { ENCODING, hybrid, plainValues, valuesOf, withLength } from "./encodings.js";
import { exactBytes, type ColumnChunk, type ParquetColumn } from "./footer.js";
import { numberIn, readStruct, sizeIn, structIn, type Struct } from "./thrift.js";
import { unpackPage } from "./unpack-page.js";

/**
 * Holds so many bytes more, or fewer, from now on: to be called before a page is unpacked.
 *
 * @param packed what they are in the file
 * @throws RequestError where they are too many
 */
export type Hold = (bytes: number, packed?: number) => void;

/** The cells of some rows of a column. */
interface Page {
  rows: number;
  cell: (row: number) => string;
  held: number;
}

interface Dictionary {
  count: number;
  text: (index: number) => string;
}

const PAGE = { data: 0, index: 1, dictionary: 2, dataV2: 3 } as const;
const WINDOW_BYTES = 64 * 1024;
const MOST_HEADER = 16 * 1024 * 1024;
/** Of one page: without a limit on rows, a few bytes could stand for billions of nulls. */
const MOST_ROWS = 2 ** 25;

/** Reads the cells of a column in one row group, a page at a time. */
export class ColumnPages {
  readonly #handle: FileHandle;
  readonly #column: ParquetColumn;
  readonly #chunk: ColumnChunk;
  readonly #hold: Hold;
  readonly #toText: (value: Raw) => string;
  /** What of the file was read, from `#at` on. */
  #window: Buffer = Buffer.alloc(0);
  #at: number;
  #rowsLeft: number;
  #dictionary: Dictionary | null = null;
  #dictionaryHeld = 0;
  #page: Page = { rows: 0, cell: () => "", held: 0 };
  #row = 0;

  constructor(handle: FileHandle, column: ParquetColumn, chunk: ColumnChunk, rows: number, hold: Hold) {
    this.#handle = handle;
    this.#column = column;
    this.#chunk = chunk;
    this.#hold = hold;
    this.#toText = cellText(column.kind);
    this.#at = chunk.start;
    this.#rowsLeft = rows;
  }

  /** Rows whose cells are there. */
  get ready(): number {
    return this.#page.rows - this.#row;
  }

  next(): string {
    return this.#page.cell(this.#row++);
  }

  /** Reads pages until one has cells. @throws DamagedParquet */
  async fill(): Promise<void> {
    while (this.ready === 0) {
      this.#let(this.#page);
      await this.#readPage();
    }
  }

  close(): void {
    this.#let(this.#page);
    this.#hold(-this.#dictionaryHeld);
    this.#dictionaryHeld = 0;
  }

  #let({ held }: Page): void {
    this.#hold(-held);
    this.#page = { rows: 0, cell: () => "", held: 0 };
    this.#row = 0;
  }

  async #readPage(): Promise<void> {
    if (this.#at >= this.#chunk.end) throw new DamagedParquet(`its pages lack ${this.#rowsLeft} rows`);
    const header = await this.#header();
    const kind = sizeIn(header, 1, "the kind of a page");
    const unpacked = sizeIn(header, 2, "the size of a page");
    const packed = sizeIn(header, 3, "the size of a page");
    if (packed > this.#chunk.end - this.#at) throw new DamagedParquet("a page ends behind its column");
    if (kind !== PAGE.data && kind !== PAGE.dataV2 && kind !== PAGE.dictionary) {
      this.#skip(packed);
      return;
    }
    this.#hold(unpacked, packed);
    const bytes = await this.#take(packed);
    if (kind === PAGE.dictionary) this.#readDictionary(structIn(header, 7), unpackPage(bytes, unpacked, this.#codec));
    else if (kind === PAGE.data) this.#readData(structIn(header, 5), unpackPage(bytes, unpacked, this.#codec));
    else this.#readDataV2(structIn(header, 8), bytes, unpacked);
    if (kind === PAGE.dictionary) this.#dictionaryHeld += unpacked;
    else this.#page.held += unpacked;
  }

  get #codec(): number {
    return this.#chunk.codec;
  }

  #readDictionary(header: Struct | null, bytes: Buffer): void {
    const count = header === null ? 0 : sizeIn(header, 1, "the number of values of its dictionary");
    const values = plainValues(bytes, count, this.#column);
    const texts = new Array<string | undefined>(count);
    this.#dictionary = { count, text: (index) => (texts[index] ??= this.#toText(values(index))) };
  }

  #readData(header: Struct | null, bytes: Buffer): void {
    if (header === null) throw new DamagedParquet("a page has no head");
    const rows = this.#rowsOf(header);
    let body = bytes;
    let levels: Buffer | null = null;
    if (this.#column.optional) {
      if (numberIn(header, 3) !== ENCODING.rle)
        throw new DamagedParquet("its nulls are written in a way that is not read");
      levels = withLength(bytes);
      body = bytes.subarray(4 + levels.length);
    }
    this.#setPage(rows, levels, sizeIn(header, 2, "the encoding of a page"), body);
  }

  #readDataV2(header: Struct | null, bytes: Buffer, unpacked: number): void {
    if (header === null) throw new DamagedParquet("a page has no head");
    const rows = this.#rowsOf(header);
    const before = sizeIn(header, 6, "the size of a page's levels");
    const length = sizeIn(header, 5, "the size of a page's levels");
    if (before + length > Math.min(bytes.length, unpacked)) throw new DamagedParquet("a page is too short");
    const levels = this.#column.optional ? bytes.subarray(before, before + length) : null;
    const packed = bytes.subarray(before + length);
    const codec = header.get(7) === false ? 0 : this.#codec;
    const body = unpackPage(packed, unpacked - before - length, codec);
    this.#setPage(rows, levels, sizeIn(header, 4, "the encoding of a page"), body);
  }

  #rowsOf(header: Struct): number {
    const rows = sizeIn(header, 1, "the number of values of a page");
    if (rows > this.#rowsLeft || rows > MOST_ROWS)
      throw new DamagedParquet(`a page has ${rows} values, where ${this.#rowsLeft} rows are left`);
    return rows;
  }

  #setPage(rows: number, levels: Buffer | null, encoding: number, body: Buffer): void {
    // One bit each: whether there is a value.
    const defined = levels === null ? null : hybrid(levels, 1, rows);
    const count = defined === null ? rows : defined.reduce((sum, bit) => sum + bit, 0);
    const text = this.#texts(encoding, body, count);
    const held = 4 * rows;
    this.#hold(held);
    let value = 0;
    this.#page = {
      rows,
      held,
      cell: defined === null ? text : (row) => (defined[row] === 1 ? text(value++) : ""),
    };
    this.#row = 0;
    this.#rowsLeft -= rows;
  }

  #texts(encoding: number, body: Buffer, count: number): (index: number) => string {
    if (encoding === ENCODING.plainDictionary || encoding === ENCODING.rleDictionary) {
      const dictionary = this.#dictionary;
      if (dictionary === null) throw new DamagedParquet("a page needs a dictionary, and there is none");
      const indexes = count === 0 ? new Uint32Array(0) : hybrid(body.subarray(1), body[0] ?? 33, count);
      if (indexes.some((index) => index >= dictionary.count))
        throw new DamagedParquet("a value is not in its dictionary");
      return (index) => dictionary.text(indexes[index]);
    }
    if (count === 0) return () => "";
    const values: Values = valuesOf(encoding, body, count, this.#column);
    return (index) => this.#toText(values(index));
  }

  async #header(): Promise<Struct> {
    for (let bytes = WINDOW_BYTES; ; bytes *= 4) {
      const most = Math.min(bytes, this.#chunk.end - this.#at);
      const read = readStruct(await this.#peek(most));
      if (read !== null) {
        this.#skip(read.end);
        return read.struct;
      }
      if (most < bytes || bytes > MOST_HEADER) throw new DamagedParquet("the head of a page is damaged");
    }
  }

  /** So many bytes at least, where the column has as many. */
  async #peek(bytes: number): Promise<Buffer> {
    if (this.#window.length < bytes) {
      const wanted = Math.min(Math.max(bytes, WINDOW_BYTES), this.#chunk.end - this.#at);
      this.#window = await exactBytes(this.#handle, this.#at, wanted);
    }
    return this.#window;
  }

  async #take(bytes: number): Promise<Buffer> {
    // What is behind a large page isn't kept with it.
    const taken = (await this.#peek(bytes)).subarray(0, bytes);
    this.#skip(bytes);
    return taken;
  }

  #skip(bytes: number): void {
    this.#window = this.#window.subarray(Math.min(bytes, this.#window.length));
    this.#at += bytes;
  }
}
