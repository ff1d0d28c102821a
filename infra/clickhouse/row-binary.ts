/** Shorter texts are copied byte by byte: a call into the runtime costs more than the loop. */
const SHORT_TEXT = 48;

/**
 * Rows in ClickHouse's RowBinary format, gathered in one buffer that grows and is reused.
 *
 * A row is written column by column in the order of the INSERT's column list. To take an unfinished row back, set
 * `length` to what it was before.
 */
export class RowBinaryWriter {
  bytes: Buffer;
  length = 0;
  #view: DataView;
  readonly #firstCapacity: number;

  constructor(capacity: number) {
    this.#firstCapacity = capacity;
    this.bytes = Buffer.allocUnsafeSlow(capacity);
    this.#view = viewOf(this.bytes);
  }

  /** The bytes written. They are overwritten after `clear`. */
  written(): Buffer {
    return this.bytes.subarray(0, this.length);
  }

  /** Empties the buffer; releases it if it grew beyond `keep` bytes. */
  clear(keep: number): void {
    this.length = 0;
    if (this.bytes.length > keep) this.#resize(this.#firstCapacity);
  }

  /** Makes room for `count` more bytes, for a caller that then writes to `bytes` directly. */
  reserve(count: number): void {
    if (this.length + count > this.bytes.length) this.#resize(Math.max(this.length + count, this.bytes.length * 2));
  }

  byte(value: number): void {
    this.reserve(1);
    this.bytes[this.length++] = value;
  }

  /** The length of a string, array or map: unsigned LEB128. */
  count(value: number): void {
    this.reserve(8);
    this.#leb128(value);
  }

  int32(value: number): void {
    this.reserve(4);
    this.#view.setInt32(this.length, value, true);
    this.length += 4;
  }

  /** Int64, UInt64 or DateTime64 from a whole number of at most 53 bits. */
  int64(value: number): void {
    this.reserve(8);
    this.#view.setInt32(this.length, (value % 4294967296) | 0, true);
    this.#view.setInt32(this.length + 4, Math.floor(value / 4294967296), true);
    this.length += 8;
  }

  float64(value: number): void {
    this.reserve(8);
    this.#view.setFloat64(this.length, value, true);
    this.length += 8;
  }

  /** A String. */
  text(value: string): void {
    if (value.length <= SHORT_TEXT && this.#shortAscii(value)) return;
    const size = Buffer.byteLength(value);
    this.reserve(size + 5);
    this.#leb128(size);
    this.length += this.bytes.write(value, this.length, "utf8");
  }

  /** A String of raw bytes. */
  blob(source: Buffer, at: number, size: number): void {
    this.reserve(size + 5);
    this.#leb128(size);
    this.raw(source, at, size);
  }

  /** Appends bytes that are RowBinary already. */
  raw(source: Buffer, at: number, size: number): void {
    this.reserve(size);
    const { bytes } = this;
    let to = this.length;
    if (size <= SHORT_TEXT) for (const end = at + size; at < end;) bytes[to++] = source[at++];
    else source.copy(bytes, to, at, at + size);
    this.length += size;
  }

  #shortAscii(value: string): boolean {
    this.reserve(SHORT_TEXT + 1);
    const { bytes, length } = this;
    const size = value.length;
    for (let i = 0; i < size; i++) {
      const unit = value.charCodeAt(i);
      if (unit > 0x7f) return false;
      bytes[length + 1 + i] = unit;
    }
    bytes[length] = size;
    this.length = length + 1 + size;
    return true;
  }

  #leb128(value: number): void {
    while (value >= 0x80) {
      this.bytes[this.length++] = (value % 0x80) | 0x80;
      value = Math.floor(value / 0x80);
    }
    this.bytes[this.length++] = value;
  }

  #resize(capacity: number): void {
    const bytes = Buffer.allocUnsafeSlow(capacity);
    this.bytes.copy(bytes, 0, 0, this.length);
    this.bytes = bytes;
    this.#view = viewOf(bytes);
  }
}

function viewOf(bytes: Buffer): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
