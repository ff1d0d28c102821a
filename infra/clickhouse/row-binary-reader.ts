/** The bytes of a value haven't all arrived. A single shared object: its stack would cost more than the value. */
export class NeedMore extends Error {
  override readonly name = "NeedMore";
}
const NEED_MORE = new NeedMore("more bytes are needed");

/** Reads values of ClickHouse's RowBinary format, one after the other, from bytes that arrive in chunks. */
export class RowBinaryReader {
  #bytes: Buffer = Buffer.alloc(0);
  /** Where the next value begins within the buffered bytes; set it to go back to the start of a row. */
  position = 0;

  /** Adds bytes; those before `position` are forgotten. */
  append(bytes: Buffer): void {
    this.#bytes =
      this.position === this.#bytes.length ? bytes : Buffer.concat([this.#bytes.subarray(this.position), bytes]);
    this.position = 0;
  }

  /** Bytes that are buffered but not read yet. */
  get left(): number {
    return this.#bytes.length - this.position;
  }

  /** The next bytes as text, for messages. */
  text(most: number): string {
    return this.#bytes.toString("utf8", this.position, Math.min(this.#bytes.length, this.position + most));
  }

  /** UInt8 or Bool. */
  byte(): number {
    return this.#bytes[this.#take(1)];
  }

  /** Int64 or UInt64 of at most 53 bits. */
  int64(): number {
    const at = this.#take(8);
    return this.#bytes.readInt32LE(at + 4) * 4_294_967_296 + this.#bytes.readUInt32LE(at);
  }

  float64(): number {
    return this.#bytes.readDoubleLE(this.#take(8));
  }

  /** The length of a string, array or map: unsigned LEB128. */
  count(): number {
    let value = 0;
    for (let factor = 1; ; factor *= 128) {
      const byte = this.byte();
      value += (byte & 0x7f) * factor;
      if (byte < 0x80) return value;
    }
  }

  string(): string {
    const length = this.count();
    const at = this.#take(length);
    return this.#bytes.toString("utf8", at, at + length);
  }

  #take(length: number): number {
    const at = this.position;
    if (at + length > this.#bytes.length) throw NEED_MORE;
    this.position = at + length;
    return at;
  }
}
