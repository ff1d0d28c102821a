/** Reads RowBinary back, independently of how the sink writes it. */
export class RowBinaryReader {
  #at = 0;
  readonly #bytes: Buffer;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  get done(): boolean {
    return this.#at === this.#bytes.length;
  }

  count(): number {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = BigInt(this.#bytes[this.#at++]);
      value |= (byte & 0x7fn) << shift;
      if (byte < 0x80n) return Number(value);
    }
  }

  text(): string {
    const size = this.count();
    this.#at += size;
    return this.#bytes.toString("utf8", this.#at - size, this.#at);
  }

  byte(): number {
    return this.#bytes[this.#at++];
  }

  int32(): number {
    return this.#bytes.readInt32LE((this.#at += 4) - 4);
  }

  int64(): bigint {
    return this.#bytes.readBigInt64LE((this.#at += 8) - 8);
  }

  float32(): number {
    return this.#bytes.readFloatLE((this.#at += 4) - 4);
  }

  float64(): number {
    return this.#bytes.readDoubleLE((this.#at += 8) - 8);
  }

  list<T>(item: () => T): T[] {
    return Array.from({ length: this.count() }, item);
  }
}
