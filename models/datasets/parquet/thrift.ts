import { DamagedParquet } from "./damaged.js";

/** A struct of Thrift's compact protocol: its fields by their ids. */
export type Struct = ReadonlyMap<number, Value>;
type Value = number | boolean | Buffer | readonly Value[] | Struct;

const TYPE = { true: 1, false: 2, byte: 3, double: 7, binary: 8, list: 9, set: 10, struct: 12 } as const;
const MOST_DEPTH = 32;
/** Each takes memory, however few bytes it is written in. */
const MOST_VALUES = 4_000_000;

/**
 * Reads one struct.
 *
 * @returns it, and where the bytes behind it begin; null: the bytes end within it
 * @throws DamagedParquet
 */
export function readStruct(bytes: Buffer): { struct: Struct; end: number } | null {
  const reader = new Reader(bytes);
  try {
    return { struct: reader.struct(0), end: reader.at };
  } catch (error) {
    if (error instanceof TooShort) return null;
    throw error;
  }
}

class TooShort extends Error {}

/** No length or count that the bytes state is believed before there are as many bytes. */
class Reader {
  readonly #bytes: Buffer;
  #values = 0;
  at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  struct(depth: number): Struct {
    if (depth > MOST_DEPTH) throw new DamagedParquet("its structs are nested too deep");
    const fields = new Map<number, Value>();
    let id = 0;
    for (let head = this.#byte(); head !== 0; head = this.#byte()) {
      const delta = head >> 4;
      id = delta === 0 ? this.#zigzag() : id + delta;
      const type = head & 0x0f;
      fields.set(id, type === TYPE.true || type === TYPE.false ? type === TYPE.true : this.#value(type, depth));
    }
    return fields;
  }

  #value(type: number, depth: number): Value {
    if ((this.#values += 1) > MOST_VALUES) throw new DamagedParquet(`it has over ${MOST_VALUES} values of metadata`);
    if (type === TYPE.true || type === TYPE.false || type === TYPE.byte) return (this.#byte() << 24) >> 24;
    if (type > TYPE.byte && type < TYPE.double) return this.#zigzag();
    if (type === TYPE.double) return this.#take(8).readDoubleLE();
    if (type === TYPE.binary) return this.#take(this.#varint());
    if (type === TYPE.list || type === TYPE.set) return this.#list(depth);
    if (type === TYPE.struct) return this.struct(depth + 1);
    throw new DamagedParquet(`its metadata holds a value of the unknown kind ${type}`);
  }

  #list(depth: number): Value[] {
    if (depth > MOST_DEPTH) throw new DamagedParquet("its lists are nested too deep");
    const head = this.#byte();
    const count = head >> 4 === 15 ? this.#varint() : head >> 4;
    const values: Value[] = [];
    for (let i = 0; i < count; i++) values.push(this.#value(head & 0x0f, depth + 1));
    return values;
  }

  #byte(): number {
    if (this.at >= this.#bytes.length) throw new TooShort();
    return this.#bytes[this.at++];
  }

  #take(length: number): Buffer {
    if (length > this.#bytes.length - this.at) throw new TooShort();
    return this.#bytes.subarray(this.at, (this.at += length));
  }

  /** Of 64 bits at most; beyond 2^53, where no size or place is, its last digits are lost. */
  #varint(): number {
    let value = 0;
    for (let shift = 0; shift < 70; shift += 7) {
      const byte = this.#byte();
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) return value;
    }
    throw new DamagedParquet("a number in its metadata has over 64 bits");
  }

  #zigzag(): number {
    const value = this.#varint();
    return value % 2 === 0 ? value / 2 : -(value + 1) / 2;
  }
}

/** A field that is a number; null: there is none. */
export function numberIn(struct: Struct, id: number): number | null {
  const value = struct.get(id);
  return typeof value === "number" ? value : null;
}

export function textIn(struct: Struct, id: number): string | null {
  const value = struct.get(id);
  return Buffer.isBuffer(value) ? value.toString("utf8") : null;
}

export function structIn(struct: Struct, id: number): Struct | null {
  const value = struct.get(id);
  return value instanceof Map ? value : null;
}

/** Those elements of a list that are structs. */
export function structsIn(struct: Struct, id: number): readonly Struct[] {
  const value = struct.get(id);
  return Array.isArray(value) ? value.filter((element): element is Struct => element instanceof Map) : [];
}

/** Of a size, a count or a place. @throws DamagedParquet where there is none, or a negative one */
export function sizeIn(struct: Struct, id: number, what: string): number {
  const value = numberIn(struct, id);
  if (value === null || value < 0 || !Number.isSafeInteger(value))
    throw new DamagedParquet(`${what} is ${value ?? "not told"}`);
  return value;
}
