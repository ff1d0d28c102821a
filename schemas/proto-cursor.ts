import { TransactionRejected } from "./transaction-rejected.js";

/** Wire types of Protocol Buffers. */
export const VARINT = 0,
  FIXED64 = 1,
  BYTES = 2,
  FIXED32 = 5;
/** Those of proto2's groups, which are stepped over. */
const GROUP = 3,
  END_GROUP = 4;

let end = 0;

/** Where the last varint ended. */
export function varintEnd(): number {
  return end;
}

/** A varint, exact to 53 bits. @throws TransactionRejected `protobuf_malformed` */
export function readVarint(bytes: Buffer, at: number, limit: number): number {
  let value = 0;
  for (let scale = 1, count = 0; ; scale *= 128, count++) {
    if (at >= limit || count === 10) throw malformed("a number is cut off or too long");
    const byte = bytes[at++];
    value += (byte & 0x7f) * scale;
    if (byte < 0x80) break;
  }
  end = at;
  return value;
}

function malformed(what: string): TransactionRejected {
  return new TransactionRejected("protobuf_malformed", `the Protocol Buffers value does not fit its schema: ${what}`);
}

/**
 * A field that is looked for: where it goes in what was found, how it is encoded, and whether each of its values is
 * kept.
 */
export interface Slot {
  at: number;
  wireType: number;
  all: boolean;
}

/** Where one value of a message stands: a number's first byte, or the content of what has a length. */
export class ProtoValue {
  readonly bytes: Buffer;
  readonly at: number;
  readonly end: number;
  /** Of a map: the entry before this one. */
  readonly before: ProtoValue | null;

  constructor(bytes: Buffer, at: number, limit: number, before: ProtoValue | null = null) {
    this.bytes = bytes;
    this.at = at;
    this.end = limit;
    this.before = before;
  }

  /** An integer of int32 or int64, exact to 53 bits. */
  integer(): number {
    const value = this.exact();
    return Number(value);
  }

  exact(): bigint {
    let value = 0n;
    for (let at = this.at, shift = 0n; at < this.end; at++, shift += 7n)
      value |= BigInt(this.bytes[at] & 0x7f) << shift;
    return BigInt.asIntN(64, value);
  }

  unsigned(): bigint {
    return BigInt.asUintN(64, this.exact());
  }

  zigzag(): bigint {
    const value = this.unsigned();
    return (value >> 1n) ^ -(value & 1n);
  }

  double(): number {
    return this.bytes.readDoubleLE(this.at);
  }

  float(): number {
    return this.bytes.readFloatLE(this.at);
  }

  fixed32(signed: boolean): bigint {
    return BigInt(signed ? this.bytes.readInt32LE(this.at) : this.bytes.readUInt32LE(this.at));
  }

  fixed64(signed: boolean): bigint {
    return signed ? this.bytes.readBigInt64LE(this.at) : this.bytes.readBigUInt64LE(this.at);
  }

  text(): string {
    return this.bytes.toString("utf8", this.at, this.end);
  }

  /** The value of one field of the message that this is; null: it isn't there, or the message is none. */
  only(field: number, wireType: number): ProtoValue | null {
    try {
      return locateFields(this, new Map([[field, { at: 0, wireType, all: false }]]), 1)[0] ?? null;
    } catch (error) {
      // To those who step over the message the record is fine.
      if (error instanceof TransactionRejected) return null;
      throw error;
    }
  }

  /** The key and value of the map entry that this is. @param wireType of the value */
  entry(wireType: number): { key: string; value: ProtoValue | null } {
    const [key, value] = locateFields(
      this,
      new Map([
        [1, { at: 0, wireType: BYTES, all: false }],
        [2, { at: 1, wireType, all: false }],
      ]),
      2,
    );
    return { key: key?.text() ?? "", value: value ?? null };
  }
}

/**
 * Steps through the message that a value holds and notes where the last value of each wanted field stands.
 *
 * A value in another encoding than its field's is that of an unknown field.
 *
 * @param slots by field number
 * @param count of places in what is returned
 * @throws TransactionRejected `protobuf_malformed`
 */
export function locateFields(
  { bytes, at, end: limit }: ProtoValue,
  slots: ReadonlyMap<number, Slot>,
  count: number,
): (ProtoValue | undefined)[] {
  const found = new Array<ProtoValue | undefined>(count);
  let inGroups = 0;
  while (at < limit) {
    const tag = readVarint(bytes, at, limit);
    at = end;
    const wireType = tag % 8;
    const field = Math.floor(tag / 8);
    if (field === 0) throw malformed("a field has the number 0");
    let from = at;
    let to: number;
    if (wireType === VARINT) {
      readVarint(bytes, at, limit);
      to = end;
    } else if (wireType === FIXED64) to = at + 8;
    else if (wireType === FIXED32) to = at + 4;
    else if (wireType === BYTES) {
      const length = readVarint(bytes, at, limit);
      from = end;
      to = from + length;
    } else if (wireType === GROUP || (wireType === END_GROUP && inGroups > 0)) {
      inGroups += wireType === GROUP ? 1 : -1;
      continue;
    } else throw malformed("a field has an unknown encoding");
    if (to > limit) throw malformed("a field is longer than the value");
    const slot = slots.get(field);
    if (slot?.wireType === wireType && inGroups === 0)
      found[slot.at] = new ProtoValue(bytes, from, to, slot.all ? (found[slot.at] ?? null) : null);
    at = to;
  }
  if (inGroups > 0) throw malformed("a group doesn't end");
  return found;
}
